# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from espnet_objsoup.bin import (
    cli,
    filter_data_dir,
    fix_data_dir,
    format_audio,
    make_token_list,
    perturb_speed,
    prepare_corpus,
    validate_data_dir,
)
from espnet_objsoup.data import datadir

from ..data.factory import make_data, write_tone

MODULES = [
    filter_data_dir, fix_data_dir, format_audio, make_token_list, perturb_speed, prepare_corpus,
    validate_data_dir,
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
    assert "lines dropped" in capsys.readouterr().err


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
