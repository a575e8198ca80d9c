# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile

from espnet_objsoup.data.audio_io import audio_info, espnet_type, read_audio

from .factory import tone, write_tone

RATE = 16000


def encode(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    container = {".sph": "NIST", ".opus": "OGG"}.get(path.suffix, path.suffix[1:].upper())
    subtype = "OPUS" if path.suffix == ".opus" else None
    soundfile.write(path, samples, rate, format=container, subtype=subtype)
    return path


def write_ark(path: Path, samples: np.ndarray, container: str | None) -> str:
    function = None if container is None else "soundfile"
    options = {} if container is None else {"format": container, "subtype": "PCM_16"}
    kaldiio.save_ark(
        str(path),
        {"u0": (RATE, samples[:100]), "u1": (RATE, samples)},
        scp=str(path.with_suffix(".scp")),
        write_function=function,
        write_kwargs=options,
    )
    return path.with_suffix(".scp").read_text().splitlines()[1].split(maxsplit=1)[1]


@pytest.mark.parametrize("suffix", ["flac", "wav", "mp3", "ogg", "sph"])
def test_file_is_read_as_mono_float32(tmp_path: Path, suffix: str) -> None:
    path = encode(tmp_path / f"a.{suffix}", tone(0.5, RATE))
    samples, rate = read_audio(str(path))
    assert (samples.shape, samples.dtype, rate) == ((RATE // 2,), np.float32, RATE)
    info = audio_info(str(path))
    assert (info.frames, info.sample_rate_hz, info.channels) == (RATE // 2, RATE, 1)
    if suffix not in ("mp3", "ogg"):
        np.testing.assert_allclose(samples, tone(0.5, RATE), atol=1 / 32768)


FORMATS = "flac wav wavex rf64 w64 aiff au caf sph ogg opus".split()


@pytest.mark.parametrize("suffix", FORMATS)
def test_whole_file_is_not_taken_for_cut_off(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 20 * RATE)
    for n in (100, 8001, len(noise)):
        assert len(read_audio(str(encode(tmp_path / f"a.{suffix}", noise[:n])))[0]) == n


@pytest.mark.parametrize(
    ("suffix", "rest"), [("mp3", 0.5), *((name, part) for name in FORMATS for part in (0.5, 0.99))]
)
def test_file_that_is_cut_off_is_noticed(tmp_path: Path, suffix: str, rest: float) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 20 * RATE)
    path = encode(tmp_path / f"a.{suffix}", noise)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * rest)])
    with pytest.raises(ValueError, match=r"expected .* found .*cut off.*replace it"):
        read_audio(str(path))


