# SPDX-License-Identifier: Apache-2.0
"""Soups reach the known solutions of quadratic problems."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[3] / "tools" / "figures" / "quadratic.py"


@pytest.fixture(scope="module")
def quadratic():
    spec = importlib.util.spec_from_file_location("quadratic", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules["quadratic"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("weighting", "conf"),
    [("modo", {"rho": 0.01}), ("mgda", {"max_iters": 20})],
)
def test_flat_soups_reach_the_pareto_set(quadratic, weighting: str, conf: dict) -> None:
    soup = {"recipe": "flat", "weighting": weighting, "weighting_conf": conf}
    run = quadratic.descend(quadratic.TRIANGLE, soup, steps=250)
    # With equal curvatures stationary means: x is the minima's mean under the weights.
    end = run.points[-1]
    _, jacobian = quadratic.TRIANGLE.losses_and_jacobian(end)
    assert float((run.soup.weights @ jacobian).norm()) < 0.02
    assert float((run.soup.weights @ quadratic.TRIANGLE.minima - end).norm()) < 0.02
    # On the way to it no objective was sacrificed.
    assert (run.losses[-1] < run.losses[0]).all()


@pytest.mark.parametrize(
    ("penalty", "share"),
    # The running Gramian trails behind, and with it the barrier's coefficient.
    [("constant 30", 1e-3), ("linear to 30", 1e-3), ("barrier, target 0", 2e-2)],
)
def test_lower_level_is_solved_first_then_the_top_improves(
    quadratic, penalty: str, share: float
) -> None:
    conf = {"recipe": "bilevel", **quadratic.PENALTIES[penalty]}
    run = quadratic.descend(quadratic.LEVELS, conf)
    lower, distance = run.losses[:, 2], (run.points[:, 1] - 2.0).abs()
    solved = int((lower < share * lower[0]).nonzero()[0])
    assert solved < 400
    # From there the top gains along the solutions of the lower level, which stays solved.
    assert (lower[solved:] < 1.01 * share * lower[0]).all()
    assert float(distance[-1]) < 0.2 * float(distance[solved])
    # The best point of the line x_1 = 0, up to what a finite penalty and time leave.
    assert torch.allclose(run.points[-1], torch.tensor([0.0, 2.0]).double(), atol=0.2)


def test_without_priority_the_lower_level_is_not_solved(quadratic) -> None:
    conf = {"recipe": "bilevel", "penalty": "constant", "penalty_conf": {"value": 1.0}}
    run = quadratic.descend(quadratic.LEVELS, conf, steps=300)
    assert float(run.points[-1][0]) == pytest.approx(1.0, abs=0.01)


def test_barrier_on_the_running_mean_keeps_what_was_reached(quadratic) -> None:
    conf = {"recipe": "bilevel", **quadratic.PENALTIES["barrier, running mean"]}
    run = quadratic.descend(quadratic.LEVELS, conf, steps=600)
    lower, top = run.losses[:, 2], run.losses[:, :2].mean(dim=1)
    # It forbids rising; it does not drive down.
    assert float(lower[-1] - lower[200]) < 5e-3
    assert float(top[-1]) < float(top[200]) - 0.3


def test_figures_are_deterministic(quadratic, tmp_path, monkeypatch) -> None:
    descend = quadratic.descend
    monkeypatch.setattr(
        quadratic, "descend", lambda problem, conf, **_: descend(problem, conf, steps=52)
    )
    for name in ("a", "b"):
        monkeypatch.setattr(sys, "argv", ["quadratic.py", "--out", str(tmp_path / name)])
        quadratic.main()
    figures = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert figures == ["quadratic_flat.svg", "quadratic_levels.svg"]
    for name in figures:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("name", ["quadratic_flat.svg", "quadratic_levels.svg"])
def test_figures_in_the_documentation_are_small(name: str) -> None:
    assert (SCRIPT.parents[2] / "docs" / "images" / name).stat().st_size < 60_000
