# SPDX-License-Identifier: Apache-2.0
import builtins
import errno
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_objsoup.data import datadir
from espnet_objsoup.data.audio import (
    AUDIO_FORMATS,
    AudioFormat,
    check_audio,
    format_audio,
    remove_unused_audio,
)
from espnet_objsoup.data.audio_io import audio_info, espnet_type, read_audio
from espnet_objsoup.data.audio_shards import Job, split
from espnet_objsoup.data.corpora.rows import Utterance, to_data_dir
from espnet_objsoup.data.datadir import DataDir, DataDirError
from espnet_objsoup.data.selection import perturb_speed

from .factory import make_data, tone, write_tone


@pytest.mark.parametrize(("suffix", "rate"), [("mp3", 48000), ("ogg", 44100), ("wav", 8000)])
def test_any_format_and_rate_becomes_mono_flac(tmp_path: Path, suffix: str, rate: int) -> None:
    data = make_data(write_tone(tmp_path / f"in.{suffix}", 0.5, rate))
    result = format_audio(data, tmp_path / "out", AudioFormat(16000), n_jobs=1)
    path = Path(result.columns["wav.scp"]["fr-a-u1"])
    info = soundfile.info(path)
    assert (info.format, info.subtype, info.samplerate, info.channels) == (
        "FLAC",
        "PCM_16",
        16000,
        1,
    )
    samples, _ = soundfile.read(path)
    assert result.columns["utt2num_samples"]["fr-a-u1"] == str(len(samples))
    assert abs(len(samples) - 8000) <= 2
    middle = samples[2000:6000]
    # Lossy formats delay a little: compare the spectrum's peak and the level.
    peak = np.argmax(np.abs(np.fft.rfft(middle))) * 16000 / len(middle)
    assert abs(peak - 440) <= 4
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_audio_that_fits_is_used_where_it_lies(tmp_path: Path) -> None:
    source = tmp_path / "in.flac"
    soundfile.write(source, tone(0.5, 16000), 16000, subtype="PCM_16")
    result = format_audio(make_data(source), tmp_path / "out", AudioFormat(16000), n_jobs=1)
    assert set(result.columns["wav.scp"].values()) == {str(source)}


def test_segments_and_speed_are_applied(tmp_path: Path) -> None:
    source = write_tone(tmp_path / "in.wav", 2.0)
    data = make_data(source)
    data.columns["wav.scp"] = {"r": str(source)}
    data.columns["segments"] = {u: f"r 0.5 {0.9 + 0.2 * i}" for i, u in enumerate(data.utterances)}
    result = format_audio(perturb_speed(data, [0.8, 1.0]), tmp_path / "out", AudioFormat(), 1)
    samples = {k: int(v) for k, v in result.columns["utt2num_samples"].items()}
    assert samples["en-c-u3"] == 6400
    assert samples["sp0.8-en-c-u3"] == pytest.approx(8000, abs=2)
    assert "segments" not in result.columns
    assert "utt2speed" not in result.columns
    assert result.columns["utt2spk"]["sp0.8-fr-a-u1"] == "sp0.8-fr-a"


def test_all_unusable_recordings_are_reported(tmp_path: Path) -> None:
    data = make_data(write_tone(tmp_path / "ok.wav"))
    (tmp_path / "text.mp3").write_text("not audio")
    data.columns["wav.scp"]["fr-a-u1"] = str(tmp_path / "text.mp3")
    data.columns["wav.scp"]["fr-b-u2"] = str(tmp_path / "absent.wav")
    with pytest.raises(DataDirError, match="2 of 3") as error:
        format_audio(data, tmp_path / "out", AudioFormat(), n_jobs=1)
    assert "fr-a-u1" in str(error.value)
    assert "fr-b-u2" in str(error.value)


def test_damaged_recordings_may_be_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = make_data(write_tone(tmp_path / "ok.wav"))
    (tmp_path / "text.mp3").write_text("not audio")
    data.columns["wav.scp"]["fr-a-u1"] = str(tmp_path / "text.mp3")
    with pytest.raises(DataDirError, match=r"1 of 3 .* by --max_damaged 0.34\."):
        format_audio(data, tmp_path / "out", AudioFormat(), 1, max_damaged=0.33)
    result = format_audio(data, tmp_path / "out", AudioFormat(), 1, max_damaged=0.34)
    assert result.utterances == ["en-c-u3", "fr-b-u2"]
    assert all(set(column) == set(result.utterances) for column in result.columns.values())
    assert "left out: 1 of 3 utterances" in caplog.text
    assert "fr-a-u1: " in caplog.text


