# SPDX-License-Identifier: Apache-2.0
"""A packed model as the hub's tests need it: every kind of file, weights without numbers."""

import io
import pickle
import random
import zipfile
from pathlib import Path

import yaml

from espnet_objsoup import __version__
from espnet_objsoup.zoo.meta import Meta

WEIGHTS = "exp/tiny/valid.loss.ave.pth"
CONFIG = "exp/tiny/config.yaml"
BPE = "data/token_list/bpe/bpe.model"
STATISTICS = "exp/stats/train/feats_stats.npz"
CARD = "---\nlanguage:\n- en\n- fr\nlicense: cc-by-4.0\ntags:\n- espnet\n---\n# Tiny\n"
# Files that the hub keeps outside Git.
LARGE = (WEIGHTS, BPE, STATISTICS)


def weights(seed: int, size_bytes: int = 50_000) -> bytes:
    """What torch.save writes for no tensors, with content that differs by its seed."""
    return torch_archive(pickle.dumps({}, protocol=2), random.Random(seed).randbytes(size_bytes))


def torch_archive(pickled: bytes, storage: bytes = b"") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), pickled)
        archive.writestr(zipfile.ZipInfo("archive/data/0"), storage)
    return content.getvalue()


def model_files(seed: int = 0, card: str = CARD) -> dict[str, bytes]:
    """Paths and contents of a packed model; models of two seeds have other weights."""
    config = {
        "objectives": ["asr/en", "asr/fr", "st/fr-en"],
        "bpemodel": BPE,
        "normalize_conf": {"stats_file": STATISTICS},
        "token_list": ["a"],
    }
    facts = {
        "format": 1,
        "version": __version__,
        "name": "tiny",
        "objectives": ["asr/en", "asr/fr", "st/fr-en"],
        "sample_rate_hz": 16000,
        "recipe": "mini_objsoup",
        "hf_repo": "ada/tiny",
    }
    meta = Meta(
        {"objsoup_model_file": WEIGHTS},
        {"objsoup_train_config": CONFIG},
        timestamp=1.0,
        torch="2.14.1",
        espnet="202611",
        facts=facts,
    )
    return {
        "meta.yaml": meta.dump(),
        "README.md": card.encode(),
        CONFIG: yaml.safe_dump(config).encode(),
        WEIGHTS: weights(seed),
        BPE: b"pieces " + bytes([seed]) * 2000,
        STATISTICS: b"numbers " + bytes([seed]) * 3000,
        "exp/tiny/images/loss.png": b"\x89PNG " + bytes(100),
        "exp/tiny/RESULTS.md": b"# RESULTS\n",
    }


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path
