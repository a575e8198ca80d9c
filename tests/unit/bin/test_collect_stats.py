# SPDX-License-Identifier: Apache-2.0
import itertools
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from espnet_objsoup.bin import collect_stats

from ..data.fake_batch import make_batch
from ..full_disk import files_up_to


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
    lines = [(tmp_path / "work" / str(j) / "train.keys").read_text().split() for j in (1, 2)]
    assert lines == [["u0", "u1", "u2"], ["u3", "u4", "u5"]]


@pytest.fixture
def recipe(tmp_path: Path) -> list[str]:
    """Options for two small sets and their token list."""
    soundfile.write(tmp_path / "u.wav", np.zeros(160), 16000)
    for name, text in (("train", "ab ba"), ("dev", "ab")):
        (tmp_path / name).mkdir()
        wavs = "".join(f"u{i} {tmp_path}/u.wav\n" for i in (1, 2))
        (tmp_path / name / "wav.scp").write_text(wavs)
        (tmp_path / name / "text").write_text(f"u1 {text}\nu2 <na>\n")
    (tmp_path / "tokens").mkdir()
    tokens = ["<blank>", "<unk>", "a", "b", "<space>", "<sos/eos>"]
    (tmp_path / "tokens" / "tokens.txt").write_text("\n".join(tokens) + "\n")
    arguments = ["--train_dir", f"{tmp_path}/train", "--valid_dir", f"{tmp_path}/dev"]
    return [*arguments, "--token_dir", f"{tmp_path}/tokens", "--output_dir", f"{tmp_path}/out"]


