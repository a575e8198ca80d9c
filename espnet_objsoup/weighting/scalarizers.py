# SPDX-License-Identifier: Apache-2.0
"""TorchJD's scalarizers as weightings: weight_k = d S(L) / d L_k at the losses of a refresh.

To first order, descending along a scalarized loss S is a step with these weights. They are
baselines: they see no gradients.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from espnet_objsoup.weighting.base import Weighting, WeightingInput
from espnet_objsoup.weighting.torchjd_gramian import preference_of

Conf = Mapping[str, Any]


class ScalarizerWeighting(Weighting):
    """Derivative of a scalarizer; uniform until every objective has been present once."""

    def __init__(self, objectives: tuple[str, ...], conf: Conf) -> None:
        super().__init__(objectives, conf)
        self.scalarizer = self.build()

    def build(self) -> Any:
        """TorchJD's object."""
        raise NotImplementedError

    def update(self, inputs: WeightingInput, weights: Tensor) -> Tensor | None:
        """d S / d L at the losses."""
        if inputs.losses.isnan().any():
            return None
        return self.derivative(inputs.losses)

    def derivative(self, losses: Tensor) -> Tensor:
        """(n,) d S / d L at the losses (n,)."""
        with torch.enable_grad():
            losses = losses.clone().requires_grad_()
            return torch.autograd.grad(self.scalarizer(losses), losses)[0]


class STCH(ScalarizerWeighting):
    """Smooth Tchebycheff."""

    def build(self) -> Any:
        """TorchJD's STCH, with the preference as weights."""
        from torchjd.scalarization import STCH as Rule

        return Rule(mu=self.conf["mu"], weights=preference_of(self.conf))


class COSMOS(ScalarizerWeighting):
    """Linear scalarization with a bonus for alignment with the preference."""

    def build(self) -> Any:
        """TorchJD's COSMOS."""
        from torchjd.scalarization import COSMOS as Rule

        return Rule(lambda_=self.conf["lambda"], weights=preference_of(self.conf))


class PBI(ScalarizerWeighting):
    """Penalty-based boundary intersection."""

    def build(self) -> Any:
        """TorchJD's PBI."""
        from torchjd.scalarization import PBI as Rule

        return Rule(theta=self.conf["theta"], weights=preference_of(self.conf))


class GeometricMean(ScalarizerWeighting):
    """Geometric mean of the losses."""

    def build(self) -> Any:
        """TorchJD's GeometricMean."""
        from torchjd.scalarization import GeometricMean as Rule

        return Rule()


class DWA(ScalarizerWeighting):
    """Dynamic weight average; an epoch's mean loss is that over its refreshes."""

    epoch = 0

    def build(self) -> Any:
        """TorchJD's DWA."""
        from torchjd.scalarization import DWA as Rule

        return Rule(temperature=self.conf["temperature"])

    def update(self, inputs: WeightingInput, weights: Tensor) -> Tensor | None:
        """d S / d L; a new epoch moves TorchJD's history on."""
        if inputs.losses.isnan().any():
            return None
        if inputs.epoch != self.epoch and self.epoch:
            self.scalarizer.step()
        self.epoch = inputs.epoch
        return self.derivative(inputs.losses)

    def state_dict(self) -> dict[str, Any]:
        """Sums of this epoch, means of the last two."""
        sums = self.scalarizer._loss_sum
        return {
            "epoch": self.epoch,
            "loss_sum": None if sums is None else sums.clone(),
            "batches": self.scalarizer._n_batches,
            "averages": [mean.clone() for mean in self.scalarizer._previous_averages],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.epoch = state["epoch"]
        sums = state["loss_sum"]
        self.scalarizer._loss_sum = None if sums is None else sums.clone()
        self.scalarizer._n_batches = state["batches"]
        self.scalarizer._previous_averages = [mean.clone() for mean in state["averages"]]


class LearnedScales(ScalarizerWeighting):
    """A scalarizer with one learned number per objective, learned by gradient descent.

    The model's optimiser never sees it: its steps would depend on the model's learning rate.
    """

    parameter = ""

    def update(self, inputs: WeightingInput, weights: Tensor) -> Tensor | None:
        """d S / d L, and a step of the learned numbers of the objectives that are present."""
        if inputs.losses.isnan().any():
            return None
        learned = getattr(self.scalarizer, self.parameter)
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(self.scalarizer(inputs.losses), learned)
        with torch.no_grad():
            step = self.conf["lr"] * inputs.interval * slope
            learned -= torch.where(inputs.present, step, 0.0)
        return self.derivative(inputs.losses)

    def state_dict(self) -> dict[str, Any]:
        """The learned numbers."""
        return {"learned": getattr(self.scalarizer, self.parameter).detach().clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        with torch.no_grad():
            getattr(self.scalarizer, self.parameter).copy_(state["learned"])


class UW(LearnedScales):
    """Uncertainty weighting."""

    parameter = "log_var"

    def build(self) -> Any:
        """TorchJD's UW."""
        from torchjd.scalarization import UW as Rule

        return Rule(len(self.objectives)).double()


class IMTLL(LearnedScales):
    """IMTL-L."""

    parameter = "log_scale"

    def build(self) -> Any:
        """TorchJD's IMTLL."""
        from torchjd.scalarization import IMTLL as Rule

        return Rule(len(self.objectives)).double()


SCALARIZERS: dict[str, type[Weighting]] = {
    "stch": STCH,
    "geometric_mean": GeometricMean,
    "dwa": DWA,
    "uw": UW,
    "imtl_l": IMTLL,
    "cosmos": COSMOS,
    "pbi": PBI,
}
