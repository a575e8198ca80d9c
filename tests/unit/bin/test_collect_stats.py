# SPDX-License-Identifier: Apache-2.0
import itertools
from pathlib import Path

import pytest

from espnet_objsoup.bin import collect_stats


@pytest.mark.parametrize(("n_keys", "n"), [(10, 3), (2, 5), (1, 1)])
def test_shares_are_whole_and_even(n_keys: int, n: int) -> None:
    keys = [f"u{i}" for i in range(n_keys)]
    shares = collect_stats.split_keys(keys, n)
    assert list(itertools.chain.from_iterable(shares)) == keys
    sizes = [len(share) for share in shares]
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1


def test_every_job_has_both_sets(tmp_path: Path) -> None:
    for name, n in (("train", 6), ("dev", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "wav.scp").write_text("".join(f"u{i} x\n" for i in range(n)))
    arguments = ["--train_dir", f"{tmp_path}/train", "--valid_dir", f"{tmp_path}/dev"]
    arguments += ["--token_dir", "t", "--output_dir", f"{tmp_path}/out", "--nj", "4"]
    args = collect_stats.get_parser().parse_args(arguments)
    assert collect_stats.write_key_files(args, tmp_path / "work") == 2
    lines = [(tmp_path / "work" / str(j) / "train.keys").read_text().split() for j in (0, 1)]
    assert lines == [["u0", "u1", "u2"], ["u3", "u4", "u5"]]


def test_failing_job_shows_its_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("train", "dev"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "wav.scp").write_text("u x\n")

    def failing(*_: object) -> list[str]:
        return ["python3", "-c", "import sys; sys.exit('the reason')"]

    monkeypatch.setattr(collect_stats, "job_command", failing)
    arguments = ["--train_dir", f"{tmp_path}/train", "--valid_dir", f"{tmp_path}/dev"]
    arguments += ["--token_dir", "t", "--output_dir", f"{tmp_path}/out"]
    assert collect_stats.main(arguments) == 1
    assert "the reason" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_empty_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "wav.scp").touch()
    with pytest.raises(ValueError, match="at least one utterance"):
        collect_stats.read_keys(tmp_path)
