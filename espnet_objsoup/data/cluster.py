# SPDX-License-Identifier: Apache-2.0
"""How workers of dask become jobs of SLURM, PBS, SGE or LSF, through dask-jobqueue.

A YAML file says how jobs are submitted; its keys are those of dask-jobqueue's cluster classes,
besides `system` and `tls`. Commands have to find the same files under the same names on all
machines, as everything that ESPnet distributes.
"""

import importlib.util
import math
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_objsoup.data.parallel import ONE_THREAD
from espnet_objsoup.data.yaml_file import YamlError, load_yaml


class ClusterError(ValueError):
    """What a cluster's configuration should hold, and what it holds."""


@dataclass(frozen=True)
class System:
    """A batch system.

    Attributes:
        cluster: class of dask-jobqueue.
        submit, cancel: its commands.
        status: command that, with a job's number, tells of it; says nothing or fails if it ended.
        keys: options that only this system has.
        cores_key: option that reserves cores.
    """

    cluster: str
    submit: str
    cancel: str
    status: tuple[str, ...]
    keys: tuple[str, ...]
    cores_key: str | None = None


SYSTEMS = {
    "slurm": System(
        "SLURMCluster", "sbatch", "scancel", ("squeue", "-h", "-j"),
        ("account", "job_cpu", "job_mem"), "job_cpu",
    ),
    "pbs": System("PBSCluster", "qsub", "qdel", ("qstat",), ("account", "resource_spec")),
    "sge": System("SGECluster", "qsub", "qdel", ("qstat", "-j"), ("project", "resource_spec")),
    "lsf": System(
        "LSFCluster", "bsub", "bkill", ("bjobs", "-noheader", "-o", "stat"),
        ("project", "ncpus", "mem", "use_stdin", "lsf_units"), "ncpus",
    ),
}  # fmt: skip
_COUNTS = ("cores", "processes", "job_cpu", "ncpus", "mem", "death_timeout")
_LISTS = ("job_extra_directives", "job_directives_skip", "job_script_prologue", "worker_extra_args")
_TRUTHS = ("tls", "use_stdin")
_TEXTS = (
    "system", "memory", "queue", "walltime", "interface", "python", "local_directory", "shebang",
    "job_name", "account", "project", "resource_spec", "job_mem", "lsf_units",
)  # fmt: skip
_MAPPINGS = ("scheduler_options",)
_KINDS = {
    **dict.fromkeys(_COUNTS, (int, "a whole number of at least 1")),
    **dict.fromkeys(_LISTS, (list, "a list of texts")),
    **dict.fromkeys(_TRUTHS, (bool, "true or false")),
    **dict.fromkeys(_TEXTS, (str, "a text")),
    **dict.fromkeys(_MAPPINGS, (dict, "option: value lines")),
}
_OWN = {name for system in SYSTEMS.values() for name in system.keys}
_SIZE = re.compile(r"\d+(\.\d+)?\s*([kmgt]i?)?b", re.IGNORECASE)
COMMON_KEYS = tuple(name for name in _KINDS if name not in _OWN)


@dataclass(frozen=True)
class ClusterConfig:
    """How jobs are submitted.

    Attributes:
        path: of the YAML.
        system: name in `SYSTEMS`.
        options: of dask-jobqueue, for one job.
        cores: of a job.
        processes: workers of a job.
        tls: encrypt and authenticate what workers and scheduler say to each other.
    """

    path: Path
    system: str
    options: Mapping[str, Any]
    cores: int
    processes: int
    tls: bool = True

    @property
    def threads(self) -> int:
        """Cores of a worker."""
        return self.cores // self.processes

    def jobs(self, n_workers: int) -> int:
        """How many jobs give so many workers."""
        return math.ceil(n_workers / self.processes)


def read_cluster(path: Path) -> ClusterConfig:
    """Read and check a cluster's YAML.

    Raises:
        ClusterError: naming the file, what it should hold and what it holds; or if dask-jobqueue
            or the system's commands are missing here.
        OSError: if it cannot be read.
    """
    try:
        conf = load_yaml(path.read_bytes())
    except YamlError as err:
        where = f"{path}:{err.line}" if err.line else str(path)
        raise ClusterError(f"{where}: expected YAML, found {err}") from err
    if not isinstance(conf, dict) or str(conf.get("system")) not in SYSTEMS:
        found = conf.get("system") if isinstance(conf, dict) else conf
        raise ClusterError(f"{path}: system: expected one of {', '.join(SYSTEMS)}, found {found!r}")
    system = SYSTEMS[conf["system"]]
    problems = [*_unknown(conf, system), *_wrong(conf)]
    if problems:
        raise ClusterError("\n".join(f"{path}: {problem}" for problem in problems))
    _check_installed(path, conf["system"], system)
    options = {name: value for name, value in conf.items() if value is not None}
    options.pop("system")
    cores, tls = options.pop("cores"), options.pop("tls", True)
    processes = options.pop("processes", cores)
    return ClusterConfig(path, conf["system"], options, cores, processes, tls)


