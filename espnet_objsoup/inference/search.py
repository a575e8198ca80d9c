# SPDX-License-Identifier: Apache-2.0
"""ESPnet's batched beam search over a model's heads, and the best CTC path.

Shapes: B utterances, T frames, D features, V vocabulary.
"""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from espnet2.legacy.nets.batch_beam_search import BatchBeamSearch
from espnet2.legacy.nets.scorer_interface import BatchScorerInterface
from espnet2.legacy.nets.scorers.ctc import CTCPrefixScorer
from espnet2.legacy.nets.scorers.length_bonus import LengthBonus
from torch import Tensor

from espnet_objsoup.decoding.cross_attention import shared_memory
from espnet_objsoup.decoding.options import InferenceError, SearchOptions
from espnet_objsoup.inference.loading import LoadedModel
from espnet_objsoup.inference.results import Hypothesis
from espnet_objsoup.models.task_head import TaskHead

_FORBIDDEN_SCORE = -1e9


def is_special(token: str) -> bool:
    """Whether a token never stands in a text: `<blank>`, `<unk>`, `<fr>` of any language."""
    is_symbol = len(token) > 2 and token.startswith("<") and token.endswith(">")
    return is_symbol and token not in ("<space>", "<sos/eos>")


class _ForbidTokens(BatchScorerInterface, torch.nn.Module):
    """Keeps special symbols out of hypotheses."""

    def __init__(self, vocabulary: int, forbidden: Sequence[int]) -> None:
        super().__init__()
        scores = torch.zeros(vocabulary)
        scores[list(forbidden)] = _FORBIDDEN_SCORE
        self.register_buffer("scores", scores, persistent=False)

    def score(self, y: Tensor, state: Any, x: Tensor) -> tuple[Tensor, None]:
        return self.scores.to(x.dtype), None

    def batch_score(
        self, ys: Tensor, states: list[Any], xs: Tensor
    ) -> tuple[Tensor, list[Any] | None]:
        return self.scores.to(xs.dtype).expand(len(ys), -1), None


