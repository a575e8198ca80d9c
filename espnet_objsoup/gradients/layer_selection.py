# SPDX-License-Identifier: Apache-2.0
"""Which layers the weights are computed from: those in which objectives are in conflict.

Notation: N layers, K objectives. A layer's score is the mean cosine between its objectives'
expected gradients; it cannot fall below -1 / (K - 1).
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from espnet_objsoup.gradients.statistic import GramianStatistic
from espnet_objsoup.objectives import LayerError, LayersConf
from espnet_objsoup.weighting.gramian_estimate import RunningGramian

# A scan is cut into so many blocks; the spread of their scores gives the standard error.
_BLOCKS = 10


@dataclass(frozen=True)
class Scan:
    """What a scan found.

    Attributes:
        epoch: in which it was made.
        cosines: (N, K, K) float64.
        counted: (N, K, K) bool, pairs with enough data.
        scores: (N,) float64 mean over counted pairs, NaN if there is none.
        errors: (N,) float64 standard errors of the scores.
        worst: (N,) float64 smallest counted cosine.
        selected: indices of the layers selected from now on.
    """

    epoch: int
    cosines: Tensor
    counted: Tensor
    scores: Tensor
    errors: Tensor
    worst: Tensor
    selected: tuple[int, ...]


class LayerSelector:
    """Selects layers; scans all of them where the policy asks for it.

    Args:
        names: of all layers, from the input to the output.
        conf: options.

    Raises:
        LayerError: if `names` of policy fixed are not among the layers.
    """

    def __init__(self, names: Sequence[str], conf: LayersConf) -> None:
        self.names = list(names)
        self.conf = conf
        self.selected = self._initial()
        self._scan_at: frozenset[int] = frozenset()
        self._epoch = 0
        self._blocks: list[GramianStatistic] = []
        self._planned = self._scanned = 0

    def _initial(self) -> tuple[int, ...]:
        everything = range(len(self.names))
        if self.conf.policy == "all":
            return tuple(everything)
        if self.conf.policy == "fixed":
            unknown = [name for name in self.conf.names if name not in self.names]
            if unknown:
                raise LayerError(
                    f"trainer_conf.layers.names: no layer {', '.join(unknown)}; layers are "
                    f"{', '.join(self.names)}"
                )
            return tuple(i for i in everything if self.names[i] in self.conf.names)
        if self.conf.last_k > len(self.names) and self.names:
            logging.warning(
                "trainer_conf.layers.last_k: expected at most the %d layers that there are, found "
                "%d; all are measured",
                len(self.names),
                self.conf.last_k,
            )
        return tuple(everything)[-self.conf.last_k :]

    @property
    def scans(self) -> bool:
        """Whether the policy needs scans."""
        return self.conf.policy == "conflict"

    def begin_epoch(self, epoch: int, n_steps: int | None, always: bool = False) -> None:
        """Plan the epoch's scan.

        Args:
            epoch: from 1.
            n_steps: optimiser steps of the epoch, None if unknown.
            always: scan whatever the policy is (to monitor).
        """
        self._epoch, self._scanned, self._scan_at = epoch, 0, frozenset()
        self._blocks = []
        interval = self.conf.scan_interval
        if interval == 0 or not (self.scans or always) or (epoch - 1) % interval != 0:
            return
        count = self.conf.scan_steps
        if n_steps is None or n_steps <= count:
            # Unknown or short: the first steps.
            self._scan_at = frozenset(range(count))
            self._planned = count if n_steps is None else n_steps
        else:
            self._scan_at = frozenset(int((i + 0.5) * n_steps / count) for i in range(count))
            self._planned = count

    def is_scan_step(self, step: int) -> bool:
        """Whether all layers are measured in this step of the epoch, from 0."""
        return step in self._scan_at

    def add(self, statistic: GramianStatistic) -> None:
        """Add one step's sums of all layers."""
        n_blocks = min(_BLOCKS, self._planned)
        block = min(self._scanned * n_blocks // self._planned, n_blocks - 1)
        if block >= len(self._blocks):
            self._blocks.append(statistic)
        else:
            self._blocks[-1] = self._blocks[-1] + statistic
        self._scanned += 1

    def end_epoch(self) -> Scan | None:
        """Finish a scan and select.

        Returns:
            None if no step was scanned.
        """
        if not self._blocks:
            return None
        total = self._blocks[0]
        for block in self._blocks[1:]:
            total = total + block
        cosines, counted = _cosines(total)
        scores = _scores(cosines, counted)
        errors = self._errors(counted)
        if self.scans:
            self.selected = self._select(scores, errors)
        worst = torch.where(counted, cosines, torch.inf).amin((1, 2))
        self._blocks = []
        return Scan(self._epoch, cosines, counted, scores, errors, worst, self.selected)

    def _errors(self, counted: Tensor) -> Tensor:
        """Batch-means standard error of every layer's score."""
        if len(self._blocks) < 2:
            return torch.full((len(self.names),), torch.nan, dtype=torch.float64)
        of_blocks = []
        for block in self._blocks:
            cosines, _ = _cosines(block)
            of_blocks.append(_scores(cosines, counted & (block.pairs > 0)))
        values = torch.stack(of_blocks)
        return values.std(0) / math.sqrt(len(self._blocks))

    def _select(self, scores: Tensor, errors: Tensor) -> tuple[int, ...]:
        """Layers whose score is surely below the threshold, or was and is not surely above."""
        chosen = []
        for i, (score, error) in enumerate(zip(scores.tolist(), errors.tolist(), strict=True)):
            if math.isnan(score) or math.isnan(error):
                inside = i in self.selected  # nothing was learnt about it
            elif i in self.selected:
                inside = score <= self.conf.threshold + error
            else:
                inside = score < self.conf.threshold - error
            if inside:
                chosen.append(i)
        worst_first = sorted(chosen, key=lambda i: float(scores[i].nan_to_num(torch.inf)))
        return tuple(sorted(worst_first[: self.conf.top_k]))

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and tensors, with a scan that has begun."""
        return {
            "names": list(self.names),
            "selected": list(self.selected),
            "scan": {
                "epoch": self._epoch,
                "steps": sorted(self._scan_at),
                "planned": self._planned,
                "scanned": self._scanned,
                "blocks": [dict(vars(block)) for block in self._blocks],
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint.

        A policy that decides by itself which layers are selected keeps to that.

        Raises:
            LayerError: if it has other layers.
        """
        self.check_state(state)
        if self.scans:
            self.selected = tuple(int(i) for i in state["selected"])
        scan = state.get("scan")  # not in checkpoints of earlier versions
        if scan is not None:
            self._epoch, self._scan_at = int(scan["epoch"]), frozenset(scan["steps"])
            self._planned, self._scanned = int(scan["planned"]), int(scan["scanned"])
            self._blocks = [
                GramianStatistic(**{k: v.cpu() for k, v in block.items()})
                for block in scan["blocks"]
            ]

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Whether a checkpoint has the same layers.

        Raises:
            LayerError: if not.
        """
        if list(state["names"]) != self.names:
            raise LayerError(
                f"layers: the checkpoint has {', '.join(state['names'])}, the model "
                f"{', '.join(self.names)}; train with the same layers, or set reset_soup: true"
            )


def _cosines(total: GramianStatistic) -> tuple[Tensor, Tensor]:
    """(N, K, K) cosines of summed statistics, and which of them count."""
    n_layers, n_objectives = total.mean_norms2.shape
    estimate = RunningGramian(n_objectives, (n_layers,))
    estimate.update(total.numerators, total.pairs, total.mean_norms2 / total.batches.clamp(min=1.0))
    return estimate.cosines()


def _scores(cosines: Tensor, counted: Tensor) -> Tensor:
    """(N,) mean over counted pairs; NaN without any."""
    return torch.where(counted, cosines, 0.0).sum((1, 2)) / counted.sum((1, 2))
