# SPDX-License-Identifier: Apache-2.0
"""A soup in training: what is measured in which step, and what the measurements do."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from espnet_objsoup.gradients.engine import TaskLosses
from espnet_objsoup.gradients.engines import make_engine
from espnet_objsoup.gradients.layer_selection import LayerSelector
from espnet_objsoup.gradients.layers import find_layers
from espnet_objsoup.gradients.reuse import StepLoss
from espnet_objsoup.gradients.statistic import GramianStatistic
from espnet_objsoup.models.gradient_scale import GradientScale
from espnet_objsoup.objectives import LayerError, LayersConf, soup_table, waiting_note
from espnet_objsoup.train.faults import Faults
from espnet_objsoup.train.options import SoupConf
from espnet_objsoup.train.soup_log import SoupLog
from espnet_objsoup.train.state import ExpectedCounts, SoupStateError
from espnet_objsoup.weighting.soup import Soup, SoupMismatchError

FORMAT_VERSION = 2


class SoupModel(Protocol):
    """What a soup needs of a model besides ESPnet's interface.

    `forward` returns, besides `loss`, `stats` and `weight`: `losses` and `counts` (objective ->
    mean loss and number of its utterances), and, where gradients are measured, `utterance_losses`
    and `objective_index` (task -> (B,) losses and objectives, -1 for none).
    """

    objectives: Sequence[str]
    objectives_of_head: Mapping[str, int]
    gradient_scale: GradientScale | None

    def shared_parameters(self) -> list[nn.Parameter]:
        """Parameters that all objectives share."""


class SoupRun:
    """State of a soup during training; saved and restored with ESPnet's checkpoints.

    Args:
        conf: `trainer_conf`.
        model: without a distributed wrapper; its `gradient_scale` is set.
        seed: of random weightings.
        output_dir: of the experiment, where `soup.jsonl` goes; None: nothing is written.

    Raises:
        ValueError: if the configuration does not fit the model.
    """

    def __init__(
        self, conf: SoupConf, model: SoupModel, seed: int = 0, output_dir: Path | None = None
    ) -> None:
        self.conf = conf
        self.objectives = tuple(model.objectives)
        self.levels = conf.resolve(self.objectives)
        self.soup = Soup(self.levels, self.objectives, conf.weights_interval, seed)
        self.counts = ExpectedCounts(self.objectives)
        self.faults = Faults(conf.max_nonfinite_steps)
        self.log = SoupLog(output_dir)
        self.steps = 0
        self.measures = conf.measures(self.levels)
        # Fixed weights and scheduled penalties learn nothing from a refresh.
        self.refreshes = self.measures or any(
            level.weighting not in ("static", "uniform") for level in self.levels
        )
        self._report: dict[str, float] = {}
        shared = model.shared_parameters() if self.measures else []
        self.layers = find_layers(model, shared, conf.layers.pattern) if self.measures else []
        if self.measures and not self.layers:
            raise LayerError(
                "layers: expected layers with parameters that are trained, found none: with a "
                "frozen encoder there is nothing that objectives pull in different directions; use "
                "recipe: static without monitor, or freeze less (freeze_param)"
            )
        self.engine = make_engine(
            conf.gradient_engine,
            self.layers,
            len(self.objectives),
            model=model if self.measures else None,
            shared=shared,
            unbiased=conf.estimate == "unbiased",
        )
        names = [layer.name for layer in self.layers]
        self.selector = LayerSelector(names, conf.layers if self.measures else LayersConf())
        of_head = [model.objectives_of_head[name] for name in self.objectives]
        self.objectives_of_head = torch.tensor(of_head, dtype=torch.float64)
        # In recipe static the weights stand in the loss, for heads too: the scale only notes then
        # where heads begin.
        self.scale = None
        if self.measures or not conf.is_static:
            self.scale = GradientScale(torch.ones(len(of_head)))
        model.gradient_scale = self.scale
        self._step_of_epoch = 0
        self._inside_epoch = False  # a state was loaded
        self._pending: GramianStatistic | None = None
        self._forgone = False  # the estimate of this step, in half precision
        self._pending_losses = torch.zeros(len(of_head), dtype=torch.float64)

    def describe(self) -> str:
        """The resolved soup as a table."""
        interval = self.conf.weights_interval
        engine = f", gradients by {self.conf.gradient_engine}" if self.measures else ""
        lines = [soup_table(self.levels), f"(weights every {interval} steps{engine})"]
        return "\n".join(filter(None, [*lines, waiting_note(self.levels, interval)]))

    def begin_epoch(self, epoch: int, n_steps: int | None) -> None:
        """Take scheduled coefficients and plan the epoch's scan.

        Args:
            epoch: from 1.
            n_steps: optimiser steps of the epoch, None if unknown.
        """
        self._step_of_epoch, self._inside_epoch = 0, False
        self.drop_step()
        self.faults.forget()  # of micro-batches that the epoch before left over
        self.soup.begin_epoch(epoch)
        self._report = {}
        if self.measures:
            self.selector.begin_epoch(epoch, n_steps, always=self.conf.monitor)

    def continue_epoch(self, epoch: int, n_steps: int | None) -> None:
        """Go on inside an epoch as the loaded state left it; begin the epoch if none was loaded.

        Args:
            epoch: from 1.
            n_steps: optimiser steps of the whole epoch, None if unknown.
        """
        if not self._inside_epoch:
            self.begin_epoch(epoch, n_steps)

    def end_epoch(self) -> None:
        """Finish the epoch's scan, select layers, report."""
        before = set(self.selector.selected)
        scan = self.selector.end_epoch() if self.measures else None
        if scan is None:
            return
        if scan.selected and before != set(scan.selected):
            # The running estimate is about other layers; norms may differ by orders of magnitude.
            self.soup.restart_estimate()
        names = self.selector.names
        for i, name in enumerate(names):
            chosen = "selected" if i in scan.selected else ""
            logging.info(
                "scan: %s mean cosine %+.3f +- %.3f, worst pair %+.3f %s",
                *(name, scan.scores[i], scan.errors[i], scan.worst[i], chosen),
            )
        self.log.write_scan(scan, self.steps, names, list(self.objectives))

    @property
    def is_refresh(self) -> bool:
        """Whether weights are made anew after the current step."""
        return self.refreshes and self.steps % self.conf.weights_interval == 0

    @property
    def is_scan(self) -> bool:
        """Whether all layers are measured in the current step."""
        return self.measures and self.selector.is_scan_step(self._step_of_epoch)

    def measured_layers(self) -> list[int]:
        """Indices of the layers to measure in the current step; empty: none."""
        if not self.measures:
            return []
        if self.is_scan:
            return list(range(len(self.layers)))
        return self.layers_of_weights() if self.is_refresh else []

    def layers_of_weights(self) -> list[int]:
        """Indices of the layers that weights come from; who only monitors always looks at some."""
        if self.conf.monitor and not self.selector.selected:
            return list(range(len(self.layers)))[-self.conf.layers.last_k :]
        return list(self.selector.selected)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Must surround the forward pass of every micro-batch."""
        measured = self.measured_layers()
        with ExitStack() as stack:
            stack.enter_context(self.engine.recording(measured))
            if self.scale is not None:
                stack.enter_context(self.scale.noting_inputs(bool(measured)))
            yield

    def measure(
        self,
        output: Mapping[str, Any],
        loss: Tensor,
        scale: float,
        device: str,
        distributed: bool,
    ) -> tuple[list[str], Tensor]:
        """Measure a micro-batch's gradients, if the current step asks for it.

        Args:
            output: of the model.
            loss: scalar that the step's backward pass begins from.
            scale: of the losses, in half precision.
            device: that the process group communicates from.
            distributed: whether the sums of all processes are added; every process calls this for
                every micro-batch.

        Returns:
            Objectives whose gradients are not finite, the sums of which are not used; and the
            scalar to use in place of `loss`, within `weighting()`: its backward pass does not do
            again what measuring has done.
        """
        measured = self.measured_layers()
        if not measured:
            return [], loss
        losses = TaskLosses(output["utterance_losses"], output["objective_index"])
        head_inputs = self.scale.take_inputs()
        if self.conf.layers.scope == "selected" and not self.conf.is_static:
            statistic = self.engine.measure(losses, measured, scale)  # two backward passes follow
        else:
            step = StepLoss(loss, head_inputs, self._factors())
            statistic, ready = self.engine.measure_and_reuse(losses, measured, step, scale)
            loss = loss if ready is None else ready.attach(loss)
        if not self.is_scan:
            statistic = statistic.collapse()
        if distributed:
            statistic = statistic.sum_over_processes(device)
        wrong = statistic.nonfinite().nonzero()[:, 0].tolist()
        if wrong:
            self._forgone = True
        else:
            self._pending = statistic if self._pending is None else self._pending + statistic
        return [self.objectives[k] for k in wrong], loss

    def forgo(self) -> None:
        """Let go of the graph of a micro-batch that is not measured after all."""
        self.engine.forget()
        if self.scale is not None:
            self.scale.take_inputs()

    def _factors(self) -> Tensor:
        """(K,) on gradients where heads begin, while weights act."""
        if self.conf.is_static:
            return torch.ones(len(self.objectives), dtype=torch.float64)
        # The loss has the weight 1 / (objectives of the head): undone here.
        return self.soup.coefficients * self.objectives_of_head

    def add_losses(self, sums: Tensor, counts: Tensor) -> None:
        """Add (K,) sums of losses and utterances of a micro-batch, all ranks together."""
        self._pending_losses = self._pending_losses + sums.detach().double().cpu()
        self.counts.add(counts)

    @contextmanager
    def weighting(self) -> Iterator[None]:
        """Within it, backward passes give shared parameters the soup's direction."""
        with self._scaled(self._factors()):
            yield

    @contextmanager
    def plain_average(self) -> Iterator[None]:
        """Within it, backward passes give shared parameters the mean over all objectives."""
        with self._scaled(self.objectives_of_head / len(self.objectives)):
            yield

    @contextmanager
    def _scaled(self, factors: Tensor) -> Iterator[None]:
        if self.scale is None or self.conf.is_static:
            yield
            return
        self.scale.factors = factors
        self.scale.active = True
        try:
            yield
        finally:
            self.scale.active = False

    def loss_weights(self) -> Tensor:
        """(K,) float64 weights in the loss that is differentiated.

        Heads get the plain mean over their objectives, except in recipe static.
        """
        return self.soup.coefficients if self.conf.is_static else 1.0 / self.objectives_of_head

    def end_step(self) -> None:
        """The step was taken: scan, refresh, count."""
        if self._pending is not None and self.is_scan and not self._forgone:
            self.selector.add(self._pending)
        losses, counts = self._mean_losses(), self.counts.pending
        refreshed = self.is_refresh and not self._forgone and self._refresh(losses)
        self.faults.take_step()
        self.counts.end_step()
        self.steps += 1
        self._step_of_epoch += 1
        self._forget()
        if refreshed:
            self._report = {}
            present = zip(self.objectives, losses.tolist(), counts.tolist(), strict=True)
            values = {
                "losses": {name: loss if count else None for name, loss, count in present},
                "layers": [self.selector.names[i] for i in self.layers_of_weights()],
            }
            self.log.write("refresh", self.steps, self.soup.epoch, values | self.report())

    def _mean_losses(self) -> Tensor:
        """(K,) mean losses of the step's utterances; 0 where an objective is absent."""
        return self._pending_losses / self.counts.pending.clamp(min=1)

    def _refresh(self, losses: Tensor) -> bool:
        selected = self.layers_of_weights()
        if self.measures and not selected:
            return False  # no layer in conflict: weights stay as they are
        statistic = self._pending
        if statistic is None:
            statistic = GramianStatistic.zeros(0, len(self.objectives))
        elif self.is_scan:
            statistic = statistic.select(selected)
        self.soup.refresh(*statistic.total(), losses, self.counts.pending)
        return True

    def drop_step(self) -> None:
        """The step is not taken: forget its sums; the soup is as before."""
        self.counts.drop_pending()
        self._forget()

    def skip_step(self) -> None:
        """The step could not be taken.

        Raises:
            NonFiniteTrainingError: if it is one too many in a row.
        """
        self.drop_step()
        self._step_of_epoch += 1
        causes = {cause: names[:10] for cause, names in self.faults.current.items()}
        self.log.write("skipped", self.steps, self.soup.epoch, {"causes": causes})
        self.faults.skip_step()

    def _forget(self) -> None:
        self._pending, self._forgone = None, False
        self._pending_losses = torch.zeros_like(self._pending_losses)

    def report(self) -> dict[str, float]:
        """Numbers for the reporter, under the same names at every step."""
        if not self._report:  # it changes with refreshes and epochs only
            self._report = self._make_report()
        counts = self.faults.counts
        skipped = {f"soup_skipped/{name}": float(counts.get(name, 0)) for name in self.objectives}
        skipped["soup_skipped/gradient"] = float(counts.get("gradient", 0))
        return {**self._report, **skipped, "soup_skipped_steps": float(self.faults.skipped)}

    def _make_report(self) -> dict[str, float]:
        values = self.soup.report()
        if self.measures:
            norms = self.soup.estimate.diagonal().clamp(min=0.0).sqrt().tolist()
            for name, norm in zip(self.objectives, norms, strict=True):
                values[f"soup_grad_norm/{name}"] = norm
            for i, name in enumerate(self.selector.names):
                values[f"soup_selected/{name}"] = float(i in self.selector.selected)
        return values

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors, numbers and strings, readable with `weights_only=True`."""
        return {
            "version": FORMAT_VERSION,
            "objectives": list(self.objectives),
            "steps": self.steps,
            "counts": self.counts.state_dict(),
            "soup": self.soup.state_dict(),
            "selector": self.selector.state_dict() if self.measures else None,
            "faults": self.faults.state_dict(),
            "step_of_epoch": self._step_of_epoch,
            "log_lines": self.log.lines,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint, or start afresh with `reset_soup`.

        Raises:
            ValueError: if it belongs to other objectives, levels or layers; nothing has changed.
        """
        # ESPnet maps a checkpoint to the GPU; a soup's numbers live on the CPU.
        state = tree_map(lambda x: x.cpu() if isinstance(x, Tensor) else x, state)
        try:
            self._check_state(state)
            self.soup.load_state_dict(state["soup"])
        except (SoupStateError, SoupMismatchError, LayerError) as err:
            if not self.conf.reset_soup:
                raise
            logging.warning("reset_soup: the soup starts afresh. %s", err)
            self.log.start_afresh()
            return
        if self.measures and state["selector"] is not None:
            self.selector.load_state_dict(state["selector"])
        self.steps = int(state["steps"])
        self.counts.load_state_dict(state["counts"])
        self.faults.load_state_dict(state["faults"])
        # Checkpoints of earlier versions have neither.
        self._step_of_epoch = int(state.get("step_of_epoch", 0))
        self._inside_epoch = True
        self.log.rewind(self.steps, state.get("log_lines"))

    def _check_state(self, state: Mapping[str, Any]) -> None:
        if state.get("version") != FORMAT_VERSION:
            raise SoupStateError(
                f"soup state: expected format {FORMAT_VERSION}, found {state.get('version')}; "
                "train into another output directory with --init_param, or set reset_soup: true"
            )
        if tuple(state["objectives"]) != self.objectives:
            raise SoupStateError(
                f"soup state: the checkpoint has objectives {', '.join(state['objectives'])}, the "
                f"configuration {', '.join(self.objectives)}; train with the same objectives, set "
                "reset_soup: true, or train into another output directory with --init_param"
            )
        if self.measures and state["selector"] is not None:
            self.selector.check_state(state["selector"])
