# SPDX-License-Identifier: Apache-2.0
"""Recognise and translate with a trained model, by ESPnet's batched beam search.

Shapes: B utterances, T frames, D features, V vocabulary.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from espnet2.legacy.nets.batch_beam_search import BatchBeamSearch
from espnet2.legacy.nets.scorer_interface import BatchScorerInterface
from espnet2.legacy.nets.scorers.ctc import CTCPrefixScorer
from espnet2.legacy.nets.scorers.length_bonus import LengthBonus
from espnet2.torch_utils.safe_torch_load import safe_torch_load
from torch import Tensor

from espnet_objsoup.decoding.cross_attention import shared_memory
from espnet_objsoup.decoding.options import InferenceError, SearchOptions, read_train_config
from espnet_objsoup.models.task_head import TaskHead
from espnet_objsoup.tasks.objsoup import ObjSoupTask
from espnet_objsoup.train.tokenizer import make_tokenizer

_FORBIDDEN_SCORE = -1e9


@dataclass(frozen=True)
class Result:
    """One hypothesis.

    Attributes:
        text: detokenised.
        tokens, token_ids: without prompt and `<sos/eos>`.
        score: log-probability under the search's weights.
    """

    text: str
    tokens: list[str]
    token_ids: list[int]
    score: float


def _is_special(token: str) -> bool:
    """Whether a token never stands in a text: `<blank>`, `<unk>`, `<fr>` of any language."""
    is_symbol = len(token) > 2 and token.startswith("<") and token.endswith(">")
    return is_symbol and token not in ("<space>", "<sos/eos>")


def _read_weights(path: Path) -> dict[str, Tensor]:
    """Weights of a file.

    Raises:
        InferenceError: if there is none, or it holds anything else.
    """
    if not path.is_file():
        raise InferenceError(f"{path}: expected weights, found no file; train first (stage 11)")
    try:
        state = safe_torch_load(path, map_location="cpu")
    except (UnpicklingError, RuntimeError, EOFError, OSError, KeyError, ValueError) as err:
        raise InferenceError(
            f"{path}: expected weights that torch can read, found a damaged or foreign file "
            f"({' '.join(str(err).split())[:120]}); copy it again, or average again (stage 11)"
        ) from err
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        found = f"keys {', '.join(map(str, state))}" if isinstance(state, dict) else type(state)
        raise InferenceError(
            f"{path}: expected the weights of a model, found {found}; a checkpoint of training is "
            "not decoded: choose a file such as valid.loss.ave.pth"
        )
    return state


def _load_weights(model: torch.nn.Module, state: dict[str, Tensor], expected: str) -> None:
    """Load weights, all of them: ESPnet leaves a tensor that is missing random, in silence.

    Raises:
        InferenceError: listing how the weights differ from the model's.
    """
    own = model.state_dict()
    differences = {
        "missing": [name for name in own if name not in state],
        "unknown": [name for name in state if name not in own],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} for {tuple(tensor.shape)}"
            for name, tensor in own.items()
            if name in state and state[name].shape != tensor.shape
        ],
    }
    found = [
        f"{len(names)} {kind} (such as {names[0]})" for kind, names in differences.items() if names
    ]
    if found:
        raise InferenceError(
            f"{expected}, found {' and '.join(found)}; take both files from one experiment"
        )
    model.load_state_dict(state)


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


class Speech2Text:
    """A trained model with its searches.

    Args:
        train_config: `config.yaml` of the experiment.
        model_file: weights, such as `valid.loss.ave.pth`.
        device: `cpu`, `cuda`, `cuda:0`.
        dtype: `float32`, `float64`, `float16` or `bfloat16`; the last two are the encoder's only.
        options: of the search.

    Raises:
        InferenceError: if a file is missing or damaged, or weights and configuration do not belong
            together.
    """

    def __init__(
        self,
        train_config: str | Path,
        model_file: str | Path,
        device: str = "cpu",
        dtype: str = "float32",
        options: SearchOptions | None = None,
    ) -> None:
        read_train_config(Path(train_config))
        state = _read_weights(Path(model_file))
        model, args = ObjSoupTask.build_model_from_file(train_config, None, "cpu")
        _load_weights(model, state, f"{model_file}: expected the weights of {train_config}")
        self.device = torch.device(device)
        self.dtype = getattr(torch, dtype)
        self.model = model.to(self.device, self.dtype).eval()
        # Half precision is for the encoder, which does most of the work: there is no spectrum in
        # it, and the sums of log-probabilities in a search would overflow.
        self._full_dtype = torch.promote_types(self.dtype, torch.float32)
        for module in (model.frontend, *model.heads.values()):
            if module is not None:
                module.to(self._full_dtype)
        self.sample_rate_hz = int(getattr(model.frontend, "fs", 16000) or 16000)
        self.options = options or SearchOptions()
        self.tokenizer = make_tokenizer(args.token_type, args.bpemodel)
        self._forbidden = [i for i, token in enumerate(model.token_list) if _is_special(token)]
        self._searches: dict[str, BatchBeamSearch] = {}
        self._untrained: set[str] = set()

    def __call__(
        self,
        speech: np.ndarray | Tensor,
        task: str = "asr",
        lang: str = "en",
        target_lang: str = "en",
        nbest: int = 1,
    ) -> list[Result]:
        """Recognise or translate one utterance.

        Args:
            speech: (N,) samples at `sample_rate_hz`.
            task: `asr` or `st`.
            lang: spoken language.
            target_lang: language to translate into.
            nbest: number of hypotheses.
        """
        h, lengths = self.encode([speech])
        return self.search(h, lengths, task, [lang], [target_lang], nbest)[0]

    @torch.no_grad()
    def encode(self, speeches: Sequence[np.ndarray | Tensor]) -> tuple[Tensor, Tensor]:
        """Shared part for utterances of unequal length.

        Args:
            speeches: B arrays (N,).

        Returns:
            h (B, T, D), lengths (B,).
        """
        # Features of each alone: the frames at the end of a short utterance would otherwise see the
        # padding, and hypotheses would depend on what an utterance is decoded with.
        features, lengths = zip(*map(self._features, speeches), strict=True)
        padded = torch.nn.utils.rnn.pad_sequence(features, batch_first=True)
        h, h_lengths = self.model.encode_features(padded, torch.cat(lengths))
        return h.to(self._full_dtype), h_lengths

    def _features(self, speech: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
        """Features (T, F) of one utterance and their length (1,)."""
        wave = torch.as_tensor(speech, dtype=self._full_dtype, device=self.device).reshape(1, -1)
        length = torch.tensor([wave.size(1)], device=self.device)
        features, lengths = self.model.features({"speech": wave, "speech_lengths": length})
        return features[0].to(self.dtype), lengths

    @torch.no_grad()
    def search(
        self,
        h: Tensor,
        lengths: Tensor,
        task: str,
        langs: Sequence[str],
        target_langs: Sequence[str | None],
        nbest: int = 1,
    ) -> list[list[Result]]:
        """Search hypotheses for encoded utterances.

        Args:
            h, lengths: from `encode`.
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
        head = self._head(task)
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
                self._result(hypothesis.yseq.tolist()[skip:], float(hypothesis.score))
                for hypothesis in of_utterance[:nbest]
            ]
            or [Result("", [], [], 0.0)]
            for of_utterance in hypotheses
        ]

    @torch.no_grad()
    def greedy_ctc(self, h: Tensor, lengths: Tensor, task: str = "asr") -> list[Result]:
        """Best CTC path of every utterance; the score is the path's log-probability.

        Raises:
            InferenceError: if the task's head has no CTC.
        """
        ctc = self._head(task).ctc
        if ctc is None:
            raise InferenceError(f"task {task}: the model's head has no CTC")
        log_p = ctc.log_softmax(h)
        log_p[..., self._forbidden[1:]] = _FORBIDDEN_SCORE  # all but <blank>, which is first
        scores, best = log_p.max(-1)
        results = []
        for path, path_scores, length in zip(best, scores, lengths.tolist(), strict=True):
            tokens = torch.unique_consecutive(path[:length])
            ids = tokens[tokens != self.model.blank_id].tolist()
            results.append(self._result(ids, float(path_scores[:length].sum())))
        return results

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

    def _head(self, task: str) -> TaskHead:
        heads = self.model.heads
        if task not in heads:
            raise InferenceError(
                f"task: the model has heads for {', '.join(heads)}, found {task!r}; its "
                f"objectives are {', '.join(self.model.objectives)}"
            )
        return heads[task]

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
                "forbid": _ForbidTokens(vocabulary, self._forbidden),
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
        return search.to(self.device, self._full_dtype).eval()

    def _result(self, ids: list[int], score: float) -> Result:
        ids = [i for i in ids if i != self.model.eos]
        tokens = [self.model.token_list[i] for i in ids]
        return Result(self.tokenizer.tokens2text(tokens), tokens, ids, score)
