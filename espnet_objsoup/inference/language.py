# SPDX-License-Identifier: Apache-2.0
"""Which language is spoken, as far as a model tells that was never trained to say so.

The decoder is told the language by its prompt and not asked for it. But with the prompt of the
spoken language it finds what was said more probable than with others', so the languages are
compared by the probability of the same tokens after each one's prompt.

Shapes: B utterances, T frames, D features, L tokens, K languages, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from espnet_objsoup.decoding.options import InferenceError
from espnet_objsoup.inference.search import Searches


@torch.no_grad()
def language_log_likelihoods(
    searches: Searches,
    h: Tensor,
    lengths: Tensor,
    task: str,
    langs: Sequence[str],
    target_langs: Sequence[str | None],
) -> Tensor:
    """Log-probability (B, K) of what was said after the prompt of each language.

    What was said is the best CTC path, which has no prompt. Without CTC it is not known; then each
    language's own best hypothesis is tried with all prompts, and the most probable one counts.

    Args:
        searches: of the model.
        h, lengths: (B, T, D) and (B,), encoder output.
        task: `asr` or `st`.
        langs, target_langs: K languages, and what they are translated into.

    Raises:
        InferenceError: if the head has no decoder, which alone is told the language.
    """
    head = searches.head(task)
    if head.decoder is None:
        raise InferenceError(
            f"lang: expected one of {', '.join(langs)}, found None; it cannot be guessed because "
            f"the model's {task} head has CTC only, which does not depend on it"
        )
    if head.ctc is not None:
        candidates = [searches.greedy_ctc(h, lengths, task)]
    else:
        candidates = [
            [
                best
                for best, *_ in searches.search(
                    h, lengths, task, [lang] * len(h), [target] * len(h)
                )
            ]
            for lang, target in zip(langs, target_langs, strict=True)
        ]
    scores = [
        torch.stack(
            [
                _log_p(searches, h, lengths, task, [c.token_ids for c in of_all], lang, target)
                for lang, target in zip(langs, target_langs, strict=True)
            ],
            dim=1,
        )
        for of_all in candidates
    ]
    return torch.stack(scores).amax(0)


def _log_p(
    searches: Searches,
    h: Tensor,
    lengths: Tensor,
    task: str,
    tokens: Sequence[Sequence[int]],
    lang: str,
    target_lang: str | None,
) -> Tensor:
    """Log-probability (B,) of tokens and the end after a language's prompt."""
    model, decoder = searches.model, searches.head(task).decoder
    prompt = model.prompt(task, lang, target_lang)
    rows = [torch.tensor([*prompt, *ids, model.eos], device=h.device) for ids in tokens]
    sequences = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=model.eos)
    counts = torch.tensor([len(row) - 1 for row in rows], device=h.device)
    logits, _ = decoder(h, lengths, sequences[:, :-1], counts)  # (B, L, V)
    log_p = logits.log_softmax(-1).gather(2, sequences[:, 1:, None])[..., 0]
    positions = torch.arange(log_p.size(1), device=h.device)
    counted = (positions >= len(prompt) - 1) & (positions < counts[:, None])
    return log_p.where(counted, 0.0).sum(1)