def test_rows_of_one_clip_share_its_audio(tmp_path: Path) -> None:
    paths = [write_tone(tmp_path / f"{name}.wav", rate=8000) for name in ("a", "b")]
    data = make_data(paths[0])
    data.columns["wav.scp"]["fr-b-u2"] = str(paths[1])
    result = finish(data, tmp_path / "out", AudioFormat(), 1)
    locations = result.columns["wav.scp"]
    assert locations["en-c-u3"] == locations["fr-a-u1"] != locations["fr-b-u2"]
    assert len(list((tmp_path / "out" / "audio").glob("*/*.flac"))) == 2
    assert set(result.columns["utt2num_samples"]) == set(data.utterances)


def test_file_without_permission_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data(write_tone(tmp_path / "in.wav"))
    real_open = builtins.open

    def open_without_permission(path, *args, **kwargs):
        if str(path).endswith("in.wav"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real_open(path, *args, **kwargs)

    # The superuser, who runs tests in containers, may read everything.
    monkeypatch.setattr(builtins, "open", open_without_permission)
    with pytest.raises(DataDirError, match=r"fr-a-u1: .*a readable file, found: Permission denied"):
        format_audio(data, tmp_path / "out", AudioFormat(), 1)


def test_several_channels_need_a_choice(tmp_path: Path) -> None:
    data = make_data(write_tone(tmp_path / "stereo.wav", channels=2))
    with pytest.raises(DataDirError, match="--channel"):
        format_audio(data, tmp_path / "a", AudioFormat(), n_jobs=1)
    result = format_audio(data, tmp_path / "b", AudioFormat(channel=1), n_jobs=1)
    assert result.columns["utt2num_samples"]["en-c-u3"] == "8000"


def finish(data: DataDir, out: Path, *args, **kwargs) -> DataDir:
    result = format_audio(data, out, *args, **kwargs)
    datadir.write(result, out)
    remove_unused_audio(out)
    return result


def audio_times(out: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in out.glob("audio/**/*") if p.is_file()}


@pytest.mark.parametrize("container", AUDIO_FORMATS)
def test_finished_work_is_not_repeated(tmp_path: Path, container: str) -> None:
    data = make_data(write_tone(tmp_path / "in.wav", rate=8000))
    out = tmp_path / "out"
    first = format_audio(data, out, AudioFormat(16000, container), n_jobs=1)
    before = audio_times(out)
    assert before
    again = finish(data, out, AudioFormat(16000, container), n_jobs=1)
    assert finish(data, out, AudioFormat(16000, container), 1).columns == again.columns
    assert again.columns == first.columns
    assert audio_times(out) == before


@pytest.mark.parametrize("container", ["flac", "flac.ark"])
def test_changed_source_is_written_beside_the_old_audio(tmp_path: Path, container: str) -> None:
    source = write_tone(tmp_path / "in.wav", 0.5, rate=8000)
    out = tmp_path / "out"
    old = finish(make_data(source), out, AudioFormat(16000, container), 1)
    write_tone(source, 1.0, rate=8000)
    new = format_audio(make_data(source), out, AudioFormat(16000, container), 1)
    for data, n in ((old, 8000), (new, 16000)):
        for key, location in data.columns["wav.scp"].items():
            assert len(read_audio(location)[0]) == n == int(data.columns["utt2num_samples"][key])
    assert datadir.read(out).columns == old.columns
    datadir.write(new, out)
    remove_unused_audio(out)
    assert len(read_audio(new.columns["wav.scp"]["fr-a-u1"])[0]) == 16000
    with pytest.raises(FileNotFoundError):
        read_audio(old.columns["wav.scp"]["fr-a-u1"])
    third = finish(make_data(write_tone(source, 0.75, 8000)), out, AudioFormat(16000, container), 1)
    assert third.columns["utt2num_samples"]["fr-a-u1"] == "12000"
    assert len(read_audio(third.columns["wav.scp"]["fr-a-u1"])[0]) == 12000


@pytest.mark.parametrize("container", AUDIO_FORMATS)
@pytest.mark.parametrize("damage", ["empty", "cut off", "gone"])
def test_damaged_audio_is_not_taken_for_finished(
    tmp_path: Path, container: str, damage: str
) -> None:
    data, out = make_data(write_tone(tmp_path / "in.wav", rate=8000)), tmp_path / "out"
    before = finish(data, out, AudioFormat(16000, container), 1)
    file = max(path for path in out.glob("audio/**/*") if path.suffix in (".flac", ".wav", ".ark"))
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: 0 if damage == "empty" else -20])
    after = finish(data, out, AudioFormat(16000, container), 1)
    assert after.columns["utt2num_samples"] == before.columns["utt2num_samples"]
    assert {len(read_audio(v)[0]) for v in after.columns["wav.scp"].values()} == {8000}


