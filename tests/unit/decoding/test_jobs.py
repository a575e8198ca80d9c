# SPDX-License-Identifier: Apache-2.0
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from espnet_objsoup.data.cluster import read_cluster
from espnet_objsoup.data.cluster_jobs import client_starter
from espnet_objsoup.data.datadir import DataDir
from espnet_objsoup.decoding import jobs
from espnet_objsoup.decoding.options import DecodeOptions, SearchOptions
from espnet_objsoup.decoding.worker import Request, batches

from ..data.factory import make_data
from ..data.fake_batch import make_batch
from ..full_disk import files_up_to

# Stands for the worker: it takes its share and writes a text, without loading a model.
WORKER = """
import json, pathlib, sys, time
share = pathlib.Path(sys.argv[1])
keys = json.loads(share.read_text())["keys"]
{body}
share.with_suffix(".progress").write_text(str(len(keys)))
table = {{key: "t" for key in keys}}
tables = {{"asr": dict.fromkeys(("text", "token", "token_int", "score"), table)}}
speed = {{"utterances": len(keys), "audio_s": 2.0, "seconds": 3.0, "wall_s": 3.0}}
content = {{"tables": tables, **speed}}
share.with_suffix(".done").write_text(json.dumps(content))
print("done", flush=True)
"""
FAIL_SECOND = 'if share.stem == "2": print("some help"); sys.exit("error: no such thing")'


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    for name in ("config.yaml", "model.pth"):
        (tmp_path / name).write_text("x")
    return Request(tmp_path / "config.yaml", tmp_path / "model.pth", tmp_path / "test")


@pytest.fixture
def data() -> DataDir:
    data = make_data()
    data.columns["utt2num_samples"] = {"en-c-u3": "30", "fr-a-u1": "10", "fr-b-u2": "20"}
    return data


def run(request: Request, data: DataDir, output_dir: Path, body: str = "") -> jobs.Output:
    def command(share: Path) -> list[str]:
        return [sys.executable, "-c", WORKER.format(body=body), str(share)]

    return jobs.decode_in_jobs(request, data, data.utterances, output_dir, 2, command=command)


def test_shares_are_balanced_and_complete() -> None:
    durations = {f"u{i}": 1 + i * i % 37 for i in range(50)}
    shares = jobs.balance(durations, 4)
    assert sorted(key for share in shares for key in share) == sorted(durations)
    loads = [sum(durations[key] for key in share) for share in shares]
    assert max(loads) - min(loads) <= max(durations.values())
    assert max(loads) < 1.1 * sum(loads) / 4
    assert all(jobs.balance({"a": 1, "b": 1}, 2))


def test_batches_hold_every_utterance_once_by_length(data: DataDir) -> None:
    found = list(batches(data, data.utterances, 2))
    assert found == [["en-c-u3", "fr-b-u2"], ["fr-a-u1"]]


def test_devices_take_turns() -> None:
    assert jobs.assign_devices(["0", "3"], 5) == ["0", "3", "0", "3", "0"]
    assert jobs.assign_devices(["GPU-a"], 2) == ["GPU-a", "GPU-a"]
    found = jobs._environments(3, ["0", "3"])
    assert [one["CUDA_VISIBLE_DEVICES"] for one in found] == ["0", "3", "0"]


