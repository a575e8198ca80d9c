# SPDX-License-Identifier: Apache-2.0
"""Several processes on a CPU (gloo), started by torchrun."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from espnet_objsoup.train.objsoup_trainer import ObjSoupTrainer

from ..ports import free_port
from ..unit.experiment import CONFIG, TOKENS
from ..unit.train.toy import ToyData, ToyModel, parameters, run
from .distributed_worker import SOUPS, OneAfterTheOther, Shard

ROOT = Path(__file__).parents[2]


def torchrun(n: int, *command: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("CUDA_VISIBLE_DEVICES", None)  # an empty value would stop torchrun
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(n)]
    finished = subprocess.run(
        [*launcher, "--master_port", str(free_port()), *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    trace = finished.stderr.partition("Traceback")
    assert finished.returncode == 0, trace[2][:4000] or finished.stderr[-2000:]
    return finished


@pytest.fixture(scope="module", params=[2, 4], ids="{} processes".format)
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, torch.Tensor]]:
    """What every process saved."""
    out = tmp_path_factory.mktemp("distributed")
    torchrun(request.param, "-m", "tests.integration.distributed_worker", str(out))
    return [torch.load(out / f"{rank}.pth") for rank in range(request.param)]


def test_all_processes_have_the_same_parameters(found: list[dict]) -> None:
    for name, value in found[0].items():
        assert all(torch.equal(value, other[name]) for other in found[1:]), name
        assert not torch.equal(value, parameters(ToyModel())), name


@pytest.mark.parametrize("accumulation", ["", "_accumulated"])
def test_step_of_several_processes_is_espnets(found: list[dict], accumulation: str) -> None:
    assert torch.equal(found[0][f"ours{accumulation}"], found[0][f"espnet{accumulation}"])


@pytest.mark.parametrize(
    ("name", "changes"),
    [("static", {}), ("static_accumulated", {"accum_grad": 2}), ("static_by_objective", {})],
)
def test_static_on_shards_is_one_process_on_the_union(
    found: list[dict], tmp_path: Path, name: str, changes: dict
) -> None:
    data = ToyData()
    data.expected_counts = Shard.expected_counts
    one = parameters(run(ObjSoupTrainer, tmp_path, data=data, **changes))
    torch.testing.assert_close(found[0][name], one, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("by_objective", [False, True])
@pytest.mark.parametrize("name", SOUPS)
def test_soup_of_processes_is_one_process_on_their_micro_batches(
    found: list[dict], tmp_path: Path, name: str, by_objective: bool
) -> None:
    """Sums of pairs within processes and within micro-batches are the same sums."""
    n = len(found)
    data = OneAfterTheOther([Shard(rank, n, by_objective) for rank in range(n)])
    model = run(ObjSoupTrainer, tmp_path, data=data, trainer_conf=SOUPS[name], accum_grad=n)
    ours = found[0][f"{name}_by_objective" if by_objective else name]
    torch.testing.assert_close(ours, parameters(model), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("suffix", ["", "_accumulated", "_by_objective"])
def test_all_processes_have_the_same_weights(found: list[dict], suffix: str) -> None:
    for name in ("flat", "random"):
        factors = [of_process[f"{name}{suffix} factors"] for of_process in found]
        assert all(torch.equal(factors[0], other) for other in factors[1:])
        assert factors[0].max() - factors[0].min() > 1e-3


def test_bytes_that_a_soup_moves(found: list[dict]) -> None:
    """Per step: counts and losses, the loss for the log; where measured, sums of K x K pairs."""
    k, double = 3, 8
    steps, epochs, of_train, of_valid = 12, 2, 6, 2
    counts_and_losses = 2 * k * double
    sums = (2 * k * k + 2 * k) * double
    sizes = found[0]["flat bytes"].tolist()
    assert sizes.count(counts_and_losses) == sizes.count(sums) == steps
    others = [size for size in sizes if size not in (counts_and_losses, sums)]
    # ESPnet's handshake before every batch and after the last, and the weight of its averages.
    of_espnet = epochs * (of_train + 1 + of_valid + 1 + of_train + of_valid)
    # And, once an epoch, how many batches the process with the fewest has.
    assert others == [double] * (of_espnet + steps + epochs)


def write_data(directory: Path, n: int) -> None:
    """English with transcripts, French with transcripts and translations; noise as speech."""
    draw = np.random.default_rng(n)
    directory.mkdir(parents=True)
    columns: dict[str, list[str]] = {
        name: [] for name in ("wav.scp", "text", "st_text", "utt2lang", "utt2tgt", "speech_shape")
    }
    for i in range(n):
        key, french = f"u{i:03d}", i % 2 == 1
        samples = int(draw.integers(8000, 16000))
        soundfile.write(directory / f"{key}.wav", 0.1 * draw.standard_normal(samples), 16000)
        row = {
            "wav.scp": str(directory / f"{key}.wav"),
            "text": "abc def",
            "st_text": "ghi" if french else "<na>",
            "utt2lang": "fr" if french else "en",
            "utt2tgt": "en" if french else "<na>",
            "speech_shape": str(samples),
        }
        for name, value in row.items():
            columns[name].append(f"{key} {value}\n")
    for name, lines in columns.items():
        (directory / name).write_text("".join(lines))


def write_inputs(directory: Path, **sizes: int) -> None:
    """What training needs: data of so many utterances by split, their lengths, tokens."""
    for split, n in sizes.items():
        write_data(directory / "data" / split, n)
        stats = directory / "stats" / split
        stats.mkdir(parents=True)
        (directory / "data" / split / "speech_shape").rename(stats / "speech_shape")
    (directory / "tokens").mkdir()
    (directory / "tokens" / "tokens.txt").write_text("\n".join(TOKENS) + "\n")


@pytest.mark.parametrize("trainer", ["default", "objsoup"])
def test_training_command_under_torchrun(tmp_path: Path, trainer: str) -> None:
    import yaml

    write_inputs(tmp_path, train=24, valid=8)
    conf = {
        **{key: value for key, value in CONFIG.items() if key not in ("objectives", "token_type")},
        "trainer": trainer,
        "normalize": "utterance_mvn",
        "batch_bins": 128000,
        "max_epoch": 1,
        "num_att_plot": 0,
        "use_tensorboard": False,
        "use_matplotlib": False,
        "optim": "adam",
        "keep_nbest_models": 1,
    }
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(conf))
    finished = torchrun(
        2,
        *("-m", "espnet_objsoup.bin.train", "--dist_backend", "gloo"),
        *("--config", str(tmp_path / "train.yaml"), "--output_dir", str(tmp_path / "exp")),
        *("--train_dir", str(tmp_path / "data/train"), "--valid_dir", str(tmp_path / "data/valid")),
        *("--stats_dir", str(tmp_path / "stats"), "--token_dir", str(tmp_path / "tokens")),
    )
    assert (tmp_path / "exp/valid.loss.ave.pth").exists()
    config = yaml.safe_load((tmp_path / "exp/config.yaml").read_text())
    assert config["distributed"] is True
    assert "process 1 of 2" in finished.stderr
