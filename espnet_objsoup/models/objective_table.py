# SPDX-License-Identifier: Apache-2.0
"""Which objective an utterance of a batch belongs to, and sums per objective."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from espnet_objsoup.objectives import ObjectiveSpec

TASK_TEXT = {"asr": "text", "st": "st_text"}


class ObjectiveTable(nn.Module):
    """Maps (task, language, target language) to an objective, on the model's device.

    Args:
        objectives: names `asr/<lang>`, `st/<lang>-<target>` or `ssl`; their order is the order of
            all per-objective results.
        languages: codes that batches index.
        weights: objective -> weight (1 where not given).

    Raises:
        ValueError: if an objective is malformed, repeated or names an unknown language.
    """

    def __init__(
        self, objectives: Sequence[str], languages: Sequence[str], weights: Mapping[str, float]
    ) -> None:
        super().__init__()
        if not objectives:
            raise ValueError("objectives: expected at least one, such as asr/fr; found none")
        if len(set(objectives)) != len(objectives):
            raise ValueError(f"objectives: expected distinct names, found {list(objectives)}")
        self.objectives = tuple(objectives)
        n = len(languages)
        # One more row and column, addressed by -1: utterances without a language.
        asr = torch.full((n + 1,), -1, dtype=torch.long)
        st = torch.full((n + 1, n + 1), -1, dtype=torch.long)
        self.ssl_index: int | None = None
        for k, name in enumerate(self.objectives):
            spec = ObjectiveSpec.parse(name)
            codes = [code for code in (spec.lang, spec.target_lang) if code is not None]
            if not set(codes) <= set(languages):
                raise ValueError(f"objective {name}: expected languages among {list(languages)}")
            indices = tuple(list(languages).index(code) for code in codes)
            if spec.task == "asr":
                asr[indices] = k
            elif spec.task == "st":
                st[indices] = k
            else:
                self.ssl_index = k
        self.register_buffer("asr", asr, persistent=False)
        self.register_buffer("st", st, persistent=False)
        values = torch.tensor([float(weights.get(name, 1.0)) for name in self.objectives])
        self.register_buffer("weights", values, persistent=False)

    def index(self, batch: Mapping[str, Tensor], usable: Tensor | None = None) -> dict[str, Tensor]:
        """Which objective every utterance belongs to.

        Args:
            batch: `lang` (B, 1), lengths of labels, `tgt_lang` (B, 1) if there are translations.
            usable: (B,) bool, utterances that take part in `ssl`; labels do not matter there.

        Returns:
            Per task (B,) index, -1 where the label or the objective is missing; `ssl` only if
            `usable` is given and it is an objective.
        """
        lang = batch["lang"][:, 0]
        none = torch.full_like(lang, -1)
        found = {"asr": self.asr[lang], "st": none}
        if "tgt_lang" in batch:
            found["st"] = self.st[lang, batch["tgt_lang"][:, 0]]
        result = {}
        for task, text in TASK_TEXT.items():
            lengths = batch.get(f"{text}_lengths")
            result[task] = none if lengths is None else torch.where(lengths > 0, found[task], -1)
        if usable is not None and self.ssl_index is not None:
            result["ssl"] = torch.where(usable, self.ssl_index, -1)
        return result

    def reduce(
        self, values: Mapping[str, Tensor], index: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Means per objective.

        Args:
            values: task -> (B,) per utterance.
            index: result of `index`.

        Returns:
            means (K,), 0 for an absent objective, and counts (K,) int64.
        """
        k = len(self.objectives)
        like = next(iter(values.values()))
        sums = like.new_zeros(k + 1)
        counts = torch.zeros(k + 1, dtype=torch.long, device=like.device)
        for task, per_utterance in values.items():
            slots = torch.where(index[task] >= 0, index[task], k)  # slot K collects the unlabelled
            sums = sums.index_add(0, slots, per_utterance)
            counts = counts.index_add(0, slots, torch.ones_like(slots))
        sums, counts = sums[:k], counts[:k]
        return sums / counts.clamp(min=1), counts