def test_visible_devices_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 6")
    assert jobs.visible_devices() == ["4", "6"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert jobs.visible_devices() == ["0", "1"]


def test_results_of_all_jobs_come_together(
    request_: Request, data: DataDir, tmp_path: Path
) -> None:
    output = run(request_, data, tmp_path / "out")
    assert set(output.tables["asr"]["text"]) == set(data.utterances)
    # Both processes spent 3 s on 2 s of audio: that is the factor of one process.
    assert output.speed["rtf"] == 1.5
    assert output.speed["utterances_per_second"] == 1.0
    assert (tmp_path / "out/logs/objsoup_inference.2.log").read_text() == "done\n"


def test_jobs_of_a_cluster_decode(
    request_: Request, data: DataDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = make_batch("slurm", tmp_path, monkeypatch)
    conf = {"system": "slurm", "cores": 6, "processes": 2, "memory": "2GB", "interface": "lo"}
    (tmp_path / "slurm.yaml").write_text(yaml.safe_dump(conf))
    body = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ.get('CUDA_VISIBLE_DEVICES'))"
    output = jobs.decode_in_jobs(
        request_,
        data,
        data.utterances,
        tmp_path / "out",
        2,
        command=lambda share: [sys.executable, "-c", WORKER.format(body=body), str(share)],
        start_client=client_starter(tmp_path / "slurm.yaml", tmp_path / "out" / "logs"),
        threads=read_cluster(tmp_path / "slurm.yaml").threads,
    )
    assert set(output.tables["asr"]["text"]) == set(data.utterances)
    assert len(batch.scripts) == 1
    assert (tmp_path / "out/logs/objsoup_inference.2.log").read_text() == "3 None\ndone\n"
    batch.wait_until_empty()


def test_failed_job_is_named_and_finished_ones_are_kept(
    request_: Request, data: DataDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RuntimeError) as caught:
        run(request_, data, tmp_path / "out", FAIL_SECOND)
    message = str(caught.value)
    assert "1 of 2 jobs failed: 2 (results of the other 1 are kept" in message
    assert "objsoup_inference.2.log ends:\n  error: no such thing" in message
    (tmp_path / "out" / ".jobs" / "2.progress").write_text("1")  # left by the one that failed
    count = "assert not share.with_suffix('.progress').exists()"
    count += f"; open({str(tmp_path / 'count')!r}, 'a').write(share.stem)"
    output = run(request_, data, tmp_path / "out", count)
    assert "jobs of an earlier run are kept: 1" in capsys.readouterr().out
    assert (tmp_path / "count").read_text() == "2"
    assert set(output.tables["asr"]["text"]) == set(data.utterances)


def test_other_options_or_weights_start_afresh(
    request_: Request, data: DataDir, tmp_path: Path
) -> None:
    for change in ("options", "weights"):
        with pytest.raises(RuntimeError):
            run(request_, data, tmp_path / "out", FAIL_SECOND)
        other = request_
        if change == "options":
            other = Request(
                request_.train_config, request_.model_file, request_.data_dir,
                DecodeOptions(SearchOptions(beam_size=9)),
            )  # fmt: skip
        else:
            request_.model_file.write_text("other")
        count = tmp_path / f"count_{change}"
        run(other, data, tmp_path / "out", f"open({str(count)!r}, 'a').write(share.stem)")
        assert sorted(count.read_text()) == ["1", "2"]


def test_job_that_was_killed(request_: Request, data: DataDir, tmp_path: Path) -> None:
    body = 'import os; print("last words", flush=True); os.kill(os.getpid(), 9)'
    with pytest.raises(RuntimeError, match=r"1 \(it was killed 4 times, .*[\s\S]*last words"):
        run(request_, data, tmp_path / "out", body)


def test_full_disk_keeps_the_hypotheses_that_were_there(
    request_: Request, data: DataDir, tmp_path: Path
) -> None:
    output = run(request_, data, tmp_path / "out")
    output.write(tmp_path / "out", {})
    before = (tmp_path / "out/asr/text").read_text()
    for table in output.tables["asr"].values():
        table["en-c-u3"] = "n" * 3000
    with files_up_to(1000), pytest.raises(OSError, match=r"not written, run again.*out/\.new/asr"):
        output.write(tmp_path / "out", {})
    assert (tmp_path / "out/asr/text").read_text() == before
    assert (tmp_path / "out/decode.json").exists()
    output.write(tmp_path / "out", {})
    assert "n" * 3000 in (tmp_path / "out/asr/text").read_text()
    assert not (tmp_path / "out/.new").exists()


def test_full_disk_while_shares_are_written(
    request_: Request, data: DataDir, tmp_path: Path
) -> None:
    with files_up_to(100), pytest.raises(OSError, match=r"not written, run again.*\.jobs/1\.json"):
        run(request_, data, tmp_path / "out")
    assert set(run(request_, data, tmp_path / "out").tables["asr"]["text"]) == set(data.utterances)


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Ctrl-C is heard, also where tests run in the background and it would be ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_ends_all_jobs(
    request_: Request, data: DataDir, tmp_path: Path, interrupts: None, signal_: int
) -> None:
    body = (
        f"import os; pid = pathlib.Path({str(tmp_path)!r}, share.stem + '.new'); "
        "pid.write_text(str(os.getpid())); pid.rename(pid.with_suffix('')); time.sleep(1000)"
    )

    def interrupt() -> None:
        while not all((tmp_path / n).exists() for n in "12"):
            time.sleep(0.05)
        time.sleep(0.3)
        os.kill(os.getpid(), signal_)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run(request_, data, tmp_path / "out", body)
    thread.join()
    deadline = time.monotonic() + 120
    while any(Path("/proc", (tmp_path / number).read_text()).exists() for number in "12"):
        assert time.monotonic() < deadline, "jobs go on"
        time.sleep(0.05)


def test_request_survives_json(request_: Request) -> None:
    options = DecodeOptions(SearchOptions(beam_size=4, ctc_weight=0.2), 3, True)
    full = Request(
        request_.train_config, request_.model_file, request_.data_dir, options, 7, "cuda", "float64"
    )
    assert Request.from_json(json.loads(json.dumps(full.to_json()))) == full


def test_options_and_jobs_import_no_torch() -> None:
    code = "import espnet_objsoup.bin.decode, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