def jobs_run(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(collect_stats, "job_command", lambda *_: [sys.executable, "-c", code])


@pytest.mark.parametrize(
    ("code", "shown", "hidden"),
    [
        ("import sys; print('noise'); sys.exit('error: the reason')", "error: the reason", "noise"),
        ("import sys; print('shapes differ'); sys.exit(1)", "shapes differ", "error: \n"),
    ],
    ids=["an error that the user can mend", "any other"],
)
def test_failing_job_shows_its_log(
    recipe: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    shown: str,
    hidden: str,
) -> None:
    jobs_run(monkeypatch, code)
    assert collect_stats.main(recipe) == 1
    message = capsys.readouterr().err
    log = f"{tmp_path}/out.tmp/logs/stats.1.log"
    assert f"job 1 of 1 failed (exit status 1); finished ones are kept. {log} ends:" in message
    assert shown in message
    assert hidden not in message.replace(log, "")
    assert not (tmp_path / "out").exists()


def test_shares_that_are_done_are_not_repeated(
    recipe: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Unless the data or the options have changed since."""
    # The second waits until the first is done, and fails.
    code = f"""
import pathlib, sys, time
directory = pathlib.Path(sys.argv[1])
open({str(tmp_path / "ran")!r}, "a").write(directory.name)
while directory.name == "2" and not (directory.parent / "1" / ".done").exists():
    time.sleep(0.02)
sys.exit(directory.name == "2" and not pathlib.Path({str(tmp_path / "mended")!r}).exists())
"""
    merged = []
    monkeypatch.setattr(
        "espnet2.bin.aggregate_stats_dirs.aggregate_stats_dirs",
        lambda inputs, output, *_: (merged.append(inputs), Path(output).mkdir()),
    )
    monkeypatch.setattr(
        collect_stats, "job_command", lambda _, __, d: [sys.executable, "-c", code, str(d)]
    )

    def ran(*more: str) -> list[str]:
        (tmp_path / "ran").unlink(missing_ok=True)
        collect_stats.main([*recipe, "--nj", "2", *more])
        return sorted((tmp_path / "ran").read_text())

    assert ran() == ["1", "2"]
    assert "job 2 of 2 failed" in capsys.readouterr().err
    assert ran() == ["2"]
    assert "1 finished job(s) of an earlier run are kept" in capsys.readouterr().out
    assert ran("--seed", "3") == ["1", "2"]
    (tmp_path / "train" / "text").write_text("u1 ab\nu2 <na>\n")
    assert ran("--seed", "3") == ["1", "2"]
    (tmp_path / "mended").touch()
    assert ran("--seed", "3") == ["2"]
    assert merged == [[f"{tmp_path}/out.tmp/{job}" for job in (1, 2)]]
    assert (tmp_path / "out" / "logs" / "stats.1.log").exists()


@pytest.mark.parametrize("when", ["keys", "merged"])
def test_full_disk_names_the_place_and_the_next_run_goes_on(
    recipe: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    """While the shares are written, and while they are put together, as ESPnet does it."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()

    def aggregate(inputs: list[str], output: str, *_: object) -> None:
        Path(output).mkdir()
        assert not (Path(output) / "shape").exists()
        (Path(output) / "shape").write_text("x" * 200)

    monkeypatch.setattr("espnet2.bin.aggregate_stats_dirs.aggregate_stats_dirs", aggregate)
    jobs_run(monkeypatch, "pass")
    with files_up_to({"keys": 3, "merged": 150}[when]):
        assert collect_stats.main(recipe) == 1
    message = capsys.readouterr().err
    place = {"keys": "1/train.keys", "merged": "merged"}[when]
    assert re.search(rf"error: \[Errno 27\] File too large.*out.tmp/{place}'", message)
    assert "run again when this is mended" in message
    assert os.listdir(tmp_path / "out") == ["old"]
    assert collect_stats.main(recipe) == 0
    assert (tmp_path / "out" / "shape").read_text() == "x" * 200
    assert not (tmp_path / "out.tmp").exists()


def test_jobs_that_were_killed_are_listed_when_the_others_are_done(
    recipe: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = """
import os, pathlib, sys, time
directory = pathlib.Path(sys.argv[1])
with open(directory / "attempts", "a") as file:
    file.write("x")
if directory.name == "1":
    print("last words", flush=True)
    os.kill(os.getpid(), 9)
other = directory.parent / "1" / "attempts"
while not other.exists() or other.read_text() != "xxxx":
    time.sleep(0.02)
time.sleep(0.3)
"""
    monkeypatch.setattr(
        collect_stats, "job_command", lambda _, __, d: [sys.executable, "-c", code, str(d)]
    )
    assert collect_stats.main([*recipe, "--nj", "2"]) == 1
    message = capsys.readouterr().err
    assert "job 1 of 2 failed (it was killed 4 times, often for want of memory: " in message
    assert "finished ones are kept" in message
    assert "last words" in message
    assert (tmp_path / "out.tmp" / "2" / ".done").exists()
    assert not (tmp_path / "out").exists()


def test_jobs_of_a_cluster_collect(
    recipe: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = make_batch("slurm", tmp_path, monkeypatch)
    conf = {"system": "slurm", "cores": 2, "memory": "2GB", "interface": "lo"}
    (tmp_path / "slurm.yaml").write_text(yaml.safe_dump(conf))
    monkeypatch.setattr(
        "espnet2.bin.aggregate_stats_dirs.aggregate_stats_dirs",
        lambda inputs, output, *_: Path(output).mkdir(),
    )
    jobs_run(monkeypatch, "import os; print(os.environ['OMP_NUM_THREADS'])")
    assert collect_stats.main([*recipe, "--nj", "2", "--cluster", f"{tmp_path}/slurm.yaml"]) == 0
    assert len(batch.scripts) == 1
    for job in (1, 2):
        log = (tmp_path / "out" / "logs" / f"stats.{job}.log").read_text().splitlines()
        assert log[0].startswith("# ")
        assert log[1:] == ["1"]
    batch.wait_until_empty()


def test_a_cluster_that_will_not_do_is_refused_first(
    recipe: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "slurm.yaml").write_text("system: slurm\npartition: x\n")
    assert collect_stats.main([*recipe, "--cluster", f"{tmp_path}/slurm.yaml"]) == 1
    assert "partition: unknown key; known: " in capsys.readouterr().err
    assert not (tmp_path / "out.tmp").exists()


def test_tokens_outside_the_list_are_counted(
    recipe: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs_run(monkeypatch, "raise SystemExit(1)")
    (tmp_path / "dev" / "text").write_text("u1 ab xyx\nu2 <na>\n")
    collect_stats.main(recipe)
    assert (
        f"warning: {tmp_path}/dev/text: 3 of 6 tokens, in 1 of 1 texts (first: u1), are not in the "
        "token list: 'x' (2 times), 'y' (1 times); they are read as <unk>"
    ) in capsys.readouterr().err


def test_a_token_list_of_other_text_is_an_error(
    recipe: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train" / "text").write_text("u1 xyz\nu2 <na>\n")
    assert collect_stats.main(recipe) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"error: {tmp_path}/train/text: 3 of 3 tokens")
    assert "run stage 5 again" in message


def test_a_missing_token_list_is_found_before_any_job(
    recipe: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tokens" / "tokens.txt").unlink()
    assert collect_stats.main(recipe) == 1
    assert "expected the result of stage 5" in capsys.readouterr().err
    assert not (tmp_path / "out.tmp").exists()


def test_empty_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "wav.scp").touch()
    with pytest.raises(ValueError, match="at least one utterance"):
        collect_stats.read_keys(tmp_path)
