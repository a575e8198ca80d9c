# SPDX-License-Identifier: Apache-2.0
"""Command lines of training on several GPUs and machines, and options of clusters.

ESPnet's launcher is the real one; what it calls (slurm.pl, srun, mpirun, ssh) notes its words and
runs the command here, and training is a stub.
"""

import os
import shlex
import shutil
from pathlib import Path

import pytest

from .stub import TEMPLATE, Recipe

EXP = "exp/objsoup_train_raw_bpe_unigram250"
TRAIN = ("--stage", "11", "--stop_stage", "11")

# As Kaldi's slurm.pl is called: options, LOG, command.
SLURM_PL = r"""#!/usr/bin/env bash
printf '%q ' slurm.pl "$@" >>"${STUB_WORK}/started"; echo >>"${STUB_WORK}/started"
while [[ $1 == -* ]]; do shift 2; done
log=$1
shift
"$@" >"${log}" 2>&1
"""
SRUN = r"""#!/usr/bin/env bash
printf '%q ' srun "$@" >>"${STUB_WORK}/started"; echo >>"${STUB_WORK}/started"
while [[ $1 == -* ]]; do shift; done
"$@"
"""
MPIRUN = r"""#!/usr/bin/env bash
printf '%q ' mpirun "$@" >>"${STUB_WORK}/started"; echo >>"${STUB_WORK}/started"
while [[ $1 == -* ]]; do shift 2; done
"$@"
"""
# A remote shell: its own environment, the home directory, the words put together.
SSH = r"""#!/usr/bin/env bash
printf 'ssh %s\n' "$1" >>"${STUB_WORK}/started"
shift
cd / && exec env -i HOME="${HOME}" STUB_WORK="${STUB_WORK}" PATH=/usr/bin:/bin bash -c "$*"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    made = Recipe.make(tmp_path)
    commands = tmp_path / "commands"
    commands.mkdir()
    for name, text in (
        ("slurm.pl", SLURM_PL),
        ("srun", SRUN),
        ("mpirun", MPIRUN),
        ("ssh", SSH),
        ("sbatch", "#!/bin/sh\n"),
        ("scancel", "#!/bin/sh\n"),
    ):
        made.write_script(commands / name, text)
    return made


def trained(
    recipe: Recipe, *arguments: str, train_cmd: str = ""
) -> tuple[list[list[str]], list[list[str]]]:
    """What was started to start training, and the commands of training."""
    calls = recipe.calls(
        *TRAIN,
        *arguments,
        STUB_LAUNCH="1",
        STUB_GPUS="8",
        train_cmd=train_cmd,
        PATH=f"{recipe.work.parent / 'commands'}:{os.environ['PATH']}",
    )
    started = recipe.work / "started"
    lines = started.read_text().splitlines() if started.exists() else []
    return [shlex.split(line) for line in lines], calls


def options(call: list[str]) -> dict[str, str]:
    """Options of a training command."""
    assert call[:2] == ["-m", "espnet_objsoup.bin.train"]
    values = dict(zip(call[2::2], call[3::2], strict=True))
    assert values["--output_dir"] == EXP
    assert values["--stats_dir"] == "exp/objsoup_stats_raw_bpe_unigram250"
    return values


def test_several_gpus_of_this_machine(recipe: Recipe) -> None:
    started, (call,) = trained(recipe, "--ngpu", "4")
    assert started == []
    wanted = {"--ngpu": "4", "--multiprocessing_distributed": "True"}
    assert options(call).items() >= wanted.items()
    assert (recipe.path / EXP / "train.log").exists()


def test_one_machine_of_a_queue(recipe: Recipe) -> None:
    started, (call,) = trained(recipe, "--ngpu", "4", train_cmd="slurm.pl -p gpu")
    assert started[0][:6] == ["slurm.pl", "-p", "gpu", "--gpu", "4", f"{EXP}/train.log"]
    assert options(call)["--ngpu"] == "4"


def test_several_machines_of_slurm(recipe: Recipe) -> None:
    started, (call,) = trained(
        recipe, "--ngpu", "4", "--num_nodes", "2", train_cmd="slurm.pl -p gpu"
    )
    head = "slurm.pl -p gpu --gpu 4 --num_threads 4 --num_nodes 2".split()
    assert started[0][: len(head) + 3] == [*head, f"{EXP}/train.log", "srun", "--export=ALL"]
    values = options(call)
    assert values["--dist_launcher"] == "slurm"
    assert values["--ngpu"] == "4"
    assert values["--multiprocessing_distributed"] == "true"
    assert values["--dist_init_method"].startswith(f"file://{recipe.path}/{EXP}/.dist_init_")


@pytest.mark.parametrize("train_cmd", ["", "env"])
def test_several_machines_by_mpirun(recipe: Recipe, train_cmd: str) -> None:
    """Of a job that has them, or through a command such as queue.pl."""
    if train_cmd:
        queue = SLURM_PL.replace("slurm.pl", "queue.pl")
        recipe.write_script(recipe.work.parent / "commands" / "queue.pl", queue)
        train_cmd = "queue.pl"
    started, (call,) = trained(recipe, "--ngpu", "2", "--num_nodes", "3", train_cmd=train_cmd)
    assert started[-1][:3] == ["mpirun", "-np", "3"]
    if train_cmd:
        assert started[0][:7] == "queue.pl --gpu 2 --num_threads 2 --num_nodes 3".split()
    values = options(call)
    assert values["--dist_launcher"] == "mpi"
    assert values["--ngpu"] == "2"
    assert values["--dist_init_method"].startswith(f"file://{recipe.path}/{EXP}/.dist_init_")


def test_machines_reached_by_ssh(recipe: Recipe) -> None:
    """Each GPU is a process; they find directory, interpreter and each other."""
    started, calls = trained(recipe, "--host", "node1:0:1,node2:3", "--ngpu", "1")
    assert sorted(started) == [["ssh", "node1"], ["ssh", "node1"], ["ssh", "node2"]]
    found = sorted((options(call) for call in calls), key=lambda o: o["--dist_rank"])
    ranks = [(o["--dist_rank"], o["--local_rank"], o["--dist_world_size"]) for o in found]
    assert ranks == [("0", "0", "3"), ("1", "1", "3"), ("2", "3", "3")]
    assert len({o["--dist_init_method"] for o in found}) == 1
    assert {o["--ngpu"] for o in found} == {"1"}
    environment = (recipe.path / EXP / ".environment.sh").read_text()
    assert "export LC_ALL=C\n" in environment


def test_torchrun_on_one_machine(recipe: Recipe) -> None:
    started, (call,) = trained(recipe, "--ngpu", "4", "--launcher", "torchrun")
    assert started == []
    head = "-m torch.distributed.run --standalone --nproc_per_node 4".split()
    assert call[: len(head)] == head
    values = options(call[len(head) :])
    assert values["--ngpu"] == "1"
    assert values["--multiprocessing_distributed"] == "false"
    assert (recipe.path / EXP / "train.log").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "a b"], "--host: expected machines and GPUs, such as node1:0:1,node2:0:1"),
        (["--host", "a:x"], "--host: expected machines and GPUs"),
        (["--host", "a,b", "--num_nodes", "2"], "--num_nodes: expected nothing beside --host"),
        (["--launcher", "torchrun"], "--ngpu: expected at least 1 with --launcher torchrun"),
        (["--launcher", "torchrun", "--ngpu", "1", "--num_nodes", "2"], "--launcher: expected lau"),
        (["--launcher", "mpi"], "--launcher: expected one of launch, torchrun"),
        (["--cluster", "conf/none.yaml"], "--cluster: expected a file, seen from"),
    ],
)
def test_options_that_do_not_go_together(
    recipe: Recipe, arguments: list[str], message: str
) -> None:
    finished = recipe.run(*arguments, STUB_GPUS="8")
    assert finished.returncode == 2
    assert message in finished.stderr
    assert recipe.noted() == []


# Clusters


def with_commands(recipe: Recipe) -> dict[str, str]:
    return {"PATH": f"{recipe.work.parent / 'commands'}:{os.environ['PATH']}"}


def test_stages_3_10_and_12_get_the_cluster(recipe: Recipe) -> None:
    """The template's example, without a copy in the recipe; as many jobs as asked for."""
    calls = recipe.calls(
        "--cluster", "conf/cluster/slurm.yaml", "--nj", "50", "--inference_nj", "20",
        "--gpu_inference", "true", **with_commands(recipe),
    )  # fmt: skip
    path = str(TEMPLATE / "conf" / "cluster" / "slurm.yaml")
    by_name = {call[1].rpartition(".")[2]: call for call in calls if call[0] == "-m"}
    found = {name for name, call in by_name.items() if "--cluster" in call}
    assert found == {"format_audio", "collect_stats", "decode"}
    for name, nj in (("format_audio", "50"), ("collect_stats", "50"), ("decode", "20")):
        call = by_name[name]
        assert call[call.index("--cluster") + 1] == path
        assert call[call.index("--nj") + 1] == nj
    assert by_name["decode"][by_name["decode"].index("--ngpu") + 1] == "1"


