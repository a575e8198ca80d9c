# SPDX-License-Identifier: Apache-2.0
"""Soups on quadratic objectives with known solutions; draws docs/images/quadratic_*.svg.

    python tools/figures/quadratic.py [--out docs/images]

Objective k is L_k(x) = 1/2 (x - a_k)^T A_k (x - a_k) in the plane, with exact gradients.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from espnet_objsoup.objectives import resolve_levels
from espnet_objsoup.weighting import Soup

# Any number does: the gradients are exact, so every pair of utterances gives the same product.
PAIRS = 100.0


@dataclass(frozen=True)
class Problem:
    """Quadratic objectives.

    Attributes:
        names: of K objectives.
        minima: (K, 2) a_k.
        curvatures: (K, 2, 2) A_k.
        start: (2,) first point.
    """

    names: tuple[str, ...]
    minima: Tensor
    curvatures: Tensor
    start: Tensor

    def losses_and_jacobian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(K,) losses and (K, 2) gradients at x (2,)."""
        offsets = x - self.minima
        gradients = torch.einsum("kij,kj->ki", self.curvatures, offsets)
        return 0.5 * (offsets * gradients).sum(dim=1), gradients


def _tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# The Pareto set is the triangle between the minima.
TRIANGLE = Problem(
    ("asr/de", "asr/fr", "asr/zh"),
    _tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 1.5]]),
    torch.eye(2, dtype=torch.float64).expand(3, 2, 2),
    _tensor([3.5, 3.0]),
)
# The lower level, st/fr-en, is solved on the whole line x_1 = 0; the upper one wants (2, 1) and
# (2, 3), so the best point of that line is (0, 2). The way along the line is the slow one.
LEVELS = Problem(
    ("asr/de", "asr/fr", "st/fr-en"),
    _tensor([[2.0, 1.0], [2.0, 3.0], [0.0, 0.0]]),
    torch.diag_embed(_tensor([[1.0, 0.1], [1.0, 0.1], [1.0, 0.0]])),
    _tensor([3.0, -4.0]),
)
PENALTIES: dict[str, dict[str, Any]] = {
    "constant 30": {"penalty": "constant", "penalty_conf": {"value": 30.0}},
    "linear to 30": {"penalty": "linear", "penalty_conf": {"step": 1.0, "max": 30.0}},
    "barrier, target 0": {
        "penalty": "barrier",
        "penalty_conf": {"target": 0.0, "alpha": 5.0, "eta_max": 30.0},
    },
    "barrier, running mean": {"penalty": "barrier", "penalty_conf": {"eta_max": 30.0}},
}


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        points: (S+1, 2) visited.
        losses: (S+1, K) there.
        soup: at the end.
    """

    points: Tensor
    losses: Tensor
    soup: Soup


def descend(
    problem: Problem,
    conf: Mapping[str, Any],
    steps: int = 1000,
    rate: float = 0.04,
    steps_per_epoch: int = 5,
    decay: float = 0.97,
) -> Run:
    """Gradient descent along a soup's direction, a refresh per step.

    Args:
        problem: objectives.
        conf: the soup's keys of `trainer_conf`.
        steps: S.
        rate: learning rate.
        steps_per_epoch: for scheduled penalties.
        decay: of the running Gramian; the smallest useful one, as the gradients have no noise.
    """
    if conf.get("weighting", "modo") == "modo":
        # There is no noise to average over: ten times as fast as by default.
        conf = {**conf, "weighting_conf": {"gamma": 0.1, **conf.get("weighting_conf", {})}}
    soup = Soup(resolve_levels(conf, problem.names), problem.names, decay=decay)
    counts = torch.full((len(problem.names),), 11)
    pairs = torch.full((len(counts), len(counts)), PAIRS, dtype=torch.float64)
    x = problem.start.clone()
    points, history = [x], [problem.losses_and_jacobian(x)[0]]
    for step in range(steps):
        soup.begin_epoch(1 + step // steps_per_epoch)
        losses, jacobian = problem.losses_and_jacobian(x)
        # The step's weights come from the refresh before, as in training.
        direction = soup.coefficients @ jacobian
        gramian = jacobian @ jacobian.T
        soup.refresh(PAIRS * gramian, pairs, gramian.diagonal(), losses, counts)
        x = x - rate * direction
        points.append(x)
        history.append(problem.losses_and_jacobian(x)[0])
    return Run(torch.stack(points), torch.stack(history), soup)


def draw_flat(path: Path) -> None:
    """Paths of flat soups to the Pareto set."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 3.6))
    axes.fill(*TRIANGLE.minima.T.numpy(), alpha=0.2, color="grey", label="Pareto set")
    for weighting in ("uniform", "modo", "mgda"):
        run = descend(TRIANGLE, {"recipe": "flat", "weighting": weighting}, steps=250)
        axes.plot(*run.points[::10].T.numpy(), label=weighting)
        axes.plot(*run.points[-1].numpy(), "k.")
    axes.set(xlabel="$x_1$", ylabel="$x_2$")
    axes.legend(frameon=False)
    _save(figure, path)


def draw_levels(path: Path) -> None:
    """Losses of both levels under every penalty."""
    from matplotlib import pyplot as plt

    figure, (lower, top) = plt.subplots(1, 2, figsize=(8, 3.2), sharex=True)
    for name, conf in PENALTIES.items():
        run = descend(LEVELS, {"recipe": "bilevel", **conf})
        every = range(0, len(run.losses), 10)
        lower.semilogy(every, run.losses[::10, 2].clamp(min=1e-6).numpy(), label=name)
        top.plot(every, run.losses[::10, :2].mean(dim=1).numpy())
    top.axhline(2.05, color="grey", linewidth=0.8, linestyle=":")
    lower.set(xlabel="step", title="lower level's loss")
    top.set(xlabel="step", title="mean loss of the top level")
    lower.legend(frameon=False, fontsize="small")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    # Without the date the same plot is the same file.
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Draw all figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="directory")
    args = parser.parse_args()
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "objsoup", "svg.fonttype": "none"})
    args.out.mkdir(parents=True, exist_ok=True)
    draw_flat(args.out / "quadratic_flat.svg")
    draw_levels(args.out / "quadratic_levels.svg")


if __name__ == "__main__":
    main()
