# SPDX-License-Identifier: Apache-2.0
"""Why a part of the page is not there, and what would bring it."""

from espnet_objsoup.report.run_data import RunData

_MONITOR = (
    "train with trainer: objsoup and trainer_conf: {recipe: static, monitor: true} to measure "
    "gradients without acting on them"
)


def why_no_soup(run: RunData) -> str:
    """Why there are no weights, norms or conflicts."""
    if run.soup_conf is None:
        return f"not measured (trainer: {run.trainer}); {_MONITOR}."
    if not run.measures:
        return f"not measured ({run.recipe}, which needs no gradients); {_MONITOR}."
    return "nothing yet; the first line of soup.jsonl is written after the first step."


def why_no_scan(run: RunData) -> str:
    """Why there are no cosines of all layers."""
    conf = run.soup_conf
    if conf is None or not run.measures:
        return why_no_soup(run)
    if (conf.monitor or conf.layers.policy == "conflict") and conf.layers.scan_interval:
        return "no scan yet; one is finished at the end of the first epoch."
    return (
        "no scans were made: they are with layers: {policy: conflict}, or with monitor: true and "
        "a scan_interval above 0."
    )
