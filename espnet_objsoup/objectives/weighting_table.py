# SPDX-License-Identifier: Apache-2.0
"""All weightings by name: what they need, their options, and which ones cannot work here.

A weighting sees the K x K Gramian and the losses of its level, never the gradients themselves.
This table is read before torch is needed; `espnet_objsoup.weighting` builds what it names.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

from espnet_objsoup.objectives.options import Option, SoupConfError

NOTHING = "nothing"
STEP = "step Gramian"
RUNNING = "running Gramian"
LOSSES = "losses"
# With fewer refreshes the running estimate is worse than one batch (simulated).
MIN_SAMPLE_SIZE = 50.0


@dataclass(frozen=True)
class WeightingInfo:
    """What a weighting is.

    Attributes:
        summary: one line.
        source: where it was published.
        needs: NOTHING, STEP (this refresh's unbiased estimate), RUNNING (the running estimate,
            positive semi-definite) or LOSSES.
        options: its options.
        packages: modules that it imports and that are not installed with this package.
        extra: TorchJD's extra that installs them.
        min_objectives: fewest objectives of a level.
    """

    summary: str
    source: str
    needs: str
    options: Mapping[str, Option] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    extra: str = ""
    min_objectives: int = 1


# The EMA of CR-MOGM (Zhou et al., NeurIPS 2022), for every weighting that computes afresh.
_SMOOTHING = {"smoothing": Option(0.0, high=0.9999)}
# Sener and Koltun's code calls it normalization_type l2. LibMTL's mgda_gn: l2 is not the same: its
# weights act on gradients of unit length.
_MATRIX = {"matrix": Option("gramian", choices=("gramian", "cosines"))}
_PREFERENCE = {"preference": Option(None, per_objective=True, optional=True)}
_QUADPROG = {"packages": ("quadprog", "qpsolvers"), "extra": "quadprog-projector"}
# TorchJD's default of 1e-4 lets objectives rise slightly.
_REG_EPS = {"reg_eps": Option(1e-9, open_low=True)}

WEIGHTINGS: dict[str, WeightingInfo] = {
    "static": WeightingInfo(
        "fixed weights, 1 for all unless given",
        "-",
        NOTHING,
        {
            "weights": Option(None, per_objective=True, optional=True),
            "normalize": Option(False, boolean=True),
        },
    ),
    "uniform": WeightingInfo("the plain average", "-", NOTHING),
    "random": WeightingInfo(
        "softmax of normal numbers, drawn afresh at every refresh",
        "Lin et al., TMLR 2022",
        NOTHING,
        _SMOOTHING,
    ),
    "modo": WeightingInfo(
        "projected gradient steps on the min-norm problem, with an unbiased matrix",
        "Chen, Fernando, Ying, Chen, JMLR 2024, eq. 2.9b",
        STEP,
        # TorchJD's gamma of 0.1 averages over some 10 steps, which is mostly their noise; this one
        # over some 100, as many as MIN_SAMPLE_SIZE refreshes of an interval of 2 have.
        {"gamma": Option(0.01, open_low=True), "rho": Option(0.1), **_MATRIX},
    ),
    "sdmgrad": WeightingInfo(
        "as modo, pulled towards a preferred direction",
        "Xiao, Ban, Ji, NeurIPS 2023",
        STEP,
        {
            "lr": Option(10.0, open_low=True),
            "momentum": Option(0.5, high=0.9999),
            "n_iter": Option(20, low=1, integer=True),
            "lambda": Option(0.3),
            **_PREFERENCE,
            **_MATRIX,
            **_SMOOTHING,
        },
    ),
    "mgda": WeightingInfo(
        "the convex combination of least norm",
        "Desideri, CRAS 2012; Sener, Koltun, NeurIPS 2018, algorithm 2",
        RUNNING,
        {
            # TorchJD's defaults (1e-3, 100) stop before no objective rises.
            "epsilon": Option(1e-6, open_low=True),
            "max_iters": Option(1000, low=1, integer=True),
            **_MATRIX,
            **_SMOOTHING,
        },
    ),
    "upgrad": WeightingInfo(
        "mean of the gradients' projections onto the cone in which no objective rises",
        "Quinton, Rey, arXiv 2406.16232",
        RUNNING,
        {**_REG_EPS, **_PREFERENCE, **_MATRIX, **_SMOOTHING},
        **_QUADPROG,
    ),
    "dualproj": WeightingInfo(
        "projection of the mean gradient onto that cone",
        "Lopez-Paz, Ranzato, NeurIPS 2017, eq. 11",
        RUNNING,
        {**_REG_EPS, **_PREFERENCE, **_MATRIX, **_SMOOTHING},
        **_QUADPROG,
    ),
    "pcgrad": WeightingInfo(
        "each gradient without its part against the others, in random order",
        "Yu et al., NeurIPS 2020",
        RUNNING,
        {**_MATRIX, **_SMOOTHING},
    ),
    "gradvac": WeightingInfo(
        "as pcgrad, towards running target cosines",
        "Wang et al., ICLR 2021",
        RUNNING,
        {"beta": Option(0.5, high=1.0), **_MATRIX, **_SMOOTHING},
    ),
    "cagrad": WeightingInfo(
        "best worst-case direction in a ball around the mean",
        "Liu et al., NeurIPS 2021",
        RUNNING,
        {"c": Option(0.5), **_MATRIX, **_SMOOTHING},
        packages=("cvxpy", "clarabel"),
        extra="cagrad",
    ),
    "imtl_g": WeightingInfo(
        "equal projections onto all gradients; weights can be negative",
        "Liu et al., ICLR 2021",
        RUNNING,
        {**_MATRIX, **_SMOOTHING},
    ),
    "aligned_mtl": WeightingInfo(
        "equalised principal components; weights can be negative",
        "Senushkin et al., CVPR 2023",
        RUNNING,
        {
            "scale_mode": Option("rmse", choices=("rmse", "median", "min")),
            **_PREFERENCE,
            **_MATRIX,
            **_SMOOTHING,
        },
    ),
    "fairgrad": WeightingInfo(
        "alpha-fair allocation of descent",
        "Ban, Ji, ICML 2024, eq. 4",
        RUNNING,
        {"alpha": Option(2.0), **_MATRIX, **_SMOOTHING},
        packages=("scipy",),
        extra="fairgrad",
    ),
    "nash_mtl": WeightingInfo(
        "Nash bargaining solution",
        "Navon et al., ICML 2022, algorithm 1",
        RUNNING,
        {"optim_niter": Option(20, low=1, integer=True), **_MATRIX, **_SMOOTHING},
        packages=("cvxpy", "ecos"),
        extra="nash-mtl",
    ),
    "pcd": WeightingInfo(
        "the level's first objective, the others each guaranteed a share of descent",
        "TMLR 2026, arXiv 2606.29521",
        RUNNING,
        {
            "tau": Option(0.02, high=1.0),
            "beta": Option(0.999, high=0.999999),
            **_MATRIX,
            **_SMOOTHING,
        },
    ),
    "krum": WeightingInfo(
        "only the objectives whose gradients lie nearest the others",
        "Blanchard et al., NeurIPS 2017",
        RUNNING,
        {
            "n_byzantine": Option(0, integer=True),
            "n_selected": Option(1, low=1, integer=True),
            **_MATRIX,
            **_SMOOTHING,
        },
        min_objectives=3,
    ),
    "stch": WeightingInfo(
        "smooth Tchebycheff: mostly the largest loss",
        "Lin et al., ICML 2024",
        LOSSES,
        {"mu": Option(0.1, open_low=True), **_PREFERENCE, **_SMOOTHING},
    ),
    "geometric_mean": WeightingInfo(
        "weights inverse to the losses",
        "Chennupati et al., CVPR workshops 2019",
        LOSSES,
        _SMOOTHING,
    ),
    "dwa": WeightingInfo(
        "more for losses that fall more slowly from epoch to epoch",
        "Liu, Johns, Davison, CVPR 2019",
        LOSSES,
        {"temperature": Option(2.0, open_low=True), **_SMOOTHING},
    ),
    "uw": WeightingInfo(
        "learned log-variances, a gradient step per refresh",
        "Kendall, Gal, Cipolla, CVPR 2018",
        LOSSES,
        {"lr": Option(0.025, open_low=True), **_SMOOTHING},
    ),
    "imtl_l": WeightingInfo(
        "learned log-scales, a gradient step per refresh",
        "Liu et al., ICLR 2021",
        LOSSES,
        {"lr": Option(0.025, open_low=True), **_SMOOTHING},
    ),
    "cosmos": WeightingInfo(
        "linear, rewarding losses in proportion to the preference; weights can be negative",
        "Ruchte, Grabocka, ICDM 2021",
        LOSSES,
        {"lambda": Option(1.0), **_PREFERENCE, **_SMOOTHING},
    ),
    "pbi": WeightingInfo(
        "distance along and across the preferred direction; weights can be negative",
        "Zhang, Li, IEEE TEC 2007",
        LOSSES,
        {"theta": Option(5.0, high=math.inf), **_PREFERENCE, **_SMOOTHING},
    ),
}

_JACOBIAN = "needs the whole Jacobian (objectives x parameters), which is never formed here; use "
REFUSED: dict[str, str] = {
    "excess_mtl": _JACOBIAN + "dwa, which also favours objectives that lag behind",
    "graddrop": _JACOBIAN + "pcgrad, or gradvac, which also resolve conflicts",
    "trimmed_mean": _JACOBIAN + "krum, which is also robust and needs the Gramian only",
    "config": _JACOBIAN + "upgrad or mgda, whose directions also conflict with no objective",
    "famo": "needs every batch's losses again after the step (a second forward); use dwa or stch",
    "cr_mogm": "is an average over any weighting; give the option smoothing, e.g. 0.9",
    "mean": "is called uniform here",
    "sum": "is called static here; its weights are 1 unless given",
    "constant": "is called static here; give weighting_conf.weights",
}


def weighting_info(name: str, key: str) -> WeightingInfo:
    """Look up a weighting.

    Args:
        name: as in the configuration.
        key: where it stands, for the message.

    Raises:
        SoupConfError: if there is none of that name, it cannot work on a Gramian, or a package
            that it imports is missing.
    """
    # TorchJD writes ExcessMTL, TrimmedMean, ConFIG; both spellings deserve the reason.
    reasons = {known.replace("_", ""): reason for known, reason in REFUSED.items()}
    reason = reasons.get(str(name).lower().replace("-", "").replace("_", ""))
    if reason:
        raise SoupConfError(f"{key}: {name} {reason}")
    if name not in WEIGHTINGS:
        raise SoupConfError(f"{key}: expected one of {', '.join(WEIGHTINGS)}, found {name!r}")
    info = WEIGHTINGS[name]
    missing = [package for package in info.packages if find_spec(package) is None]
    if missing:
        raise SoupConfError(
            f"{key}: {name} needs {' and '.join(missing)}, not installed; "
            f'pip install "torchjd[{info.extra}]"'
        )
    return info