class Searches:
    """Searches of a model, one per task.

    Args:
        loaded: the model.
        options: of the searches.
    """

    def __init__(self, loaded: LoadedModel, options: SearchOptions) -> None:
        self.loaded = loaded
        self.model = loaded.model
        self.options = options
        self.forbidden = [i for i, t in enumerate(self.model.token_list) if is_special(t)]
        self._searches: dict[str, BatchBeamSearch] = {}
        self._untrained: set[str] = set()

    @torch.no_grad()
    def search(
        self,
        h: Tensor,
        lengths: Tensor,
        task: str,
        langs: Sequence[str],
        target_langs: Sequence[str | None],
        nbest: int = 1,
    ) -> list[list[Hypothesis]]:
        """Search hypotheses for encoded utterances.

        Args:
            h, lengths: (B, T, D) and (B,), encoder output.
            task: `asr` or `st`.
            langs, target_langs: per utterance; targets are not used by `asr`.
            nbest: number of hypotheses.

        Returns:
            Per utterance its best hypotheses: at least one (an empty one if the search ended
            without any), and no more than the beam ended with.

        Raises:
            InferenceError: for a task that the model has no head for, or more hypotheses than the
                beam holds.
        """
        head = self.head(task)
        if nbest > self.options.beam_size:
            raise InferenceError(
                f"nbest: expected at most beam_size {self.options.beam_size}, found {nbest}"
            )
        if head.decoder is None:
            return [[result] for result in self.greedy_ctc(h, lengths, task)]
        self._warn_of_untrained(task, langs, target_langs)
        prompts = [
            self.model.prompt(task, lang, target if task == "st" else None)
            for lang, target in zip(langs, target_langs, strict=True)
        ]
        search = self._search(task, head)
        search.set_hyp_primer(prompts)
        with shared_memory(head.decoder, h):
            hypotheses = search(
                x=h,
                x_lengths=lengths,
                maxlenratio=self.options.maxlenratio,
                minlenratio=self.options.minlenratio,
            )
        skip = len(prompts[0])
        return [
            [
                self._hypothesis(found.yseq.tolist()[skip:], float(found.score))
                for found in of_utterance[:nbest]
            ]
            or [Hypothesis("", [], [], 0.0)]
            for of_utterance in hypotheses
        ]

    @torch.no_grad()
    def greedy_ctc(self, h: Tensor, lengths: Tensor, task: str = "asr") -> list[Hypothesis]:
        """Best CTC path of every utterance; the score is the path's log-probability.

        Raises:
            InferenceError: if the task's head has no CTC.
        """
        log_p = self.ctc_log_p(h, task)
        log_p[..., self.forbidden[1:]] = _FORBIDDEN_SCORE  # all but <blank>, which is first
        scores, best = log_p.max(-1)
        results = []
        for path, path_scores, length in zip(best, scores, lengths.tolist(), strict=True):
            tokens = torch.unique_consecutive(path[:length])
            ids = tokens[tokens != self.model.blank_id].tolist()
            results.append(self._hypothesis(ids, float(path_scores[:length].sum())))
        return results

    @torch.no_grad()
    def ctc_log_p(self, h: Tensor, task: str) -> Tensor:
        """Log-probabilities (B, T, V) of a head's CTC.

        Raises:
            InferenceError: if the task's head has no CTC.
        """
        ctc = self.head(task).ctc
        if ctc is None:
            raise InferenceError(f"task {task}: the model's head has no CTC")
        return ctc.log_softmax(h)

    def head(self, task: str) -> TaskHead:
        """The head of a task.

        Raises:
            InferenceError: if the model has none, with what it has.
        """
        heads = self.model.heads
        if task not in heads:
            raise InferenceError(
                f"task: the model has heads for {', '.join(heads)}, found {task!r}; its "
                f"objectives are {', '.join(self.model.objectives)}"
            )
        return heads[task]

    def _warn_of_untrained(
        self, task: str, langs: Sequence[str], target_langs: Sequence[str | None]
    ) -> None:
        """Say once that a combination of task and languages was not trained."""
        for lang, target in set(zip(langs, target_langs, strict=True)):
            name = f"asr/{lang}" if task == "asr" else f"st/{lang}-{target}"
            if name not in self.model.objectives and name not in self._untrained:
                self._untrained.add(name)
                logging.warning(
                    "%s was not trained: what comes out is a guess. The model's objectives are %s",
                    name,
                    ", ".join(self.model.objectives),
                )

    def _search(self, task: str, head: TaskHead) -> BatchBeamSearch:
        if task not in self._searches:
            self._searches[task] = self._build_search(task, head)
        return self._searches[task]

    def _build_search(self, task: str, head: TaskHead) -> BatchBeamSearch:
        model, options = self.model, self.options
        ctc_weight = options.st_ctc_weight
        if task == "asr":
            default = 0.0 if head.ctc is None else 0.3
            ctc_weight = default if options.ctc_weight is None else options.ctc_weight
        if ctc_weight > 0.0 and head.ctc is None:
            raise InferenceError(
                f"task {task}: CTC weight {ctc_weight}, but the model's head has no CTC"
            )
        vocabulary = len(model.token_list)
        bonus = options.length_bonus if task == "asr" else options.st_length_bonus
        search = BatchBeamSearch(
            scorers={
                "decoder": head.decoder,
                "ctc": CTCPrefixScorer(head.ctc, model.eos) if ctc_weight > 0.0 else None,
                "length_bonus": LengthBonus(vocabulary),
                "forbid": _ForbidTokens(vocabulary, self.forbidden),
            },
            weights={
                "decoder": 1.0 - ctc_weight,
                "ctc": ctc_weight,
                "length_bonus": bonus,
                "forbid": 1.0,
            },
            beam_size=options.beam_size,
            vocab_size=vocabulary,
            sos=model.sos,
            eos=model.eos,
            token_list=None,  # else every step spells out a hypothesis for a debug message
            pre_beam_score_key="full",
            normalize_length=options.normalize_length,
        )
        return search.to(self.loaded.device, self.loaded.full_dtype).eval()

    def _hypothesis(self, ids: list[int], score: float) -> Hypothesis:
        ids = [i for i in ids if i != self.model.eos]
        tokens = [self.model.token_list[i] for i in ids]
        return Hypothesis(self.loaded.tokenizer.tokens2text(tokens), tokens, ids, score)