def test_a_recipe_has_its_own_and_it_is_not_an_option_of_the_result(recipe: Recipe) -> None:
    own = recipe.path / "conf" / "cluster" / "slurm.yaml"
    own.parent.mkdir()
    own.write_text("system: slurm\ncores: 1\nmemory: 1GB\n")
    calls = recipe.calls("--cluster", "conf/cluster/slurm.yaml", **with_commands(recipe))
    used = [call[call.index("--cluster") + 1] for call in calls if "--cluster" in call]
    assert set(used) == {"conf/cluster/slurm.yaml"}
    assert recipe.ran() == []


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        ("system: slurm\npartition: x\n", True, "partition: unknown key; known: cores, processes"),
        ("system: lsf\ncores: 1\nmemory: 1GB\n", False, "commands bsub and bkill on PATH"),
    ],
    ids=["a mistake", "no LSF here"],
)
def test_a_cluster_that_will_not_do_is_said_before_anything_starts(
    recipe: Recipe, text: str, environment: bool, message: str
) -> None:
    if not environment and shutil.which("bsub"):
        pytest.skip("LSF is installed here")
    (recipe.path / "conf" / "c.yaml").write_text(text)
    more = with_commands(recipe) if environment else {}
    finished = recipe.run("--cluster", "conf/c.yaml", **more)
    assert finished.returncode == 2
    assert message in finished.stderr
    assert recipe.noted() == []
    # Stages that do not use it do not ask for it.
    assert recipe.run("--cluster", "conf/c.yaml", "--stop_stage", "2").returncode == 0
