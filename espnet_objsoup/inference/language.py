# SPDX-License-Identifier: Apache-2.0
"""Which language is spoken, as far as a model tells that was never trained to say so.

The decoder is told the language by its prompt and not asked for it. But with the prompt of the
spoken language it finds what was said more probable than with others', so the languages are
compared by the probability of the same tokens after each one's prompt. Only the decoder of
recognition is of use: that of translation hardly minds which language it is told.

Shapes: B utterances, T frames, D features, L tokens, K languages, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from espnet_objsoup.decoding.options import InferenceError
from espnet_objsoup.inference.search import Searches


def check_can_identify(searches: Searches, langs: Sequence[str]) -> None:
    """Whether a model can tell its languages apart.

    Raises:
        InferenceError: saying what it lacks.
    """
    heads = searches.model.heads
    lacks = None
    if "asr" not in heads:
        lacks = "it has no head for recognition"
    elif heads["asr"].decoder is None:
        lacks = "its recognition is by CTC only, which does not depend on the language"
    if lacks is not None:
        raise InferenceError(
            f"lang: expected one of {', '.join(langs)}, found None; this model cannot guess it: "
            f"{lacks}"
        )


@torch.no_grad()
def language_log_likelihoods(
    searches: Searches, h: Tensor, lengths: Tensor, langs: Sequence[str]
) -> Tensor:
    """Log-probability (B, K) of what was said after the prompt of each language.

    What was said is the best CTC path, which has no prompt. Without CTC it is not known; then each
    language's own best hypothesis is tried with all prompts, and the most probable one counts.

    Args:
        searches: of a model that `check_can_identify` has found fit.
        h, lengths: (B, T, D) and (B,), encoder output.
        langs: K languages.
    """
    if searches.head("asr").ctc is not None:
        candidates = [searches.greedy_ctc(h, lengths, "asr")]
    else:
        nothing = [None] * len(h)
        candidates = [
            [best for best, *_ in searches.search(h, lengths, "asr", [lang] * len(h), nothing)]
            for lang in langs
        ]
    scores = []
    for of_all in candidates:
        tokens = [hypothesis.token_ids for hypothesis in of_all]
        columns = [_log_p(searches, h, lengths, tokens, lang) for lang in langs]
        scores.append(torch.stack(columns, dim=1))
    return torch.stack(scores).amax(0)


def _log_p(
    searches: Searches,
    h: Tensor,
    lengths: Tensor,
    tokens: Sequence[Sequence[int]],
    lang: str,
) -> Tensor:
    """Log-probability (B,) of tokens and the end after a language's prompt."""
    model, decoder = searches.model, searches.head("asr").decoder
    prompt = model.prompt("asr", lang)
    rows = [torch.tensor([*prompt, *ids, model.eos], device=h.device) for ids in tokens]
    sequences = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=model.eos)
    counts = torch.tensor([len(row) - 1 for row in rows], device=h.device)
    logits, _ = decoder(h, lengths, sequences[:, :-1], counts)  # (B, L, V)
    log_p = logits.log_softmax(-1).gather(2, sequences[:, 1:, None])[..., 0]
    positions = torch.arange(log_p.size(1), device=h.device)
    counted = (positions >= len(prompt) - 1) & (positions < counts[:, None])
    return log_p.where(counted, 0.0).sum(1)
