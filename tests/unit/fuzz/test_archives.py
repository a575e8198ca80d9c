# SPDX-License-Identifier: Apache-2.0
"""Packed models, audio files and archives of audio, token lists and BPE models."""

import io
import pickle
import re
import zipfile
from collections import OrderedDict
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile
import yaml
from hypothesis import given
from hypothesis import strategies as st

from espnet_objsoup.data.audio_io import read_audio
from espnet_objsoup.data.bpe_model import BpeModel, archive
from espnet_objsoup.data.corpora.rows import Utterance, to_data_dir
from espnet_objsoup.data.text import normalise_asr_text, normalise_st_text
from espnet_objsoup.data.token_list import (
    BpeGroup,
    Corpus,
    make_bpe_tokens,
    make_char_tokens,
    write_token_list,
)
from espnet_objsoup.zoo.archive import Limits, unpack
from espnet_objsoup.zoo.errors import ModelError
from espnet_objsoup.zoo.meta import Meta
from espnet_objsoup.zoo.pickles import check_weights

from . import contents, damaged, directory, fuzz, mappings, outcome, texts, values


def weights(pickled: bytes) -> bytes:
    """A file in the format of torch.save, of tensors or of something else."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("model/data.pkl", pickled)
        file.writestr("model/version", "3\n")
    return buffer.getvalue()


META = {
    "files": {"objsoup_model_file": "exp/model.pth"},
    "yaml_files": {"objsoup_train_config": "exp/config.yaml"},
    "timestamp": 1.0,
}
FILES = {
    "meta.yaml": yaml.safe_dump(META).encode(),
    "exp/model.pth": weights(pickle.dumps(OrderedDict(), protocol=2)),
    "exp/config.yaml": b"objectives: [asr/fr]\n",
}


def packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


names = st.one_of(
    st.sampled_from(
        ["../x", "/tmp/fuzz-x", "a/../../x", "exp", "exp/", "EXP/model.pth", "b.pkl", "c/", "con",
         "exp/config.yaml/x", "a//b", "x:y", "exp/model.pth"]
    ),
    texts.map(lambda text: text or "x"),
)  # fmt: skip


@st.composite
def model_archives(draw: st.DrawFn) -> bytes:
    files = dict(FILES)
    kind = draw(st.sampled_from(["bytes", "entries", "meta", "weights", "mode"]))
    if kind == "meta":
        block = mappings({"objsoup_model_file": names, "objsoup_train_config": names})
        meta = draw(mappings({"files": block, "yaml_files": block, "objsoup": values,
                              "timestamp": st.floats()}))  # fmt: skip
        files["meta.yaml"] = draw(
            st.one_of(
                st.just(yaml.safe_dump({**META, **meta}).encode()), damaged(files["meta.yaml"])
            )
        )
    if kind == "weights":
        objects = st.sampled_from([print, {"a": print}, [1], {}, "x", Path("x"), 1.5])
        pickles = st.one_of(
            st.binary(max_size=40),
            st.builds(pickle.dumps, objects, protocol=st.integers(0, 5)),
            damaged(pickle.dumps(OrderedDict(a=1), protocol=2)),
        )
        files["exp/model.pth"] = draw(st.one_of(pickles.map(weights), contents))
    if kind == "entries":
        files |= draw(st.dictionaries(names, st.binary(max_size=5), max_size=3))
    content = packed(files)
    if kind == "mode":
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            infos = file.infolist()
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            for info in infos:
                info.external_attr = draw(st.integers(0, 2**32 - 1))
                file.writestr(info, files[info.filename])
        content = buffer.getvalue()
    return draw(damaged(content)) if kind == "bytes" else content


@fuzz(0.5)
@given(model_archives())
def test_packed_model(content: bytes) -> None:
    """Unpacked within its directory, or refused; nothing is called that a pickle names."""
    with directory() as folder:
        (folder / "m.zip").write_bytes(content)
        target = folder / "inner" / "target"
        place = re.escape(str(folder))
        found = outcome(
            lambda: unpack(folder / "m.zip", target, Limits(gb=0.01)), ModelError, place
        )
        left = {path.name for path in folder.rglob("*") if target not in path.parents}
        assert left <= {"m.zip", "inner", "target"}
        assert not Path("/tmp/fuzz-x").exists()
        assert not any(path.is_symlink() for path in folder.rglob("*"))
        if found is not None:
            files = [*found.files.values(), *found.yaml_files.values()]
            assert all((target / file).exists() for file in files)
            again = Meta.parse(found.dump(), "again")
            assert (again.files, again.yaml_files) == (found.files, found.yaml_files)


def test_example_is_valid(tmp_path: Path) -> None:
    (tmp_path / "m.zip").write_bytes(packed(FILES))
    assert unpack(tmp_path / "m.zip", tmp_path / "new").files == META["files"]


@fuzz()
@given(st.one_of(contents, damaged(FILES["exp/model.pth"])))
def test_weights(content: bytes) -> None:
    with directory() as folder:
        path = folder / "model.pth"
        path.write_bytes(content)
        outcome(lambda: check_weights(path), ModelError, re.escape(str(path)))


# Audio


def encoded(container: str) -> bytes:
    buffer = io.BytesIO()
    samples = np.sin(np.arange(1600) / 10).astype(np.float32)
    soundfile.write(buffer, samples, 16000, format=container)
    return buffer.getvalue()


AUDIO = {container: encoded(container) for container in ("WAV", "FLAC", "OGG", "MP3")}
audio_files = st.one_of(contents, st.sampled_from(sorted(AUDIO)).flatmap(
    lambda container: damaged(AUDIO[container])
))  # fmt: skip
seconds = st.one_of(st.none(), st.floats(0, 0.2))


@fuzz(0.5)
@given(audio_files, seconds, seconds, st.sampled_from([None, 0, 1, -1]))
def test_audio(content: bytes, begin: float | None, end: float | None, channel: int | None) -> None:
    """Finite samples, or an error in words; its caller adds the place."""
    with directory() as folder:
        path = folder / "a.bin"
        path.write_bytes(content)
        found = outcome(
            lambda: read_audio(str(path), begin, end, channel=channel),
            ValueError,
            "expected|cut off|segment begins|segment ends",
        )
        if found is not None:
            assert len(found[0]) > 0
            assert np.isfinite(found[0]).all()
            assert found[1] > 0


def archive_of_audio() -> bytes:
    with directory() as folder:
        samples = np.arange(1000, dtype=np.int16)
        for name, options in (("a", {}), ("b", {"write_function": "soundfile"})):
            kaldiio.save_ark(f"{folder}/{name}", {"u": (16000, samples)}, **options)
        return (folder / "a").read_bytes() + (folder / "b").read_bytes()


ARK = archive_of_audio()


@fuzz()
@given(st.one_of(contents, damaged(ARK)), st.one_of(st.just(2), st.integers(0, 10**20)))
def test_entry_of_an_archive(content: bytes, offset: int) -> None:
    with directory() as folder:
        path = folder / "a.ark"
        path.write_bytes(content)
        try:
            found = outcome(
                lambda: read_audio(f"{path}:{offset}", allow_pipes=False),
                ValueError,
                "expected|cut off",
            )
        except FileNotFoundError:  # an offset that no file has is a part of the name
            found = None
            assert offset >= 10**18
        assert found is None or len(found[0]) > 0


# Tokens


@fuzz()
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=5))
def test_token_list_of_any_texts(pairs: list[tuple[str, str]]) -> None:
    """As ESPnet reads it, a token is what was written."""
    rows = [
        Utterance(
            f"u{i}", "s", "x.wav", "fr", normalise_asr_text(text, "fr", "tc") or "<na>",
            {"en": normalise_st_text(translation, "en", "tc") or "a"},
        )
        for i, (text, translation) in enumerate(pairs)
    ]  # fmt: skip
    corpus = Corpus.of([to_data_dir(rows)])
    tokens = make_char_tokens(corpus)
    with directory() as folder:
        path = folder / "tokens.txt"
        whole = outcome(
            lambda: write_token_list(tokens, corpus.languages, path), ValueError, "^token list"
        )
        if whole is not None:
            with open(path, encoding="utf-8") as file:
                assert [line[0] + line[1:].rstrip() for line in file] == whole
            assert len(set(whole)) == len(whole)


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("bpe") / "bpe.model"
    make_bpe_tokens(Corpus(["abc de", "bcd ea"] * 4, ["fr"] * 8, ["fr"]), [BpeGroup(size=10)], path)
    return path.read_bytes()


@fuzz()
@given(st.data())
def test_bpe_model(bpe: bytes, data: st.DataObject) -> None:
    grouped = archive({("fr",): bpe, ("en", "de"): bpe})
    content = data.draw(st.one_of(contents, damaged(bpe), damaged(grouped)))
    with directory() as folder:
        path = folder / "bpe.model"
        path.write_bytes(content)
        model = outcome(lambda: BpeModel.read(path), ValueError, re.escape(str(path)))
        if model is not None and model.knows("fr"):
            pieces = model.encode("abc", "fr")
            assert isinstance(model.decode(pieces), str)
