# SPDX-License-Identifier: Apache-2.0
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from espnet_objsoup.data.parallel import map_jobs

_CALLS = []


def square(x: int) -> int:
    return x * x


def process_of(x: int) -> int:
    return os.getpid()


def wait_for_files(directory: Path, n: int) -> None:
    deadline = time.monotonic() + 300
    while len(list(directory.iterdir())) < n and time.monotonic() < deadline:
        time.sleep(0.01)


def first_waits(job: tuple[int, Path]) -> tuple[int, int, str]:
    """The first item ends after another process has done one."""
    x, directory = job
    (directory / str(os.getpid())).touch()
    if x == 0:
        wait_for_files(directory, 2)
    return x, os.getpid(), os.environ.get("OMP_NUM_THREADS", "")


def remember(x: int) -> int:
    _CALLS.append(x)
    return len(_CALLS)


def fail_at_two(x: int) -> int:
    if x == 2:
        raise ValueError("expected no two, found 2")
    return x


def die(x: int) -> int:
    if x == 1:
        os._exit(9)
    return x


def die_last(job: tuple[int, Path]) -> int:
    """Of 12 items one kills its process, when all others are done and none waits there with it."""
    x, directory = job
    if x == 1:
        wait_for_files(directory, 11)
        os._exit(9)
    (directory / str(x)).touch()
    return x


def die_once(marker: str) -> str:
    if not Path(marker).exists():
        Path(marker).touch()
        os._exit(9)
    return "done"


def children() -> set[str]:
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=True
    )
    return {pid for pid in found.stdout.split() if Path(f"/proc/{pid}").exists()}


def test_workers_keep_order_and_have_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    before = children()
    results = list(map_jobs(first_waits, [(x, tmp_path) for x in range(40)], 2, "test"))
    assert [x for x, _, _ in results] == list(range(40))
    pids = {pid for _, pid, _ in results}
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert {threads for _, _, threads in results} == {"1"}
    assert os.environ["OMP_NUM_THREADS"] == "4"
    left = {pid for pid in children() - before if int(pid) in pids}
    assert not left


def test_one_job_works_in_this_process_without_dask() -> None:
    assert set(map_jobs(process_of, range(2), 1, "test")) == {os.getpid()}
    assert list(map_jobs(square, [], 4, "test")) == []


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_fresh_process_carries_no_state(n_jobs: int) -> None:
    assert list(map_jobs(remember, range(5), n_jobs, "test", fresh_process=True)) == [1] * 5


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_error_of_the_work_is_raised_as_it_is(n_jobs: int) -> None:
    with pytest.raises(ValueError, match="expected no two, found 2"):
        list(map_jobs(fail_at_two, range(4), n_jobs, "test"))


def test_worker_that_dies_once_is_replaced(tmp_path: Path) -> None:
    markers = [str(tmp_path / name) for name in ("a", "b")]
    assert list(map_jobs(die_once, markers, 2, "test")) == ["done", "done"]


def test_worker_that_dies_again_is_reported_when_the_others_are_done(tmp_path: Path) -> None:
    results: list[int] = []
    items = [(x, tmp_path) for x in range(12)]
    jobs = map_jobs(die_last, items, 2, "format audio", name_of=lambda item: f"item {item[0]}")
    with pytest.raises(
        RuntimeError, match="format audio: worker processes died 4 .* --nj"
    ) as error:
        results.extend(jobs)
    lost = {int(line.removeprefix("item ")) for line in str(error.value).splitlines()[1:]}
    # The others were done when it first died, and so had to die with it three times at most.
    assert results == [0, *range(2, 12)]
    assert lost == {1}


@pytest.mark.parametrize("failures", [1, 4])
def test_worker_that_dies_while_it_starts(monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    import distributed

    original = distributed.LocalCluster
    left = failures

    class Dies(original):
        async def _start(self) -> None:
            nonlocal left
            await super()._start()
            if left:
                left -= 1
                raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr(distributed, "LocalCluster", Dies)
    if failures == 1:
        assert list(map_jobs(square, range(4), 2, "test")) == [0, 1, 4, 9]
    else:
        with pytest.raises(RuntimeError, match="one died 4 times while it started .* --nj"):
            list(map_jobs(square, range(4), 2, "test"))


def test_fresh_process_that_dies_is_reported() -> None:
    with pytest.raises(RuntimeError, match="synthesise: a process died .* --nj"):
        list(map_jobs(die, range(4), 2, "synthesise", fresh_process=True))


SCRIPT = """
import os, sys, time
from espnet_objsoup.data.parallel import map_jobs

def sleep(path):
    open(f"{path}.{os.getpid()}", "w").close()
    time.sleep(1000)

if __name__ == "__main__":
    list(map_jobs(sleep, [sys.argv[1]] * 2, 2, "sleep"))
"""


def test_interrupt_stops_at_once_and_leaves_no_process(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "pid")],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        # Ignored where tests run in the background, which Python would inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        deadline = time.monotonic() + 300
        while len(started := list(tmp_path.glob("pid.*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert len(started) == 2
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does for Ctrl-C
        assert process.wait(300) != 0  # far less than the work takes
    for path in started:
        assert not Path(f"/proc/{path.suffix[1:]}").exists()


def test_import_is_quick_and_free_of_torch() -> None:
    check = (
        "import sys, espnet_objsoup.bin.format_audio\n"
        "assert not {'torch', 'espnet2', 'dask', 'distributed'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", check], check=True)
