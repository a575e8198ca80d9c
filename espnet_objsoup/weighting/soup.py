# SPDX-License-Identifier: Apache-2.0
"""A soup during training: weights of objectives, coefficients of levels, the estimate below."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from espnet_objsoup.objectives.levels import LevelSpec
from espnet_objsoup.objectives.weighting_table import MIN_SAMPLE_SIZE, RUNNING, STEP, WEIGHTINGS
from espnet_objsoup.weighting.base import WeightingInput, accept
from espnet_objsoup.weighting.checks import check_finite
from espnet_objsoup.weighting.gramian_estimate import (
    DEFAULT_DECAY,
    RunningGramian,
    conflict_rate,
    project_to_psd,
    step_gramian,
)
from espnet_objsoup.weighting.level_penalties import LevelPenalties
from espnet_objsoup.weighting.loss_means import LossMeans
from espnet_objsoup.weighting.registry import build_weighting

FORMAT_VERSION = 1
# Decay of losses' running means for levels without a barrier.
LOSS_DECAY = 0.99


class SoupMismatchError(ValueError):
    """A saved soup has other objectives, levels or weightings."""


class Soup:
    """Weights and coefficients of a resolved soup.

    A step uses `coefficients`; a refresh, after it, makes those of the next steps. All of it is
    deterministic given the same refreshes, so every rank may hold one.

    Args:
        levels: from `resolve_levels`, top first.
        objectives: K names, in the order of all tensors.
        weights_interval: steps between refreshes.
        seed: of random weightings; the global generators are left alone.
        decay: of the running Gramian, per refresh.

    Attributes:
        weights: (K,) float64, sum 1 in every level (as configured in a soup of one static level).
        penalties: coefficients of the levels.
        estimate: running Gramian of all objectives.
        loss_means: running losses.
        kept: (J,) int64 refreshes in which a weighting's answer was unusable.
        epoch: current, from 1.
    """

    def __init__(
        self,
        levels: Sequence[LevelSpec],
        objectives: Sequence[str],
        weights_interval: int = 1,
        seed: int = 0,
        decay: float = DEFAULT_DECAY,
    ) -> None:
        self.levels = tuple(levels)
        self.objectives = tuple(objectives)
        self.weights_interval = weights_interval
        self.rows = [
            torch.tensor([self.objectives.index(name) for name in level.objectives])
            for level in self.levels
        ]
        self.weightings = [build_weighting(level) for level in self.levels]
        self.weights = torch.zeros(len(self.objectives), dtype=torch.float64)
        for rows, weighting in zip(self.rows, self.weightings, strict=True):
            initial = weighting.initial()
            # Coefficients of several levels only mean something if each level weighs one.
            self.weights[rows] = initial if len(self.levels) == 1 else initial / initial.sum()
        self.penalties = LevelPenalties(self.levels)
        self.estimate = RunningGramian(len(self.objectives), decay=decay)
        self.loss_means = LossMeans(self._loss_decay())
        self.kept = torch.zeros(len(self.levels), dtype=torch.long)
        self.epoch = 1
        self._rng_state = torch.Generator().manual_seed(seed).get_state()

    @property
    def coefficients(self) -> Tensor:
        """(K,) float64 c_j * w_k, for the next step."""
        return self._level_of_objective().T @ self.penalties.coefficients * self.weights

    def begin_epoch(self, epoch: int) -> None:
        """Take the scheduled coefficients of an epoch, from 1 (as ESPnet counts)."""
        self.epoch = epoch
        self.penalties.begin_epoch(epoch)

    def refresh(
        self,
        numerators: Tensor,
        pairs: Tensor,
        mean_norms2: Tensor,
        losses: Tensor,
        counts: Tensor,
        epoch: int | None = None,
    ) -> None:
        """Fold in a finished refresh and make the weights and coefficients of the next steps.

        Args:
            numerators: (K, K) of the U-statistic, over all measured layers, micro-batches, ranks.
            pairs: (K, K) of different utterances, over micro-batches and ranks.
            mean_norms2: (K,) ||S_k||^2 / n_k^2, 0 where k is absent.
            losses: (K,) mean loss of each objective's utterances; ignored where it is absent.
            counts: (K,) utterances; 0 where an objective is absent.
            epoch: from 1; that of `begin_epoch` if None.

        Raises:
            NonFiniteGramianError: for NaN or infinity; nothing has changed then.
        """
        numerators, pairs, mean_norms2, losses, counts = (
            value.detach().cpu().double()
            for value in (numerators, pairs, mean_norms2, losses, counts)
        )
        check_finite(self.objectives, numerators, pairs, mean_norms2, losses, counts)
        if epoch is not None and epoch != self.epoch:
            self.begin_epoch(epoch)
        present = counts > 0
        self.estimate.update(numerators, pairs, mean_norms2)
        step = step_gramian(numerators, pairs, self.estimate.gramian())
        filled = self.loss_means.fill(losses, present)
        references = self.loss_means.mean()
        self._update_weights(step, filled, present)
        if self.penalties.is_barrier:
            self._solve_barrier(filled, torch.where(references.isnan(), filled, references))
        self.loss_means.update(losses, present)

    def restart_estimate(self) -> None:
        """Forget the running Gramian, as other layers are measured from now on.

        Weights and coefficients stay until the new estimate is good enough.
        """
        self.estimate = RunningGramian(len(self.objectives), decay=self.estimate.decay)

    def sample_size(self, rows: Tensor | None = None) -> float:
        """Refreshes that the worst known entry of the estimate is worth.

        Args:
            rows: (n,) indices of the objectives concerned, all if None.

        Returns:
            0 if an objective's own entry is unknown; entries of pairs that never met do not count.
        """
        rows = torch.arange(len(self.objectives)) if rows is None else rows
        known = self.estimate.known()[rows][:, rows]
        if not known.diagonal().all():
            return 0.0
        return float(self.estimate.effective_sample_size()[rows][:, rows][known].min())

    def _update_weights(self, step: Tensor, losses: Tensor, present: Tensor) -> None:
        # An objective whose gradient has never been measured would look like one of length zero,
        # which attracts all weight: until then it counts as absent.
        measured = self.estimate.known().diagonal()
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.set_rng_state(self._rng_state)
            for i, (rows, weighting) in enumerate(zip(self.rows, self.weightings, strict=True)):
                if len(rows) == 1:
                    continue
                usable_rows = present[rows]
                if WEIGHTINGS[self.levels[i].weighting].needs in (STEP, RUNNING):
                    usable_rows = usable_rows & measured[rows]
                cosines = weighting.conf.get("matrix") == "cosines"
                own, running = self._matrices(step, rows, cosines)
                inputs = WeightingInput(
                    step=own,
                    running=running,
                    sample_size=self.sample_size(rows),
                    losses=losses[rows],
                    present=usable_rows,
                    interval=self.weights_interval,
                    epoch=self.epoch,
                )
                proposed = weighting.update(inputs, self.weights[rows])
                smoothing = weighting.conf.get("smoothing", 0.0)
                self.weights[rows], usable = accept(
                    proposed, self.weights[rows], usable_rows, smoothing
                )
                self.kept[i] += not usable
            self._rng_state = torch.get_rng_state()

    def _matrices(self, step: Tensor, rows: Tensor, cosines: bool) -> tuple[Tensor, Tensor]:
        """(n, n) float64 twice: a level's matrices as a weighting sees them, step and running."""
        step, running = step[rows][:, rows], self.estimate.gramian()[rows][:, rows]
        if not cosines:
            scale = self.estimate.scale(rows)
            return step / scale, project_to_psd(running / scale)
        lengths = self.estimate.lengths()[rows]
        lengths = torch.where(lengths > 0, lengths, 1.0)
        products = torch.outer(lengths, lengths)
        # The diagonal is known: what a batch says of it is noise, and more of it where an
        # objective's gradients are noisier. The step's other entries stay unbiased.
        step = (step / products).fill_diagonal_(1.0)
        running = (running / products).clamp(-1.0, 1.0).fill_diagonal_(1.0)
        return step, project_to_psd(running)

    def _solve_barrier(self, losses: Tensor, references: Tensor) -> None:
        """Coefficients from the running Gramian, once it is good enough."""
        if self.sample_size() < MIN_SAMPLE_SIZE:
            return
        mixing = self._level_of_objective() * self.weights
        running = project_to_psd(self.estimate.gramian() / self.estimate.scale())
        matrix = mixing @ running @ mixing.T
        self.penalties.solve(
            0.5 * (matrix + matrix.T),
            mixing @ losses,
            mixing @ references,
            float(self.estimate.scale()),
        )

    def _level_of_objective(self) -> Tensor:
        """(J, K) float64, 1 where an objective is in a level."""
        members = torch.zeros(len(self.levels), len(self.objectives), dtype=torch.float64)
        for j, rows in enumerate(self.rows):
            members[j, rows] = 1.0
        return members

    def _loss_decay(self) -> Tensor:
        decay = torch.full((len(self.objectives),), LOSS_DECAY, dtype=torch.float64)
        for level, rows in zip(self.levels, self.rows, strict=True):
            decay[rows] = level.penalty_conf.get("reference_decay", LOSS_DECAY)
        return decay

    def report(self) -> dict[str, float]:
        """Numbers for the log, under the same names at every call.

        Returns:
            `soup_weight/<objective>`, `soup_coefficient/<objective>`; for every level n from 1
            (top) `soup_level_coefficient/<n>`, `soup_conflict/<n>` (share of its pairs of
            objectives in conflict), `soup_sample_size/<n>`, `soup_kept/<n>`; `soup_conflict/all`;
            with a barrier `soup_barrier_capped/<n>` and `soup_barrier_dropped/<n>` (counts).
        """
        values: dict[str, float] = {}
        for k, name in enumerate(self.objectives):
            values[f"soup_weight/{name}"] = float(self.weights[k])
        for name, value in zip(self.objectives, self.coefficients.tolist(), strict=True):
            values[f"soup_coefficient/{name}"] = value
        cosines, counted = self.estimate.cosines()
        values["soup_conflict/all"] = float(conflict_rate(cosines, counted))
        for j, rows in enumerate(self.rows):
            own = conflict_rate(cosines[rows][:, rows], counted[rows][:, rows])
            values[f"soup_level_coefficient/{j + 1}"] = float(self.penalties.coefficients[j])
            values[f"soup_conflict/{j + 1}"] = float(own)
            values[f"soup_sample_size/{j + 1}"] = self.sample_size(rows)
            values[f"soup_kept/{j + 1}"] = float(self.kept[j])
        if self.penalties.is_barrier:
            for j in range(1, len(self.levels)):
                values[f"soup_barrier_capped/{j + 1}"] = float(self.penalties.capped[j - 1])
                values[f"soup_barrier_dropped/{j + 1}"] = float(self.penalties.dropped[j - 1])
        return values

    def signature(self) -> list[str]:
        """What a saved soup has to agree with, a line per level; options may differ."""
        return [
            f"{' '.join(level.objectives)} ({level.weighting}, penalty {level.penalty or 'none'})"
            for level in self.levels
        ]

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors, numbers, strings, lists and dicts: readable with `weights_only=True`."""
        return {
            "version": FORMAT_VERSION,
            "objectives": list(self.objectives),
            "levels": self.signature(),
            "weights": self.weights.clone(),
            "penalties": self.penalties.state_dict(),
            "estimate": self.estimate.state_dict(),
            "loss_means": self.loss_means.state_dict(),
            "weightings": [weighting.state_dict() for weighting in self.weightings],
            "kept": self.kept.clone(),
            "epoch": self.epoch,
            "rng_state": self._rng_state.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`, bit for bit.

        Raises:
            SoupMismatchError: if it was written for another soup or by another format.
        """
        self._check_state(state)
        self.penalties.load_state_dict(state["penalties"])
        self.estimate.load_state_dict(state["estimate"])
        self.loss_means.load_state_dict(state["loss_means"])
        for weighting, saved in zip(self.weightings, state["weightings"], strict=True):
            weighting.load_state_dict(saved)
        self.kept = state["kept"].cpu().clone()
        self.epoch = state["epoch"]
        self._rng_state = state["rng_state"].cpu().clone()
        for level, rows in zip(self.levels, self.rows, strict=True):
            # Fixed weights are what the configuration says now.
            if level.weighting not in ("static", "uniform"):
                self.weights[rows] = state["weights"].cpu()[rows]

    def _check_state(self, state: dict[str, Any]) -> None:
        if state.get("version") != FORMAT_VERSION:
            raise SoupMismatchError(
                f"soup: expected format {FORMAT_VERSION}, found {state.get('version')}"
            )
        for name, own in (("objectives", list(self.objectives)), ("levels", self.signature())):
            if list(state[name]) != own:
                raise SoupMismatchError(
                    f"soup: the checkpoint has {name} {'; '.join(state[name])}, the configuration "
                    f"{'; '.join(own)}; use the same, or set reset_soup: true"
                )
