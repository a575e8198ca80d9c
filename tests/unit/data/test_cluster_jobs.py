# SPDX-License-Identifier: Apache-2.0
"""Work in jobs of a batch system, which is a stand-in that runs them on this machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
import yaml

from espnet_objsoup.bin import format_audio as command
from espnet_objsoup.data import cluster_jobs
from espnet_objsoup.data.cluster_jobs import client_starter
from espnet_objsoup.data.commands import Command, run_commands
from espnet_objsoup.data.datadir import read, write

from .factory import make_data, tone
from .fake_batch import COMMANDS, FakeBatch, make_batch


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[FakeBatch, Path]]:
    """A batch system and a file for it."""
    monkeypatch.setattr(cluster_jobs, "_POLL_S", 0.3)

    def make_system(system: str, **more: object) -> tuple[FakeBatch, Path]:
        batch = make_batch(system, tmp_path, monkeypatch)
        path = tmp_path / f"{system}.yaml"
        conf = {"system": system, "cores": 1, "memory": "2GB", "interface": "lo", **more}
        path.write_text(yaml.safe_dump(conf))
        return batch, path

    return make_system


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A data directory with three recordings of another rate."""
    data = make_data()
    for key in data.columns["wav.scp"]:
        soundfile.write(tmp_path / f"{key}.wav", tone(0.3, 8000), 8000)
        data.columns["wav.scp"][key] = str(tmp_path / f"{key}.wav")
    write(data, tmp_path / "source")
    return tmp_path / "source"


def shell(script: str, log: Path) -> Command:
    return Command(("bash", "-c", script), str(log))


@pytest.mark.parametrize("system", COMMANDS)
def test_audio_is_formatted_by_a_job(
    system: str,
    make: Callable[..., tuple[FakeBatch, Path]],
    source: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture,
) -> None:
    batch, path = make(system)
    targets = [tmp_path / "local", tmp_path / "cluster"]
    assert command.main([str(source), str(targets[0]), "--nj", "1"]) == 0
    words = [str(source), str(targets[1]), "--nj", "2", "--cluster", str(path)]
    assert command.main(words) == 0
    submit, cancel, _ = COMMANDS[system]
    assert len(batch.calls(submit)) == len(batch.scripts) == 1  # as many as there are shards
    assert "--tls-key" in batch.scripts[0]
    assert f"{system}: jobs 1 are submitted" in capfd.readouterr().err
    local, distant = (read(target) for target in targets)
    for name in ("utt2num_samples", "text", "utt2spk"):
        assert distant.columns[name] == local.columns[name]
    for key, location in distant.columns["wav.scp"].items():
        assert Path(location).read_bytes() == Path(local.columns["wav.scp"][key]).read_bytes()
    assert len(batch.calls(cancel)) == 1
    batch.wait_until_empty()
    # Keys of the encrypted connection do not stay.
    assert not list((targets[1] / "logs").glob(".*"))


def test_commands_run_in_jobs_with_their_environment(
    make: Callable[..., tuple[FakeBatch, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, path = make("slurm", cores=2, processes=2)
    monkeypatch.chdir(tmp_path)
    # Each waits for the others: two workers could otherwise do all before the second job is sent.
    others = "until [ -e a0.here -a -e a1.here -a -e a2.here ]; do sleep 0.1; done"
    commands = [
        Command(
            ("bash", "-c", f"touch $A.here; timeout 300 sh -c '{others}'; echo $A $PWD; exit {n}"),
            f"{n}.log",
            {"A": f"a{n}"},
        )
        for n in range(3)
    ]
    ended = sorted(run_commands(commands, 3, client_starter(path, batch.logs)))
    assert ended == [(0, 0), (1, 1), (2, 2)]
    assert len(batch.scripts) == 2  # jobs of two workers
    for n in range(3):
        assert (tmp_path / f"{n}.log").read_text() == f"a{n} {tmp_path}\n"
    batch.wait_until_empty()


def test_a_job_that_is_lost_is_replaced(
    make: Callable[..., tuple[FakeBatch, Path]], tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    batch, path = make("slurm")
    kill = f"if mkdir {tmp_path}/first; then kill -9 -$(cat {batch.work}/1.pid); fi; sleep 0.5"
    commands = [shell(kill, tmp_path / "log")]
    assert list(run_commands(commands, 1, client_starter(path, batch.logs))) == [(0, 0)]
    assert len(batch.scripts) == 2
    assert "1 job(s) were lost and replaced" in capfd.readouterr().err
    batch.wait_until_empty()


def test_jobs_that_end_without_connecting_are_reported(
    make: Callable[..., tuple[FakeBatch, Path]], tmp_path: Path
) -> None:
    batch, path = make("slurm", job_script_prologue=["echo no such module", "exit 1"])
    commands = [shell("true", tmp_path / "log")]
    with pytest.raises(RuntimeError, match=r"found that all have ended; .*ends:\n  no such module"):
        list(run_commands(commands, 1, client_starter(path, batch.logs)))
    assert len(batch.scripts) == 1


def test_a_refused_submission_is_reported(
    make: Callable[..., tuple[FakeBatch, Path]], tmp_path: Path
) -> None:
    batch, path = make("slurm")
    (batch.work / "refuse").touch()
    with pytest.raises(RuntimeError, match="error: invalid account"):
        list(run_commands([shell("true", tmp_path / "log")], 1, client_starter(path, batch.logs)))


SCRIPT = """
import pathlib, sys
from espnet_objsoup.data.cluster_jobs import client_starter
from espnet_objsoup.data.commands import Command, run_commands

if __name__ == "__main__":
    conf, logs, marker = map(pathlib.Path, sys.argv[1:])
    command = Command(("bash", "-c", f"echo $$ > {marker}; sleep 3000"), f"{marker}.log")
    list(run_commands([command], 1, client_starter(conf, logs)))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_no_job_is_left_behind_by_an_interrupt(
    make: Callable[..., tuple[FakeBatch, Path]], tmp_path: Path, number: int
) -> None:
    batch, path = make("slurm")
    script, marker = tmp_path / "script.py", tmp_path / "marker"
    script.write_text(SCRIPT)
    with subprocess.Popen(
        [sys.executable, str(script), str(path), str(batch.logs), str(marker)],
        stderr=subprocess.DEVNULL,
        # Ignored where tests run in the background, which Python would inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        deadline = time.monotonic() + 300
        while not (marker.exists() and marker.read_text().strip()):
            assert time.monotonic() < deadline, "the job has not begun"
            time.sleep(0.1)
        assert batch.running
        os.kill(process.pid, number)
        assert process.wait(120) != 0
    assert batch.calls("scancel")
    batch.wait_until_empty()
    deadline = time.monotonic() + 120
    while Path("/proc", marker.read_text().strip()).exists():
        assert time.monotonic() < deadline, "what the job started goes on"
        time.sleep(0.1)