def _unknown(conf: Mapping[str, Any], system: System) -> list[str]:
    known = [*COMMON_KEYS, *system.keys]
    unknown = sorted(str(name) for name in conf if name not in known)
    return [f"{name}: unknown key; known: {', '.join(known)}" for name in unknown]


def _wrong(conf: Mapping[str, Any]) -> list[str]:
    problems = [
        f"{name}: expected it, found none" for name in ("cores", "memory") if conf.get(name) is None
    ]
    for name, value in conf.items():
        if value is None or name not in _KINDS:
            continue
        kind, words = _KINDS[name]
        good = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
        good = good and not (kind is int and value < 1)
        good = good and not (kind is list and not all(isinstance(item, str) for item in value))
        if not good:
            # YAML reads 12:00:00 as a number of seconds.
            advice = "; put it in quotes" if kind is str and isinstance(value, int | float) else ""
            problems.append(f"{name}: expected {words}, found {value!r}{advice}")
    if isinstance(conf.get("memory"), str) and not _SIZE.fullmatch(conf["memory"].strip()):
        problems.append(f"memory: expected a size such as 8GB, found {conf['memory']!r}")
    if not problems and conf["cores"] % (conf.get("processes") or 1):
        problems.append(
            f"processes: expected a divisor of cores {conf['cores']}, found {conf['processes']}"
        )
    return problems


def _check_installed(path: Path, name: str, system: System) -> None:
    wanted = {"dask_jobqueue": "dask-jobqueue", "cryptography": "cryptography"}
    missing = [
        title for module, title in wanted.items() if importlib.util.find_spec(module) is None
    ]
    if missing:
        raise ClusterError(
            f"{path}: expected {' and '.join(missing)}, found none; install: "
            f"{sys.executable} -m pip install {' '.join(missing)}"
        )
    absent = [command for command in (system.submit, system.cancel) if not shutil.which(command)]
    if absent:
        raise ClusterError(
            f"{path}: system {name}: expected the commands {system.submit} and {system.cancel} on "
            f"PATH, found no {' and no '.join(absent)}; run this on a machine that submits jobs"
        )


def job_options(config: ClusterConfig, log_directory: Path) -> dict[str, Any]:
    """Arguments of dask-jobqueue's cluster class."""
    system = SYSTEMS[config.system]
    options = {"job_name": "objsoup", **config.options}
    # A worker takes one piece of work at a time, so that dask gets to know one core of each; the
    # others are for the threads of commands.
    options["cores"] = options["processes"] = config.processes
    if system.cores_key:
        options.setdefault(system.cores_key, config.cores)
    elif config.system == "pbs" and "resource_spec" not in options:
        options["resource_spec"] = f"select=1:ncpus={config.cores}:mem={_pbs(options['memory'])}"
    options["log_directory"] = str(log_directory.absolute())
    # Not every system hands the environment on; relative paths of commands are seen from here.
    exported = {**ONE_THREAD, "PYTHONUTF8": "1", "LC_ALL": "C"}
    if os.environ.get("PYTHONPATH"):
        exported["PYTHONPATH"] = os.environ["PYTHONPATH"]
    options["job_script_prologue"] = [
        *options.get("job_script_prologue", ()),
        f"cd {shlex.quote(os.getcwd())} || exit 1",
        *(f"export {name}={shlex.quote(value)}" for name, value in exported.items()),
    ]
    return options


def _pbs(memory: str) -> str:
    from dask.utils import parse_bytes

    # PBS writes MB for 2**20 bytes.
    return f"{math.ceil(parse_bytes(memory) / 2**20)}MB"


def cluster_class(system: str) -> Any:
    """dask-jobqueue's class for a batch system."""
    before = signal.getsignal(signal.SIGINT)
    import dask_jobqueue

    # Importing it makes Ctrl-C a quiet exit with status 0.
    if before is not None:
        signal.signal(signal.SIGINT, before)
    return getattr(dask_jobqueue, SYSTEMS[system].cluster)


def job_script(config: ClusterConfig, log_directory: Path) -> str:
    """The script that is submitted, but for the scheduler's address and certificates."""
    options = job_options(config, log_directory)
    options.pop("scheduler_options", None)
    job_class = cluster_class(config.system).job_cls
    return job_class(scheduler="tcp://ADDRESS", name="NAME", **options).job_script()
