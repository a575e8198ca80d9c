# SPDX-License-Identifier: Apache-2.0
"""Numbers about a batch for the log."""

from collections.abc import Mapping

import torch
from torch import Tensor

from espnet_objsoup.models.objective_table import ObjectiveTable
from espnet_objsoup.models.task_head import HeadOutput, TaskHead
from espnet_objsoup.objectives import report_key


@torch.no_grad()
def batch_statistics(
    table: ObjectiveTable,
    heads: Mapping[str, TaskHead],
    outputs: Mapping[str, HeadOutput],
    index: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Losses and accuracies per task and per objective.

    Args:
        table: the model's objectives.
        heads: supervised heads by task.
        outputs: of all heads, by task.
        index: task -> (B,) index of the objective, -1 = none.

    Returns:
        Scalars. 0 / 0 is the NaN that ESPnet's reporter leaves out of an epoch's mean.
    """
    losses, counts = table.reduce({task: out.losses for task, out in outputs.items()}, index)
    correct, _ = table.reduce({t: out.correct_tokens for t, out in outputs.items()}, index)
    tokens, _ = table.reduce({t: out.target_tokens for t, out in outputs.items()}, index)
    present = torch.where(counts > 0, losses, torch.nan)
    accuracies = correct / tokens
    # A CTC-only head ranks no tokens; a self-supervised one ranks candidates.
    ranking = {task for task in outputs if task not in heads or heads[task].decoder is not None}
    stats = {}
    for task, output in outputs.items():
        n = (index[task] >= 0).sum()
        stats[f"loss_{task}"] = output.losses.sum() / n
        if task in ranking:
            stats[f"acc_{task}"] = output.correct_tokens.sum() / output.target_tokens.sum()
        if task in heads and heads[task].ctc is not None:
            stats[f"infeasible_ctc_{task}"] = output.infeasible_ctc.sum() / n
    for k, objective in enumerate(table.objectives):
        key = report_key(objective)
        stats[f"loss_{key}"] = present[k]
        if objective.split("/")[0] in ranking:
            stats[f"acc_{key}"] = accuracies[k]
    return stats
