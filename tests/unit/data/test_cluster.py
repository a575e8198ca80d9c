# SPDX-License-Identifier: Apache-2.0
"""Configurations of clusters, and the jobs that they make."""

import importlib.util
import inspect
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from espnet_objsoup.bin import cluster as command
from espnet_objsoup.data.cluster import (
    COMMON_KEYS,
    SYSTEMS,
    ClusterError,
    job_script,
    read_cluster,
)

from .fake_batch import make_batch

CONF = Path(__file__).parents[3] / "egs2" / "TEMPLATE" / "objsoup1" / "conf" / "cluster"
SMALL = {"cores": 4, "processes": 2, "memory": "8GB", "walltime": "04:00:00"}


def write(path: Path, **conf: object) -> Path:
    path.write_text(yaml.safe_dump(conf))
    return path


def lines_of(system: str, path: Path, logs: Path) -> list[str]:
    return job_script(read_cluster(path), logs).splitlines()


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that will do."""
    make_batch("slurm", tmp_path, monkeypatch)
    return write(tmp_path / "c.yaml", system="slurm", **SMALL)


@pytest.mark.parametrize("system", SYSTEMS)
def test_known_keys_are_those_of_dask_jobqueue(system: str) -> None:
    import dask_jobqueue

    kind = getattr(dask_jobqueue, SYSTEMS[system].cluster)
    names = set()
    for item in (*kind.job_cls.__mro__, *kind.__mro__):
        names |= set(inspect.signature(item.__init__).parameters)
    own = {"system", "tls"}
    assert {*COMMON_KEYS, *SYSTEMS[system].keys} - own <= names


EXPECTED = {
    "slurm": [
        "#SBATCH -J objsoup",
        "#SBATCH -p short",
        "#SBATCH -A money",
        "#SBATCH -n 1",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --mem=8G",
        "#SBATCH -t 04:00:00",
        "#SBATCH --gres=gpu:1",
        "#SBATCH -o {logs}/objsoup-%J.out",
    ],
    "pbs": [
        "#PBS -N objsoup",
        "#PBS -q short",
        "#PBS -A money",
        "#PBS -l select=1:ncpus=4:mem=7630MB",
        "#PBS -l walltime=04:00:00",
        "#PBS --gres=gpu:1",
        "#PBS -o {logs}/",
    ],
    "sge": [
        "#$ -N objsoup",
        "#$ -q short",
        "#$ -P money",
        "#$ -l h_rt=04:00:00",
        "#$ -cwd",
        "#$ --gres=gpu:1",
        "#$ -o {logs}/",
    ],
    "lsf": [
        "#BSUB -J objsoup",
        "#BSUB -q short",
        '#BSUB -P "money"',
        "#BSUB -n 4",
        '#BSUB -R "span[hosts=1]"',
        "#BSUB -M 8000",
        "#BSUB -W 04:00:00",
        "#BSUB --gres=gpu:1",
    ],
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_script_of_a_job(
    system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    make_batch(system, tmp_path, monkeypatch)
    work = tmp_path / "two words"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("PYTHONPATH", "/a b:/c")
    payer = {"slurm": "account", "pbs": "account"}.get(system, "project")
    more = {payer: "money", "queue": "short", "job_extra_directives": ["--gres=gpu:1"]}
    more |= {"job_script_prologue": ["module load x"], "python": "/venv/bin/python"}
    if system == "lsf":
        more["lsf_units"] = "mb"
    path = write(tmp_path / "c.yaml", system=system, **SMALL, **more)
    logs = tmp_path / "logs"
    script = lines_of(system, path, logs)
    assert script[0].startswith("#!")
    missing = {line.format(logs=logs) for line in EXPECTED[system]} - set(script)
    assert not missing
    # Ours comes after the user's own; then the worker, one piece of work at a time.
    begin = script.index("module load x")
    assert script[begin + 1] == f"cd '{work}' || exit 1"
    assert "export OMP_NUM_THREADS=1" in script[begin:]
    assert "export PYTHONPATH='/a b:/c'" in script[begin:]
    words = script[-1].split()
    assert words[:4] == ["/venv/bin/python", "-m", "distributed.cli.dask_worker", "tcp://ADDRESS"]
    assert words[words.index("--nthreads") + 1] == "1"
    assert words[words.index("--nworkers") + 1] == "2"
    assert words[words.index("--death-timeout") + 1] == "60"
    parsed = subprocess.run(["bash", "-n"], input="\n".join(script), text=True, check=False)
    assert parsed.returncode == 0


@pytest.mark.parametrize("system", SYSTEMS)
def test_examples_will_do(
    system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    make_batch(system, tmp_path, monkeypatch)
    path, logs = CONF / f"{system}.yaml", tmp_path / "logs"
    assert command.main(["--config", str(path), "--nj", "6", "--logs", str(logs)]) == 0
    output = capsys.readouterr().out
    assert "distributed.cli.dask_worker" in output
    assert "2 job(s) for 6 worker(s)" in output
    # What is commented out are keys as well.
    text = path.read_text().replace("\n# job_", "\njob_").replace("\n# ", "\n")
    conf = yaml.safe_load("\n".join(line for line in text.splitlines()[2:]))
    every = write(tmp_path / "every.yaml", **conf)
    assert len(conf) > 8
    assert read_cluster(every).cores == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"partition": "x"}, r"c\.yaml: partition: unknown key; known: cores, .*account, job_cpu"),
        ({"project": "x"}, r"c\.yaml: project: unknown key; known: "),
        (
            {"system": "moab"},
            r"c\.yaml: system: expected one of slurm, pbs, sge, lsf, found 'moab'",
        ),
        ({"cores": None}, r"c\.yaml: cores: expected it, found none"),
        ({"cores": 0}, r"c\.yaml: cores: expected a whole number of at least 1, found 0"),
        ({"cores": True}, r"c\.yaml: cores: expected a whole number of at least 1, found True"),
        ({"processes": 3}, r"c\.yaml: processes: expected a divisor of cores 4, found 3"),
        ({"walltime": 14400}, r"c\.yaml: walltime: expected a text, found 14400; put it in quotes"),
        ({"job_extra_directives": "-V"}, r"job_extra_directives: expected a list of texts, found"),
        ({"job_script_prologue": [1]}, r"job_script_prologue: expected a list of texts, found \[1"),
        ({"tls": "yes"}, r"c\.yaml: tls: expected true or false, found 'yes'"),
        ({"memory": "much"}, r"c\.yaml: memory: expected a size such as 8GB, found 'much'"),
    ],
)
def test_mistakes_are_named(slurm: Path, change: dict, message: str) -> None:
    conf = {**yaml.safe_load(slurm.read_text()), **change}
    with pytest.raises(ClusterError, match=message):
        read_cluster(write(slurm, **conf))


def test_all_mistakes_are_named_at_once(slurm: Path) -> None:
    with pytest.raises(ClusterError) as caught:
        read_cluster(write(slurm, system="slurm", nodes=1, queue=1))
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == [
        "nodes",
        "cores",
        "memory",
        "queue",
    ]


@pytest.mark.parametrize("text", ["- a", "", "a: [", "slurm"])
def test_other_files_are_refused(slurm: Path, text: str) -> None:
    slurm.write_text(text)
    with pytest.raises(ClusterError, match=r"c\.yaml(:\d+)?: (system: )?expected"):
        read_cluster(slurm)


def test_a_walltime_without_quotes_is_noticed(slurm: Path) -> None:
    slurm.write_text(slurm.read_text().replace("04:00:00", "12:00:00"))
    with pytest.raises(ClusterError, match="walltime: expected a text, found 43200; put it in quo"):
        read_cluster(slurm)


def test_ctrl_c_stays_what_it_was(slurm: Path) -> None:
    code = (
        "import pathlib, signal, sys\n"
        "from espnet_objsoup.data.cluster import job_script, read_cluster\n"
        "job_script(read_cluster(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2]))\n"
        "sys.exit(signal.getsignal(signal.SIGINT) is not signal.default_int_handler)"
    )
    command = [sys.executable, "-c", code, str(slurm), str(slurm.parent / "logs")]
    finished = subprocess.run(
        command,
        check=False,
        # Ignored where tests run in the background, which Python would inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert finished.returncode == 0


def test_a_missing_library_is_named_with_what_installs_it(
    slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "dask_jobqueue" else find(name)
    )
    with pytest.raises(ClusterError, match="expected dask-jobqueue, found none; install: .* pip"):
        read_cluster(slurm)


def test_missing_commands_of_the_system_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    path = write(tmp_path / "c.yaml", system="slurm", **SMALL)
    with pytest.raises(ClusterError, match="expected the commands sbatch and scancel on PATH"):
        read_cluster(path)