def test_aiff_without_its_last_byte_of_padding_is_whole(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.aiff", tone(0.5, RATE)[:7999], RATE, subtype="PCM_S8")
    content = (tmp_path / "a.aiff").read_bytes()
    assert content[-1:] == b"\0"
    (tmp_path / "a.aiff").write_bytes(content[:-1])
    assert len(read_audio(str(tmp_path / "a.aiff"))[0]) == 7999


def test_ogg_that_ends_between_two_pages_is_noticed(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.ogg", np.random.default_rng(0).uniform(-0.5, 0.5, 20 * RATE))
    content = path.read_bytes()
    path.write_bytes(content[: content.rfind(b"OggS")])
    with pytest.raises(ValueError, match=r"expected the last page of an Ogg .*cut off; replace"):
        read_audio(str(path))


def test_wav_with_long_notes_cut_in_half_is_noticed(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.wav", tone(2.0, RATE))
    data = path.read_bytes()
    notes = b"LIST" + (3000).to_bytes(4, "little") + bytes(3000)
    at = data.find(b"data")
    path.write_bytes(data[:at] + notes + data[at:])
    assert len(read_audio(str(path))[0]) == 2 * RATE
    path.write_bytes(path.read_bytes()[:30000])
    with pytest.raises(ValueError, match=r"expected 67052 bytes .* found 30000"):
        read_audio(str(path))


def test_wav_written_to_a_pipe_has_no_length_to_compare(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.wav", tone(0.5, RATE))
    data = bytearray(path.read_bytes())
    at = data.find(b"data") + 4
    data[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert len(read_audio(str(path))[0]) == RATE // 2


@pytest.mark.parametrize("container", ["flac", "wav", None])
def test_archive_entry_and_part_of_it(tmp_path: Path, container: str | None) -> None:
    samples = (tone(0.5, RATE) * 32767).astype(np.int16)
    location = write_ark(tmp_path / "a.ark", samples, container)
    read, rate = read_audio(location)
    assert rate == RATE
    np.testing.assert_array_equal(read, samples.astype(np.float32) / 32768)
    part, _ = read_audio(location, 0.1, 0.3)
    np.testing.assert_array_equal(part, read[1600:4800])


def test_archive_cut_off_or_with_a_wrong_offset(tmp_path: Path) -> None:
    samples = (tone(0.5, RATE) * 32767).astype(np.int16)
    location = write_ark(tmp_path / "a.ark", samples, "flac")
    with pytest.raises(ValueError, match="expected audio in the archive at offset 1"):
        read_audio(f"{tmp_path}/a.ark:1")
    data = (tmp_path / "a.ark").read_bytes()
    (tmp_path / "a.ark").write_bytes(data[:-100])
    with pytest.raises(ValueError, match="archive is cut off"):
        read_audio(location)


def test_bad_files_say_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    with pytest.raises(ValueError, match="found an empty file"):
        read_audio(str(tmp_path / "empty.wav"))
    (tmp_path / "text.wav").write_text("not audio")
    with pytest.raises(ValueError, match="expected audio that libsndfile reads"):
        read_audio(str(tmp_path / "text.wav"))
    with pytest.raises(ValueError, match="found no samples"):
        read_audio(str(encode(tmp_path / "silent.wav", np.zeros(0))))
    with pytest.raises(FileNotFoundError):
        read_audio(str(tmp_path / "absent.wav"))


def test_directory_in_place_of_a_file_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        read_audio(str(tmp_path))


def test_channels(tmp_path: Path) -> None:
    left, right = tone(0.5, RATE), tone(0.5, RATE, 880)
    path = encode(tmp_path / "a.wav", np.stack([left, right], axis=1))
    with pytest.raises(ValueError, match=r"found 2; choose one with --channel"):
        read_audio(str(path))
    samples, _ = read_audio(str(path), channel=1)
    np.testing.assert_allclose(samples, right, atol=1 / 32768)
    with pytest.raises(ValueError, match=r"channel 2 .* found 2 channel"):
        read_audio(str(path), channel=2)


def test_segment_behind_the_end(tmp_path: Path) -> None:
    path = write_tone(tmp_path / "a.wav", 1.0)
    with pytest.raises(ValueError, match=r"begins at 2.0 s, but the recording ends at 1.00 s"):
        read_audio(str(path), 2.0, 3.0)
    with pytest.raises(ValueError, match=r"ends at 1.6 s, but the recording ends at 1.00 s"):
        read_audio(str(path), 0.0, 1.6)
    assert len(read_audio(str(path), 0.5, 1.4)[0]) == RATE // 2


def test_commands_run_only_where_allowed(tmp_path: Path) -> None:
    path = write_tone(tmp_path / "a b.wav")
    location = f"cat '{path}' | cat |"
    with pytest.raises(ValueError, match="--allow_pipes true"):
        read_audio(location)
    samples, rate = read_audio(location, allow_pipes=True)
    assert (len(samples), rate) == (RATE // 2, RATE)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("echo oops >&2; exit 3 |", "exit status 3: oops"),
        ("false | cat |", "exit status 1"),
        ("true |", "found no output"),
        ("echo no audio |", "the command's output is none"),
        ("| cat", "begins with it"),
    ],
)
def test_command_that_fails(command: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_audio(command, allow_pipes=True)


def test_type_that_espnet_needs(tmp_path: Path) -> None:
    scp = tmp_path / "wav.scp"
    scp.write_text("a x.ark:12\nb y z.ark:345\n")
    assert espnet_type(scp) == "kaldi_ark"
    scp.write_text("a x.flac\nb x.ark\n")
    assert espnet_type(scp) == "sound"
    scp.write_text("a x.flac\nb x.ark:12\n")
    with pytest.raises(ValueError, match="found both"):
        espnet_type(scp)
    scp.write_text("")
    with pytest.raises(ValueError, match="it is empty"):
        espnet_type(scp)
