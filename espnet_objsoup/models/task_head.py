# SPDX-License-Identifier: Apache-2.0
"""The head of one task (recognition or translation): attention decoder, CTC, or both.

A head returns one loss per utterance. ESPnet's own loss modules reduce over the batch, which
cannot be undone per objective, so the reduction is left to the caller.
"""

from dataclasses import dataclass

import torch
from espnet2.asr.ctc import CTC
from espnet2.asr.decoder.abs_decoder import AbsDecoder
from torch import Tensor, nn
from torch.nn import functional as F

IGNORE_ID = -1
LOSS_MODES = ("token", "espnet")


@dataclass(frozen=True)
class HeadOutput:
    """What one head computed for a batch of B utterances; zeros in rows without a label.

    Attributes:
        losses: (B,) loss of each utterance, differentiable.
        correct_tokens: (B,) target tokens that the attention decoder ranked first.
        target_tokens: (B,) target tokens, `<sos/eos>` included (0 without a decoder).
        infeasible_ctc: (B,) bool, the utterance has fewer frames than its labels need; its CTC
            loss is infinite and counted as zero.
    """

    losses: Tensor
    correct_tokens: Tensor
    target_tokens: Tensor
    infeasible_ctc: Tensor

    @staticmethod
    def empty(h: Tensor) -> "HeadOutput":
        """Output for a batch with encoder output h (B, T, D) in which no utterance has a label."""
        # Losses are at least float32, also under autocast.
        zeros = h.new_zeros(h.size(0), dtype=torch.promote_types(h.dtype, torch.float32))
        return HeadOutput(zeros, zeros, zeros, zeros.bool())

    def scatter(self, rows: Tensor, batch_size: int) -> "HeadOutput":
        """Spread values of the selected rows (R,) over a batch of `batch_size` rows."""

        def spread(values: Tensor) -> Tensor:
            return values.new_zeros(batch_size).index_copy(0, rows, values)

        return HeadOutput(
            spread(self.losses),
            spread(self.correct_tokens),
            spread(self.target_tokens),
            spread(self.infeasible_ctc),
        )


class TaskHead(nn.Module):
    """Attention decoder and/or CTC on top of the shared encoder.

    Args:
        decoder: ESPnet decoder, or None for a CTC-only head.
        ctc: ESPnet CTC with `reduce=False`, or None.
        ctc_weight: a in `(1 - a) * attention + a * CTC`, in [0, 1].
        label_smoothing: mass spread over the vocabulary in the attention loss, in [0, 1).
        loss_mode: `token` divides both losses by the number of target tokens, so that objectives
            are comparable; `espnet` keeps sums over an utterance, as ESPnet's models do.

    Raises:
        ValueError: if the weight and the modules at hand contradict each other.
    """

    def __init__(
        self,
        decoder: AbsDecoder | None,
        ctc: CTC | None,
        ctc_weight: float,
        label_smoothing: float = 0.0,
        loss_mode: str = "token",
    ) -> None:
        super().__init__()
        if not 0.0 <= ctc_weight <= 1.0:
            raise ValueError(f"ctc_weight: expected a number in [0, 1], found {ctc_weight}")
        if decoder is None and ctc_weight < 1.0:
            raise ValueError(
                f"a head without a decoder is CTC only: set its ctc_weight to 1.0 "
                f"(found {ctc_weight}), or choose a decoder"
            )
        if ctc is None and ctc_weight > 0.0:
            raise ValueError(f"ctc_weight is {ctc_weight} but the head has no CTC layer")
        if loss_mode not in LOSS_MODES:
            raise ValueError(f"loss_mode: expected one of {LOSS_MODES}, found {loss_mode!r}")
        self.decoder = decoder if ctc_weight < 1.0 else None
        self.ctc = ctc if ctc_weight > 0.0 else None
        self.ctc_weight = ctc_weight
        self.label_smoothing = label_smoothing
        self.loss_mode = loss_mode

    def forward(
        self, h: Tensor, lengths: Tensor, prompts: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> HeadOutput:
        """Losses of utterances that all have a label.

        Args:
            h: (B, T, D) encoder output.
            lengths: (B,) valid frames.
            prompts: (B, P) prompt token ids, `<sos/eos>` first; not part of the loss.
            targets: (B, L) token ids, padded with -1.
            target_lengths: (B,) number of tokens, all > 0.
        """
        output = HeadOutput.empty(h)
        losses, correct, tokens = output.losses, output.correct_tokens, output.target_tokens
        infeasible = output.infeasible_ctc
        if self.ctc is not None:
            ctc_losses, infeasible = self._ctc_losses(h, lengths, targets, target_lengths)
            losses = losses + self.ctc_weight * ctc_losses
        if self.decoder is not None:
            attention_losses, correct, tokens = self._attention_losses(
                h, lengths, prompts, targets, target_lengths
            )
            losses = losses + (1.0 - self.ctc_weight) * attention_losses
        return HeadOutput(losses, correct, tokens, infeasible)

    def zero_loss(self) -> Tensor:
        """A scalar zero that depends on every parameter of the head.

        A process whose batch has no label for this task must still take part in
        DistributedDataParallel's reduction of the head's gradients.
        """
        return sum(p.reshape(-1)[0] * 0.0 for p in self.parameters() if p.requires_grad)

    def _ctc_losses(
        self, h: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        # espnet2's CTC with reduce=False has already divided by the batch size.
        losses = self.ctc(h, lengths, targets, target_lengths) * h.size(0)
        repeats = (targets[:, 1:] == targets[:, :-1]) & (targets[:, 1:] != IGNORE_ID)
        infeasible = lengths < target_lengths + repeats.sum(1)
        if self.loss_mode == "token":
            losses = losses / target_lengths
        return losses, infeasible

    def _attention_losses(
        self, h: Tensor, lengths: Tensor, prompts: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        sos_eos = prompts[:, :1]
        decoder_input = torch.cat([prompts, targets.clamp(min=0)], dim=1)
        # Position P - 1 predicts the first token; those before it predict the prompt: ignored.
        ignored = torch.full_like(prompts[:, 1:], IGNORE_ID)
        padded = torch.cat([targets, torch.full_like(sos_eos, IGNORE_ID)], dim=1)
        expected = torch.cat([ignored, padded.scatter(1, target_lengths[:, None], sos_eos)], dim=1)
        logits, _ = self.decoder(h, lengths, decoder_input, target_lengths + prompts.size(1))
        token_losses = F.cross_entropy(
            logits.transpose(1, 2).to(torch.promote_types(logits.dtype, torch.float32)),
            expected,
            ignore_index=IGNORE_ID,
            label_smoothing=self.label_smoothing,
            reduction="none",
        )
        counted = expected != IGNORE_ID
        losses = token_losses.sum(1)
        if self.loss_mode == "token":
            losses = losses / counted.sum(1)
        correct = ((logits.detach().argmax(-1) == expected) & counted).sum(1)
        return losses, correct.to(losses.dtype), counted.sum(1).to(losses.dtype)
