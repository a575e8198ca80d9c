# SPDX-License-Identifier: Apache-2.0
"""What ESPnet reads Kaldi archives with runs neither commands nor pickles. No torch here."""

import pickle
import subprocess
import sys
from pathlib import Path

import kaldiio
import kaldiio.matio
import kaldiio.utils
import numpy as np
import pytest

from espnet_objsoup.data.audio_io import ark_entry, audio_info, espnet_type, is_pipe
from espnet_objsoup.train.archives import run_nothing

from ..hostile_pickle import MakesDirectory


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kaldiio.matio, "pickle", kaldiio.matio.pickle)
    monkeypatch.setattr(kaldiio.utils, "my_popen", kaldiio.utils.my_popen)
    run_nothing()


def load(directory: Path, location: str) -> object:
    (directory / "wav.scp").write_text(f"u1 {location}\n")
    return kaldiio.load_scp(str(directory / "wav.scp"))["u1"]


UNGUARDED = """
import sys, kaldiio
for location in sys.argv[1:]:
    open("wav.scp", "w").write(f"u1 {location}\\n")
    try:
        kaldiio.load_scp("wav.scp")["u1"]
    except AssertionError:
        pass
"""


def test_without_it_kaldiio_runs_both(tmp_path: Path) -> None:
    """What is guarded against; should kaldiio change, the guard can go."""
    (tmp_path / "a.ark").write_bytes(b"u1 PKL" + pickle.dumps(MakesDirectory(tmp_path / "pickle")))
    # Another process: in this one a test that trained may have guarded it.
    command = [sys.executable, "-c", UNGUARDED, "a.ark:3", "|mkdir command; x.ark:1"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=600)
    assert (tmp_path / "pickle").is_dir()
    assert (tmp_path / "command").is_dir()


@pytest.mark.usefixtures("guarded")
@pytest.mark.filterwarnings("ignore:An error happend")
def test_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.ark").write_bytes(b"u1 PKL" + pickle.dumps(MakesDirectory(tmp_path / "made")))
    with pytest.raises(
        ValueError, match=r"a\.ark, before byte 6: expected audio .* found a pickle"
    ):
        load(tmp_path, f"{tmp_path}/a.ark:3")
    assert not (tmp_path / "made").exists()


@pytest.mark.usefixtures("guarded")
@pytest.mark.filterwarnings("ignore:An error happend")
@pytest.mark.parametrize("location", ["|mkdir {}; x.ark:1", "mkdir {} |", " | mkdir {}; x.ark:1"])
def test_command_is_refused(tmp_path: Path, location: str) -> None:
    with pytest.raises(ValueError, match="found the command 'mkdir|found the command ' mkdir"):
        load(tmp_path, location.format(tmp_path / "made"))
    assert not (tmp_path / "made").exists()


@pytest.mark.usefixtures("guarded")
def test_archives_are_read(tmp_path: Path) -> None:
    samples = np.arange(100, dtype=np.int16)
    kaldiio.save_ark(f"{tmp_path}/a.ark", {"u1": (16000, samples)}, scp=f"{tmp_path}/wav.scp")
    rate, found = kaldiio.load_scp(f"{tmp_path}/wav.scp")["u1"]
    assert rate == 16000
    assert np.array_equal(found, samples)


@pytest.mark.parametrize(
    "line",
    ["u1 |touch x; y.ark:1", "u1\t|touch x; y.ark:1", "u1 cat x.wav |", "u1 cat x |\u00a0",
     "u1 \u2003| touch x; y.ark:1"],
)  # fmt: skip
def test_training_refuses_commands_however_they_look(tmp_path: Path, line: str) -> None:
    (tmp_path / "wav.scp").write_text(f"u0 x.flac\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"wav\.scp:2: expected a file .* found a command"):
        espnet_type(tmp_path / "wav.scp")
    location = line.split(maxsplit=1)[1]
    assert is_pipe(location)
    assert ark_entry(location) is None
    with pytest.raises(ValueError, match="expected a path, found a command"):
        audio_info(location)


@pytest.mark.parametrize("length", [b"\x04\xff\xff\xff\x7f", b"\xff" * 256])
def test_damaged_length_of_an_entry_makes_no_room_for_it(tmp_path: Path, length: bytes) -> None:
    (tmp_path / "a.ark").write_bytes(b"u1 AUDIO" + length)
    with pytest.raises(ValueError, match="archive is cut off"):
        audio_info(f"{tmp_path}/a.ark:3")


def test_offset_beyond_all_files(tmp_path: Path) -> None:
    (tmp_path / "a.ark").write_bytes(b"u1 AUDIO")
    with pytest.raises(ValueError, match="expected audio in the archive"):
        audio_info(f"{tmp_path}/a.ark:{'9' * 18}")
    with pytest.raises(OSError, match="No such file"):
        audio_info(f"{tmp_path}/a.ark:{'9' * 30}")