@pytest.mark.parametrize("container", ["flac", "flac.ark"])
def test_samples_that_are_no_numbers_are_reported(tmp_path: Path, container: str) -> None:
    samples = tone(1.0, 16000)
    samples[4000] = np.nan
    soundfile.write(tmp_path / "in.wav", samples, 16000, subtype="FLOAT")
    data = make_data(tmp_path / "in.wav")
    message = r"3 of 3(?s:.*)in.wav: expected finite samples, found NaN or infinity at 0.250 s; rep"
    with pytest.raises(DataDirError, match=message):
        format_audio(data, tmp_path / "out", AudioFormat(16000, container), 1)
    assert len(check_audio(data, 1)) == 3


def test_other_format_replaces_the_audio(tmp_path: Path) -> None:
    data = make_data(write_tone(tmp_path / "in.wav", rate=8000))
    first = finish(data, tmp_path / "out", AudioFormat(16000), n_jobs=1)
    again = finish(data, tmp_path / "out", AudioFormat(8000, "wav.ark"), n_jobs=1)
    assert not Path(first.columns["wav.scp"]["fr-a-u1"]).exists()
    assert audio_info(again.columns["wav.scp"]["fr-a-u1"]).sample_rate_hz == 8000


def test_archives_are_read_like_files(tmp_path: Path) -> None:
    data = make_data(write_tone(tmp_path / "in.wav", rate=16000))
    plain = format_audio(data, tmp_path / "plain", AudioFormat(), 1)
    archived = finish(data, tmp_path / "ark", AudioFormat(container="flac.ark"), 1)
    again = format_audio(archived, tmp_path / "again", AudioFormat(), 1)
    for name in plain.columns["wav.scp"]:
        samples = [read_audio(d.columns["wav.scp"][name])[0] for d in (plain, archived, again)]
        np.testing.assert_array_equal(samples[0], samples[1])
        np.testing.assert_array_equal(samples[0], samples[2])


@pytest.mark.parametrize("container", AUDIO_FORMATS)
def test_espnet_reads_what_is_written(tmp_path: Path, container: str) -> None:
    from espnet2.train.dataset import DATA_TYPES

    out = tmp_path / "out"
    data = finish(make_data(write_tone(tmp_path / "in.ogg")), out, AudioFormat(8000, container), 1)
    loader = DATA_TYPES[espnet_type(out / "wav.scp")]["func"](str(out / "wav.scp"))
    assert sorted(loader.keys()) == data.utterances
    for name, location in data.columns["wav.scp"].items():
        np.testing.assert_allclose(loader[name], read_audio(location)[0], atol=1e-7)


def test_commands_are_run_only_if_allowed(tmp_path: Path) -> None:
    data = make_data(write_tone(tmp_path / "in.wav"))
    data.columns["wav.scp"]["fr-a-u1"] = f"cat {tmp_path}/in.wav |"
    data.columns["wav.scp"]["fr-b-u2"] = "exit 4 |"
    with pytest.raises(DataDirError, match=r"2 of 3(?s:.*)fr-a-u1: .*--allow_pipes true"):
        format_audio(data, tmp_path / "out", AudioFormat(), 1)
    with pytest.raises(DataDirError, match=r"1 of 3(?s:.*)fr-b-u2: .*exit status 4"):
        format_audio(data, tmp_path / "out", AudioFormat(), 1, allow_pipes=True)
    data.columns["wav.scp"]["fr-b-u2"] = data.columns["wav.scp"]["fr-a-u1"]
    result = format_audio(data, tmp_path / "out", AudioFormat(), 1, allow_pipes=True)
    assert set(result.columns["utt2num_samples"].values()) == {"8000"}


