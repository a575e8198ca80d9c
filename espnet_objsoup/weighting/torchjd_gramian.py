# SPDX-License-Identifier: Apache-2.0
"""TorchJD's weightings that need the Gramian only."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from espnet_objsoup.objectives.weighting_table import MIN_SAMPLE_SIZE
from espnet_objsoup.weighting.base import Weighting, WeightingInput

Conf = Mapping[str, Any]
# Builder of a TorchJD weighting: (options, objectives of the level) -> callable on a matrix.
Builder = Callable[[Conf, tuple[str, ...]], Callable[[Tensor], Tensor]]


class GramianWeighting(Weighting):
    """A TorchJD weighting on the running Gramian, once that is good enough.

    Attributes:
        build: makes TorchJD's object.
        memory: names of its attributes that carry over to the next call.
    """

    build: Builder
    memory: tuple[str, ...] = ()

    def __init__(self, objectives: tuple[str, ...], conf: Conf) -> None:
        super().__init__(objectives, conf)
        self.rule = type(self).build(conf, objectives)

    def update(self, inputs: WeightingInput, weights: Tensor) -> Tensor | None:
        """TorchJD's weights; the weights so far until the estimate is good enough."""
        if inputs.sample_size < MIN_SAMPLE_SIZE:
            return None
        return self.apply(self.matrix(inputs))

    def matrix(self, inputs: WeightingInput) -> Tensor:
        """(n, n) what the rule is applied to."""
        return inputs.running

    def apply(self, matrix: Tensor) -> Tensor:
        """The rule's answer; NaN, which keeps the weights, where its solver gives up."""
        try:
            return self.rule(matrix).detach().double()
        except _solver_errors() as error:
            logging.warning("%s kept its weights: %s", type(self).__name__, error)
            return torch.full((len(matrix),), torch.nan, dtype=torch.float64)

    def state_dict(self) -> dict[str, Any]:
        """The rule's memory, as far as there is any yet."""
        values = {name: getattr(self.rule, name) for name in self.memory}
        return {name: torch.as_tensor(v).clone() for name, v in values.items() if v is not None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        for name in self.memory:
            setattr(self.rule, name, state[name].clone() if name in state else None)
        # TorchJD starts afresh unless this key fits its next input.
        if state and hasattr(self.rule, "_state_key"):
            self.rule._state_key = self.state_key()

    def state_key(self) -> Any:
        """What TorchJD compares with its input."""
        return len(self.objectives)


def _solver_errors() -> tuple[type[Exception], ...]:
    errors: tuple[type[Exception], ...] = (ValueError, ArithmeticError, RuntimeError)
    try:
        from cvxpy.error import SolverError
    except ImportError:
        return errors
    return (*errors, SolverError)


def preference_of(conf: Conf) -> Tensor:
    """(n,) float64 preferred direction, sum 1."""
    values = torch.tensor(list(conf["preference"].values()), dtype=torch.float64)
    return values / values.sum()


def _mgda(conf: Conf, objectives: tuple[str, ...]) -> Any:
    from torchjd.aggregation import MGDAWeighting

    return MGDAWeighting(epsilon=conf["epsilon"], max_iters=conf["max_iters"])


def _upgrad(conf: Conf, objectives: tuple[str, ...]) -> Any:
    from torchjd.aggregation import UPGradWeighting
    from torchjd.linalg import QuadprogProjector

    return UPGradWeighting(
        preference_of(conf), projector=QuadprogProjector(reg_eps=conf["reg_eps"])
    )


def _dualproj(conf: Conf, objectives: tuple[str, ...]) -> Any:
    from torchjd.aggregation import DualProjWeighting
    from torchjd.linalg import QuadprogProjector

    return DualProjWeighting(
        preference_of(conf), projector=QuadprogProjector(reg_eps=conf["reg_eps"])
    )


def _pcgrad(conf: Conf, objectives: tuple[str, ...]) -> Any:
    from torchjd.aggregation import PCGradWeighting

    return PCGradWeighting()


def _gradvac(conf: Conf, objectives: tuple[str, ...]) -> Any:
    from torchjd.aggregation import GradVacWeighting

    return GradVacWeighting(beta=conf["beta"])


def _cagrad(conf: Conf, objectives: tuple[str, ...]) -> Any:
    from torchjd.aggregation import CAGradWeighting

    return CAGradWeighting(c=conf["c"])


def _imtl_g(conf: Conf, objectives: tuple[str, ...]) -> Any:
    from torchjd.aggregation import IMTLGWeighting

    return IMTLGWeighting()


def _aligned_mtl(conf: Conf, objectives: tuple[str, ...]) -> Any:
    from torchjd.aggregation import AlignedMTLWeighting

    return AlignedMTLWeighting(preference_of(conf), scale_mode=conf["scale_mode"])


def _fairgrad(conf: Conf, objectives: tuple[str, ...]) -> Any:
    from torchjd.aggregation import FairGradWeighting

    return FairGradWeighting(alpha=conf["alpha"])


def _nash_mtl(conf: Conf, objectives: tuple[str, ...]) -> Any:
    from torchjd.aggregation import NashMTL

    # Weights are normalised afterwards, so the norm of the direction need not be cut.
    return NashMTL(len(objectives), max_norm=0.0, optim_niter=conf["optim_niter"]).weighting


def _pcd(conf: Conf, objectives: tuple[str, ...]) -> Any:
    from torchjd.aggregation import PCDWeighting

    return PCDWeighting(tau=conf["tau"], beta=conf["beta"])


def _krum(conf: Conf, objectives: tuple[str, ...]) -> Any:
    from torchjd.aggregation import KrumWeighting

    return KrumWeighting(n_byzantine=conf["n_byzantine"], n_selected=conf["n_selected"])


def _sdmgrad(conf: Conf, objectives: tuple[str, ...]) -> Any:
    from torchjd.aggregation import SDMGradWeighting

    return SDMGradWeighting(
        lr=conf["lr"],
        momentum=conf["momentum"],
        n_iter=conf["n_iter"],
        lambda_=conf["lambda"],
        pref_vector=preference_of(conf),
    )


def _random(conf: Conf, objectives: tuple[str, ...]) -> Any:
    from torchjd.aggregation import RandomWeighting

    return RandomWeighting()


class GradVac(GramianWeighting):
    """GradVac and its target cosines."""

    build = _gradvac
    memory = ("_phi_t",)

    def state_key(self) -> Any:
        """Size and type of the matrix."""
        return (len(self.objectives), torch.float64)


class PCD(GramianWeighting):
    """PCD and its running norms."""

    build = _pcd
    memory = ("_sq_norm_ema", "_n_steps")


class NashMTL(GramianWeighting):
    """Nash-MTL on the square root of the Gramian, a Jacobian with the same products."""

    build = _nash_mtl
    memory = ("prvs_alpha",)

    def matrix(self, inputs: WeightingInput) -> Tensor:
        """(n, n) symmetric square root of the Gramian."""
        values, vectors = torch.linalg.eigh(inputs.running)
        return (vectors * values.clamp(min=0.0).sqrt()) @ vectors.mT

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`; TorchJD holds its memory in numpy."""
        self.rule.reset()
        self.rule.prvs_alpha = state["prvs_alpha"].numpy().copy()


class SDMGrad(GramianWeighting):
    """SDMGrad on this refresh's unbiased matrix."""

    build = _sdmgrad
    memory = ("_w",)

    def update(self, inputs: WeightingInput, weights: Tensor) -> Tensor | None:
        """TorchJD's weights."""
        return self.apply(inputs.step)

    def state_key(self) -> Any:
        """Size, type and device of the matrix."""
        return (len(self.objectives), torch.float64, torch.device("cpu"))


class Random(GramianWeighting):
    """Random weights."""

    build = _random

    def update(self, inputs: WeightingInput, weights: Tensor) -> Tensor | None:
        """TorchJD's weights."""
        return self.apply(inputs.step)


def _plain(name: str, build: Builder) -> type[GramianWeighting]:
    return type(name, (GramianWeighting,), {"build": staticmethod(build), "__doc__": name})


GRAMIAN_WEIGHTINGS: dict[str, type[Weighting]] = {
    "mgda": _plain("MGDA", _mgda),
    "upgrad": _plain("UPGrad", _upgrad),
    "dualproj": _plain("DualProj", _dualproj),
    "pcgrad": _plain("PCGrad", _pcgrad),
    "gradvac": GradVac,
    "cagrad": _plain("CAGrad", _cagrad),
    "imtl_g": _plain("IMTLG", _imtl_g),
    "aligned_mtl": _plain("AlignedMTL", _aligned_mtl),
    "fairgrad": _plain("FairGrad", _fairgrad),
    "nash_mtl": NashMTL,
    "pcd": PCD,
    "krum": _plain("Krum", _krum),
    "sdmgrad": SDMGrad,
    "random": Random,
}
