# SPDX-License-Identifier: Apache-2.0
"""Experiments and archives without a model in them: what packing and unpacking look at."""

import json
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

import espnet_objsoup
from espnet_objsoup.zoo.archive import unpack
from espnet_objsoup.zoo.errors import ModelError
from espnet_objsoup.zoo.meta import Meta

TAG = "objsoup_train_raw_bpe_unigram4"
OBJECTIVES = ["asr/en", "asr/fr", "st/fr-en"]
CONFIG: dict[str, Any] = {
    "config": "conf/train.yaml",
    "output_dir": f"exp/{TAG}",
    "wandb_entity": "somebody",
    "optim_conf": {"lr": 0.1},
    "max_epoch": 3,
    "seed": 7,
    "train_shape_file": ["exp/stats/train/speech_shape"],
    "train_data_path_and_name_and_type": [
        ["dump/raw/train/wav.scp", "speech", "sound"],
        ["dump/raw/train/text", "text", "text"],
    ],
    "objectives": OBJECTIVES,
    "token_list": ["<blank>", "<unk>", "<en>", "<fr>", "a/b", "exp", "<sos/eos>"],
    "token_type": "bpe",
    "bpemodel": "data/token_list/bpe_unigram4/bpe.model",
    "frontend": "default",
    "frontend_conf": {"fs": "16k"},
    "normalize": "global_mvn",
    "normalize_conf": {"stats_file": "exp/stats/train/feats_stats.npz"},
    "encoder": "e_branchformer",
    "encoder_conf": {"output_size": 16},
    "model_conf": {"asr_ctc_weight": 0.3},
    "trainer": "objsoup",
    "trainer_conf": {"recipe": "bilevel", "order": "as"},
    "version": "202611",
}
RESULTS = f"""# RESULTS

- command: `./run.sh --python /opt/me/bin/python --librispeech /data/ours/speech --tag x`

## {TAG}

Model `valid.loss.ave.pth`, decoded as `decode_decode_valid.loss.ave`.
"""
OPTIONS = {"beam_size": 3, "ctc_weight": 0.5, "nbest": 1, "ctc_greedy": True}
SCORES = {
    "test": {
        "asr/en": {"wer": 10.0, "cer": 3.0, "measure": "wer", "sentences": 2},
        "asr/fr": {"wer": 30.0, "cer": 5.0, "measure": "wer", "sentences": 2},
        "asr/mean": {"wer": 20.0, "cer": 4.0, "error_rate": 20.0},
        "asr_ctc/en": {"wer": 11.0, "cer": 3.5, "measure": "wer", "sentences": 2},
        "st/fr-en": {"bleu": 41.26, "bleu_lc": 42.0, "chrf": 60.0, "sentences": 2},
        "st/mean": {"bleu": 41.26, "bleu_lc": 42.0, "chrf": 60.0},
    }
}
REFRESH = {
    "kind": "refresh", "step": 40, "epoch": 3,
    "soup_weight/asr/en": 0.25, "soup_weight/asr/fr": 0.75, "soup_weight/st/fr-en": 1.0,
    "soup_level_coefficient/1": 1.0, "soup_level_coefficient/2": 0.14,
}  # fmt: skip


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def save_weights(path: Path, state: Any = None) -> Path:
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"w": torch.arange(6.0).reshape(2, 3)} if state is None else state, path)
    return path


def make_recipe(root: Path, **changes: Any) -> Path:
    """A recipe's directory with a trained, decoded and scored experiment; returns the latter.

    Args:
        root: directory to make.
        changes: of `CONFIG`; None removes a key.
    """
    conf = {key: value for key, value in (CONFIG | changes).items() if value is not None}
    exp = root / "exp" / TAG
    write(exp / "config.yaml", yaml.safe_dump(conf))
    save_weights(exp / "valid.loss.ave_2best.pth")
    (exp / "valid.loss.ave.pth").symlink_to("valid.loss.ave_2best.pth")
    write(exp / "3epoch.pth", b"")
    write(exp / "RESULTS.md", RESULTS)
    write(exp / "scores.json", json.dumps(SCORES))
    write(exp / "train.log", "secret")
    write(exp / "images" / "train" / "loss.png", b"\x89PNG")
    report = OPTIONS | {"model_file": f"exp/{TAG}/valid.loss.ave.pth", "batch_size": 20}
    write(exp / "decode_decode_valid.loss.ave" / "test" / "decode.json", json.dumps(report))
    lines = [{"kind": "refresh", "step": 1, "epoch": 1}, {"kind": "scan", "step": 41}, REFRESH]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    write(exp / "soup.jsonl", text + '{"kind": "refresh", "step": 50, "epo')
    write(root / "data/token_list/bpe_unigram4/bpe.model", b"pieces")
    write(root / "exp/stats/train/feats_stats.npz", b"statistics")
    _write_data(root / "dump/raw/train")
    return exp


def _write_data(directory: Path) -> None:
    columns = {
        "wav.scp": ("a.flac", "b.flac"),
        "text": ("hello", "bonjour"),
        "st_text": ("<na>", "hello"),
        "utt2lang": ("en", "fr"),
        "utt2tgt": ("<na>", "en"),
        "utt2spk": ("s", "s"),
        "utt2num_samples": ("16000", "56000"),
    }
    for name, values in columns.items():
        rows = [f"s-{i} {value}\n" for i, value in enumerate(values)]
        write(directory / name, "".join(rows))
    write(directory / "spk2utt", "s s-0 s-1\n")


def package(weights: bytes, **facts: Any) -> dict[str, bytes]:
    """Entries of a good archive, in the order of writing.

    Args:
        weights: content of the file of weights.
        facts: changes of what `meta.yaml` says under `objsoup`.
    """
    own = {"format": 1, "version": espnet_objsoup.__version__, "install": "pip install it"}
    base = f"exp/{TAG}"
    conf = {
        **{key: CONFIG[key] for key in ("objectives", "token_list", "token_type", "encoder")},
        "bpemodel": "data/token_list/bpe/bpe.model",
        "normalize_conf": {"stats_file": f"{base}/feats_stats.npz"},
    }
    meta = Meta(
        files={"objsoup_model_file": f"{base}/model.pth"},
        yaml_files={"objsoup_train_config": f"{base}/config.yaml"},
        timestamp=1.0,
        espnet="202611",
        facts={**own, "name": TAG, "objectives": OBJECTIVES, **facts},
    )
    return {
        "meta.yaml": meta.dump(),
        f"{base}/model.pth": weights,
        f"{base}/config.yaml": yaml.safe_dump(conf).encode(),
        f"{base}/feats_stats.npz": b"statistics",
        "data/token_list/bpe/bpe.model": b"pieces",
    }


def entry(name: str, mode: int = stat.S_IFREG | 0o644, compression: int = 0) -> zipfile.ZipInfo:
    """An entry with a name that zipfile would not write by itself."""
    info = zipfile.ZipInfo("x")
    info.filename = name
    info.external_attr = mode << 16
    info.compress_type = compression
    return info


def write_zip(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for info, content in entries:
            archive.writestr(info, content)
    return path


def refused(path: Path, tmp_path: Path) -> str:
    """The message that an archive is refused with; nothing may lie beside the target."""
    target = tmp_path / "cache" / "deep" / "target"
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ModelError) as caught:
        unpack(path, target)
    after = [path for path in tmp_path.rglob("*") if not path.is_relative_to(target)]
    assert sorted(path for path in after if path not in target.parents) == before
    return str(caught.value)
