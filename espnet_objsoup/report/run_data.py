# SPDX-License-Identifier: Apache-2.0
"""All that an experiment's directory says about its training."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_objsoup.data.yaml_file import YamlError, load_yaml
from espnet_objsoup.objectives import LevelSpec, SoupConf, report_key
from espnet_objsoup.report.series import ReportError, Series, common_start
from espnet_objsoup.report.soup_history import FILE_NAME, SoupHistory, read_soup_history
from espnet_objsoup.report.statistics import Statistics, read_statistics
from espnet_objsoup.zoo.facts import read_scores

# Objectives of ESPnet's own tasks, as docs/stock_tasks.md has them, in ESPnet's words.
_STOCK_LOSSES = {
    "asr/ctc": "loss_ctc", "asr/att": "loss_att", "asr/transducer": "loss_transducer",
    "st/ctc": "loss_st_ctc", "st/att": "loss_st_att", "st/transducer": "loss_st_trans",
    "mt/att": "loss_mt", "s2t/ctc": "loss_ctc", "s2t/att": "loss_att",
}  # fmt: skip


@dataclass
class RunData:
    """One experiment.

    Attributes:
        directory: of the experiment.
        name: on the page, different for each run.
        conf: `config.yaml`.
        objectives: all that are known.
        soup_conf: `trainer_conf`; None with other trainers.
        levels: top first; empty if there is no soup.
        soup: `soup.jsonl`, None if there is none.
        statistics: of TensorBoard, None if there are none.
        scores: split -> `asr/fr` -> measures.
    """

    directory: Path
    name: str
    conf: Mapping[str, Any]
    objectives: list[str]
    soup_conf: SoupConf | None
    levels: Sequence[LevelSpec]
    soup: SoupHistory | None
    statistics: Statistics | None
    scores: Mapping[str, Mapping[str, Mapping[str, Any]]]

    @property
    def steps_per_batch(self) -> float:
        """Optimiser steps for every batch that TensorBoard counts."""
        return 1.0 / max(int(self.conf.get("accum_grad") or 1), 1)

    @property
    def trainer(self) -> str:
        """Name of the trainer."""
        return str(self.conf.get("trainer") or "default")

    @property
    def recipe(self) -> str:
        """Recipe of the soup in words."""
        conf = self.soup_conf
        if conf is None:
            return f"none (trainer: {self.trainer})"
        if conf.levels is not None:
            return "levels written out"
        order = f" ({conf.order})" if conf.order else ""
        return (conf.recipe or "static") + order + (", monitor" if conf.monitor else "")

    @property
    def measures(self) -> bool:
        """Whether training measures gradients of objectives."""
        return self.soup_conf is not None and self.soup_conf.measures(self.levels)

    @property
    def is_finished(self) -> bool:
        """Whether as many epochs as asked for were trained."""
        return bool(self.conf.get("max_epoch")) and self.epochs >= int(self.conf["max_epoch"])

    @property
    def steps(self) -> int:
        """Optimiser steps taken, as far as it was written."""
        counted = [self.soup.steps] if self.soup else []
        if self.statistics:
            curves = (self.statistics.train | self.statistics.train_epochs).values()
            counted += [int(curve.steps[-1] * self.steps_per_batch) for curve in curves]
        return max(counted, default=0)

    @property
    def epochs(self) -> int:
        """Epochs finished."""
        if self.statistics:
            return self.statistics.epochs
        return self.soup.epoch if self.soup else 0

    def soup_series(self, name: str) -> Series | None:
        """A curve of `soup.jsonl`, None if nothing is known."""
        found = self.soup.series.get(name) if self.soup else None
        return found if found is not None and found.known else None

    def statistic(self, kind: str, name: str) -> Series | None:
        """A curve of `train`, `train_epochs` or `valid` over optimiser steps."""
        if self.statistics is None:
            return None
        found = getattr(self.statistics, kind).get(name)
        return found.scaled(self.steps_per_batch) if found is not None and found.known else None

    def loss(self, objective: str, kind: str) -> Series | None:
        """Loss of an objective in training or validation.

        Of training, where TensorBoard has none: of the batches with refreshes.
        """
        for name in (f"loss_{report_key(objective)}", _STOCK_LOSSES.get(objective, "")):
            found = self.statistic(kind, name)
            if found is not None:
                return found
        return self.soup_series(f"loss/{objective}") if kind == "train" else None


def read_run(directory: Path) -> RunData:
    """Read an experiment, finished or not.

    Raises:
        ReportError: if it is none, or a file is damaged.
        OSError: if a file cannot be read.
    """
    path = directory / "config.yaml"
    if not path.is_file():
        raise ReportError(
            f"{directory}: expected an experiment (a directory with config.yaml, which training "
            "writes before its first step), found none; give exp/<tag> of stage 11"
        )
    try:
        conf = load_yaml(path.read_bytes())
    except YamlError as err:
        raise ReportError(f"{path}: {err.message}") from err
    if not isinstance(conf, dict):
        raise ReportError(f"{path}: expected keys and values, found {type(conf).__name__}")
    soup_path = directory / FILE_NAME
    soup = read_soup_history(soup_path) if soup_path.is_file() else None
    statistics = read_statistics(directory / "tensorboard")
    objectives = _objectives(conf, soup, statistics)
    soup_conf, levels = _soup(conf, objectives, path)
    return RunData(
        directory=directory,
        name=Path(os.path.abspath(directory)).name,
        conf=conf,
        objectives=objectives,
        soup_conf=soup_conf,
        levels=levels,
        soup=soup,
        statistics=statistics,
        scores=read_scores(directory / "scores.json"),
    )


def _objectives(
    conf: Mapping[str, Any], soup: SoupHistory | None, statistics: Statistics | None
) -> list[str]:
    if isinstance(conf.get("objectives"), list):
        return [str(name) for name in conf["objectives"]]
    if soup is not None and soup.names("soup_weight/"):
        return soup.names("soup_weight/")
    logged = statistics.train | statistics.valid if statistics else {}
    task = "s2t/" if "text_ctc" in str(conf.get("train_data_path_and_name_and_type")) else "asr/"
    return [
        name
        for name, loss in _STOCK_LOSSES.items()
        if loss in logged and name.startswith((task, "st/", "mt/"))
    ]


def _soup(
    conf: Mapping[str, Any], objectives: list[str], path: Path
) -> tuple[SoupConf | None, Sequence[LevelSpec]]:
    if conf.get("trainer") != "objsoup":
        return None, ()
    try:
        soup = SoupConf.from_dict(conf.get("trainer_conf") or {})
        return soup, soup.resolve(objectives) if objectives else ()
    except (ValueError, TypeError, AttributeError) as err:
        raise ReportError(f"{path}: trainer_conf: {err}") from err


def name_runs(runs: Sequence[RunData]) -> None:
    """Give runs names that differ: their directories', without what all have in common."""
    names = [run.name for run in runs]
    for depth in range(2, 12):
        if len(set(names)) == len(names):
            break
        paths = [Path(os.path.abspath(run.directory)).parts for run in runs]
        names = ["/".join(parts[-depth:]) for parts in paths]
    else:
        raise ReportError(f"{runs[0].directory}: expected different experiments, found one twice")
    if len(names) > 1:
        start = common_start(names, "_/")
        end = common_start([name[::-1] for name in names], "_/")
        short = [name[len(start) : len(name) - len(end)] for name in names]
        names = short if all(short) else names
    for run, name in zip(runs, names, strict=True):
        run.name = name