def test_check_audio_reports_all(tmp_path: Path) -> None:
    data = make_data(write_tone(tmp_path / "stereo.wav", channels=2))
    assert check_audio(data, 1) == []
    cut = write_tone(tmp_path / "cut.flac")
    cut.write_bytes(cut.read_bytes()[:-200])
    (tmp_path / "none.wav").touch()
    data.columns["wav.scp"]["fr-a-u1"] = str(cut)
    data.columns["wav.scp"]["fr-b-u2"] = str(tmp_path / "none.wav")
    problems = check_audio(data, 1)
    assert len(problems) == 2
    assert "cut off" in problems[0]
    assert "empty file" in problems[1]


def test_damage_is_noticed_even_where_nothing_is_written(tmp_path: Path) -> None:
    source = write_tone(tmp_path / "in.flac")
    source.write_bytes(source.read_bytes()[:-200])
    with pytest.raises(DataDirError, match=r"3 of 3(?s:.*)cut off or damaged"):
        format_audio(make_data(source), tmp_path / "out", AudioFormat(), 1)


@pytest.mark.parametrize("container", ["wav", "flac.ark"])
def test_full_disk_names_the_file_and_is_not_taken_for_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, container: str
) -> None:
    data = make_data(write_tone(tmp_path / "in.wav", rate=8000))
    out = tmp_path / "out"
    real_open = builtins.open
    opened = []

    class FullDisk(io.FileIO):
        """Takes 100 bytes."""

        def write(self, content) -> int:
            super().write(bytes(content)[:100])
            raise OSError(errno.ENOSPC, "No space left on device")

    def open_on_full_disk(path, mode="r", *args, **kwargs):
        if (mode == "wb" and "en-c-u3" in str(path)) or str(path).endswith(".ark.tmp"):
            opened.append(path)
            return FullDisk(path, "w")
        return real_open(path, mode, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", open_on_full_disk)
    with pytest.raises(OSError, match=r"No space left on device; .*not written.*out/audio/"):
        format_audio(data, out, AudioFormat(16000, container), 1)
    monkeypatch.undo()
    assert opened
    assert not list(out.glob("audio/**/*.tmp"))
    assert not list(out.glob("audio/*.json"))
    result = finish(data, out, AudioFormat(16000, container), 1)
    assert {len(read_audio(v)[0]) for v in result.columns["wav.scp"].values()} == {8000}


def test_ids_that_are_no_file_names_stay_distinct(tmp_path: Path) -> None:
    ids = ["a%2Fb", "a/b", "a_b"]
    rows = [
        Utterance(u, "s", str(write_tone(tmp_path / f"{i}.wav", 0.1 * i)), "en", "a")
        for i, u in enumerate(ids, 1)
    ]
    data = finish(to_data_dir(rows), tmp_path / "out", AudioFormat(8000), 1)
    lengths = [len(read_audio(data.columns["wav.scp"][f"s-{u}"])[0]) for u in ids]
    assert lengths == [800, 1600, 2400]


def test_one_more_utterance_leaves_other_shards_alone() -> None:
    jobs = [Job(f"u{i:05d}", "x") for i in range(5000)]
    shards = {tuple(j.utterance for j in shard) for shard in split(jobs, len(jobs))}
    assert sorted(u for shard in shards for u in shard) == [job.utterance for job in jobs]
    assert max(map(len, shards)) <= 128
    assert 100 < len(shards) < 250
    fewer = jobs[:2500] + jobs[2501:]
    changed = {tuple(j.utterance for j in shard) for shard in split(fewer, len(fewer))} - shards
    assert len(changed) <= 4


def test_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match=r"flac or wav or flac.ark or wav.ark, found 'mp3'"):
        AudioFormat(16000, "mp3")
