# SPDX-License-Identifier: Apache-2.0
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from espnet_objsoup.bin import (
    cli,
    combine_data_dirs,
    filter_data_dir,
    fix_data_dir,
    format_audio,
    make_token_list,
    perturb_speed,
    prepare_corpus,
    subset_data_dir,
    validate_data_dir,
)
from espnet_objsoup.data import datadir
from espnet_objsoup.data.corpora.rows import Utterance, to_data_dir

from ..data.factory import make_data, write_tone

MODULES = [
    combine_data_dirs, filter_data_dir, fix_data_dir, format_audio, make_token_list, perturb_speed,
    prepare_corpus, subset_data_dir, validate_data_dir,
]  # fmt: skip


def test_stages_2_to_5(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = f"{tmp_path}/data"
    datadir.write(make_data(write_tone(tmp_path / "in.wav", 0.5, 8000)), Path(data))
    assert perturb_speed.main([data, f"{data}_sp", "--factors", "0.9 1.0"]) == 0
    assert format_audio.main([f"{data}_sp", f"{tmp_path}/org", "--nj", "2"]) == 0
    assert filter_data_dir.main([f"{tmp_path}/org", f"{tmp_path}/dump"]) == 0
    assert validate_data_dir.main([f"{tmp_path}/dump"]) == 0
    tokens = ["--data_dirs", f"{tmp_path}/dump", "--token_type", "char", "--out", f"{tmp_path}/t"]
    assert make_token_list.main(tokens) == 0
    last = capsys.readouterr().out.splitlines()
    assert len(last) == 5
    assert "6 utterances" in last[0]
    assert "languages en fr" in last[-1]
    assert (tmp_path / "t" / "tokens.txt").read_text().splitlines()[2:4] == ["<en>", "<fr>"]


def test_fix_then_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    datadir.write(make_data(), tmp_path / "d")
    (tmp_path / "d" / "text").write_text("fr-a-u1 le chat\n")
    assert validate_data_dir.main([f"{tmp_path}/d"]) == 1
    assert fix_data_dir.main([f"{tmp_path}/d", f"{tmp_path}/d"]) == 0
    assert validate_data_dir.main([f"{tmp_path}/d"]) == 0
    captured = capsys.readouterr()
    assert "lines dropped" in captured.err
    assert f"{tmp_path}/d: asr/fr 1, st/fr-en 1" in captured.err
    assert "kept 1 utterances, dropped 2" in captured.out


def test_subsets_combine_to_the_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    datadir.write(make_data(), tmp_path / "d")
    (tmp_path / "utts").write_text("en-c-u3 more words\nnone\n")
    d, a, b, c = (f"{tmp_path}/{name}" for name in "dabc")
    assert subset_data_dir.main([d, a, "--langs", "fr"]) == 0
    assert subset_data_dir.main([d, b, "--utt_list", f"{tmp_path}/utts"]) == 0
    captured = capsys.readouterr()
    assert "2 of 3 utterances" in captured.out
    assert "1 of 2 are not in the data directory (such as none)" in captured.err
    assert combine_data_dirs.main([a, b, c]) == 0
    assert "2 + 1 = 3 utterances" in capsys.readouterr().out
    for path in (tmp_path / "d").iterdir():
        assert (tmp_path / "c" / path.name).read_bytes() == path.read_bytes()
    assert combine_data_dirs.main([a, d, c]) == 1
    assert "2 ids are in another directory too" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--utt_list", "--spk_list"])
def test_a_list_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    datadir.write(make_data(), tmp_path / "d")
    assert subset_data_dir.main([f"{tmp_path}/d", f"{tmp_path}/e", option, f"{tmp_path}/no"]) == 1
    message = (
        f"error: {tmp_path}/no: expected a UTF-8 file with an id per line, found: No such file"
    )
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [[], ["--per", "lang"], ["--number", "0"], ["--choose", "middle", "--number", "1"]]
)
def test_subset_needs_to_know_what(options: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        subset_data_dir.main(["a", "b", *options])
    assert stop.value.code == 2


def test_commands_of_wav_scp(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data()
    audio = write_tone(tmp_path / "in.wav")
    data.columns["wav.scp"] = {u: f"cat {audio} |" for u in data.utterances}
    datadir.write(data, tmp_path / "d")
    for command, extra in ((validate_data_dir, []), (format_audio, [f"{tmp_path}/out"])):
        assert command.main([f"{tmp_path}/d", *extra]) == 1
        assert "found a command" in capsys.readouterr().err
    options, nj = ["--allow_pipes", "true"], ["--nj", "1"]
    assert validate_data_dir.main([f"{tmp_path}/d", *options, "--check_audio", "true", *nj]) == 0
    ark = ["--audio_format", "flac.ark", *nj]
    assert format_audio.main([f"{tmp_path}/d", f"{tmp_path}/out", *options, *ark]) == 0
    assert "3 utterances, 0.00 h of flac.ark" in capsys.readouterr().out
    assert validate_data_dir.main([f"{tmp_path}/out"]) == 0


def test_check_audio_fails_on_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audio = write_tone(tmp_path / "in.wav")
    audio.write_bytes(audio.read_bytes()[:1000])
    datadir.write(make_data(audio), tmp_path / "d")
    assert validate_data_dir.main([f"{tmp_path}/d"]) == 0
    assert validate_data_dir.main([f"{tmp_path}/d", "--check_audio", "true", "--nj", "1"]) == 1
    assert capsys.readouterr().err.count("the file is cut off") == 3


def test_unlabelled_are_kept_on_demand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data()
    data.columns["text"]["en-c-u3"] = "<na>"
    data.columns["utt2num_samples"] = dict.fromkeys(data.utterances, "16000")
    datadir.write(data, tmp_path / "d")
    d, out = f"{tmp_path}/d", f"{tmp_path}/out"
    assert filter_data_dir.main([d, out]) == 0
    assert filter_data_dir.main([d, out, "--keep_unlabelled", "true"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "kept 2 (0.00 h), dropped 0 too short, 0 too long, 1 without" in first
    assert "kept 3" in second


@pytest.mark.parametrize("factors", ["0.9,x", "0.1", ""])
def test_bad_factors(tmp_path: Path, factors: str) -> None:
    datadir.write(make_data(), tmp_path / "d")
    try:
        status = perturb_speed.main([f"{tmp_path}/d", f"{tmp_path}/e", "--factors", factors])
    except SystemExit as stop:
        status = stop.code
    assert status == (2 if "x" in factors else 1)
    assert not (tmp_path / "e").exists()


def test_other_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    datadir.write(make_data(), tmp_path / "d")
    (tmp_path / "d" / "utt2uniq").touch()
    assert fix_data_dir.main([f"{tmp_path}/d", f"{tmp_path}/e"]) == 0
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 1
    assert "d/utt2uniq: not a file of data directories" in warnings[0]


def test_killed_format_audio_goes_on_where_it_stopped(tmp_path: Path) -> None:
    audio, log = write_tone(tmp_path / "in.wav", 0.1), tmp_path / "log"
    here, go = tmp_path / "here", tmp_path / "go"
    # The last one waits, so that there is an end to stop before.
    waits = f"touch {here}; until [ -e {go} ]; do sleep 0.05; done; "
    commands = [f"{waits * (i == 99)}echo {i} >>{log}; cat {audio} |" for i in range(100)]
    rows = [Utterance(f"{i:03d}", "s", c, "en", "a") for i, c in enumerate(commands)]
    datadir.write(to_data_dir(rows), tmp_path / "d")
    out = tmp_path / "out"
    options = [f"{tmp_path}/d", str(out), "--nj", "1", "--allow_pipes", "true"]
    command = [sys.executable, "-m", "espnet_objsoup.bin.format_audio", *options]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while not here.exists() and process.poll() is None:
            time.sleep(0.02)
        process.kill()
        assert process.wait() != 0
    with pytest.raises(datadir.DataDirError, match=r"wav.scp: not found"):
        datadir.read(out)
    records = [json.loads(path.read_text()) for path in out.glob("audio/*.json")]
    finished = {job[0] for record in records for job in record["jobs"]}
    assert 0 < len(finished) < 100
    go.touch()  # the command that ran at the time outlives its parent
    while "99" not in log.read_text().split():
        time.sleep(0.02)
    log.unlink()
    assert format_audio.main(options) == 0
    again = {f"s-{int(i):03d}" for i in log.read_text().split()}
    assert again == {f"s-{i:03d}" for i in range(100)} - finished
    data = datadir.read(out)
    assert len(data.utterances) == 100
    assert set(data.columns["utt2num_samples"].values()) == {"1600"}


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__.split(".")[-1])
def test_help_and_usage_errors(module, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        module.main(["--help"])
    assert stop.value.code == 0
    assert "python -m espnet_objsoup.bin." in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        module.main(["--no_such_option"])
    assert stop.value.code == 2


def test_user_errors_have_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> str:
        raise ValueError("expected a, found b")

    assert cli.run_command(fail) == 1
    assert capsys.readouterr().err == "error: expected a, found b\n"


def test_other_errors_are_not_hidden() -> None:
    def fail() -> str:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        cli.run_command(fail)


def test_lists_and_numbers() -> None:
    assert cli.string_list("en fr,de") == ["en", "fr", "de"]
    parser = cli.make_parser("x", "y")
    parser.add_argument("--nj", type=cli.positive_int)
    assert parser.parse_args(["--nj", "3"]).nj == 3
    for value in ("0", "-1", "x", "1.5"):
        with pytest.raises(SystemExit):
            parser.parse_args(["--nj", value])


def test_a_subset_does_not_replace_its_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    datadir.write(make_data(), tmp_path / "d")
    before = (tmp_path / "d" / "text").read_text()
    with pytest.raises(SystemExit) as status:
        subset_data_dir.main([f"{tmp_path}/d", f"{tmp_path}/x/../d", "--number", "1"])
    assert status.value.code == 2
    assert (
        "expected another directory to write than the one that is read" in capsys.readouterr().err
    )
    assert (tmp_path / "d" / "text").read_text() == before
