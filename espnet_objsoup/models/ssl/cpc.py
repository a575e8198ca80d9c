# SPDX-License-Identifier: Apache-2.0
"""Contrastive predictive coding for a bidirectional encoder.

Source: van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding",
arXiv 1807.03748 (2018), equation 4.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from espnet_objsoup.models.ssl.ssl_head import (
    AbsSSLHead,
    SSLInputs,
    at_least_float32,
    check_range,
    statistics,
    stretch,
    valid_frames,
)
from espnet_objsoup.models.ssl.subsampling import Subsampling
from espnet_objsoup.models.task_head import HeadOutput

# Bounds the gradient where a prediction is exactly zero, as after digital silence at the start.
_NORM_EPS = 1e-4


@dataclass(frozen=True)
class CPCContext:
    """What CPC predicts; P predictions, N negatives, M targets.

    Attributes:
        targets: (B, M, F) unit vectors, zero beyond `target_lengths`.
        target_lengths: (B,) targets of each utterance.
        negatives: (B, P, N) indices of targets of the same utterance, never the positive.
        usable: (B,) bool.
    """

    targets: Tensor
    target_lengths: Tensor
    negatives: Tensor
    usable: Tensor


class CPC(AbsSSLHead):
    """Predicts frames after the context from the last encoder frames of the context.

    The encoder sees the first part of the utterance's front-end frames and nothing of the rest.
    Encoder frame t of the context predicts the target k = 1..n_steps frames ahead with a linear
    predictor of its own for every k, wherever that target lies beyond the context: n_steps
    predictions from the last frame, n_steps - 1 from the one before, and so on.

    Args:
        feature_size, encoder_size, subsampling: of the front end and the encoder.
        context_fraction: part of an utterance that is context, in [0.1, 0.9].
        n_steps: encoder frames to predict ahead.
        n_negatives: negatives per prediction, drawn with replacement from the other targets of
            the utterance.
        temperature: divides cosines.
        gap_frames: front-end frames left out between context and targets. With windows of 25 ms
            every 10 ms, 2 keep any sample of the waveform from being in both.
        seed: of the negatives in eval mode.
    """

    def __init__(
        self,
        feature_size: int,
        encoder_size: int,
        subsampling: Subsampling,
        context_fraction: float = 2 / 3,
        n_steps: int = 12,
        n_negatives: int = 20,
        temperature: float = 0.1,
        gap_frames: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__(feature_size, encoder_size, subsampling, seed)
        check_range("context_fraction", context_fraction, 0.1, 0.9)
        check_range("n_steps", n_steps, 1, 1000, integer=True)
        check_range("n_negatives", n_negatives, 1, 10000, integer=True)
        check_range("temperature", temperature, 1e-3, 1e3)
        check_range("gap_frames", gap_frames, 0, 1000, integer=True)
        check_range("seed", seed, 0, 2**31, integer=True)
        self.context_fraction = context_fraction
        self.n_steps = n_steps
        self.n_negatives = n_negatives
        self.temperature = temperature
        self.gap_frames = gap_frames
        # One predictor per step, side by side in one matrix.
        self.predictors = nn.Linear(encoder_size, n_steps * feature_size)
        pairs = [(t, m) for t in range(n_steps) for m in range(n_steps - t)]
        # (P,) frames before the context's last, and targets after its end, of every prediction.
        self.register_buffer("back", torch.tensor([t for t, _ in pairs]), persistent=False)
        self.register_buffer("ahead", torch.tensor([m for _, m in pairs]), persistent=False)

    def usable(self, lengths: Tensor) -> Tensor:
        """Utterances whose context gives an encoder frame and whose rest gives two targets."""
        cut, n_targets = self._split(lengths)
        return (cut >= self.subsampling.min_frames) & (n_targets >= 2)

    def _split(self, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Frames of context (B,) and number of targets (B,)."""
        cut = (lengths.double() * self.context_fraction).floor().long()
        rest = (lengths - cut - self.gap_frames).clamp(min=0)
        return cut, torch.div(rest, self.subsampling.factor, rounding_mode="floor")

    def prepare(self, features: Tensor, lengths: Tensor) -> SSLInputs:
        """Cut off the context, average the rest into targets, draw negatives."""
        usable = self.usable(lengths)
        cut, n_targets = self._split(lengths)
        n_targets = n_targets.masked_fill(~usable, 0)
        cut = cut.masked_fill(~usable, self.subsampling.min_frames)
        size = int(cut.max())
        seen = stretch(features, size)
        # What lies behind a shorter context would be padding that shows the answer.
        hidden = ~(valid_frames(cut, size) & usable[:, None])
        context = CPCContext(
            targets=self._targets(features.detach(), lengths, cut, n_targets),
            target_lengths=n_targets,
            negatives=self._negatives(lengths.tolist(), n_targets.tolist()).to(features.device),
            usable=usable,
        )
        return SSLInputs(seen.masked_fill(hidden[..., None], 0.0), cut, context)

    def _targets(self, features: Tensor, lengths: Tensor, cut: Tensor, n_targets: Tensor) -> Tensor:
        features = at_least_float32(features)
        mean, std = statistics(features, valid_frames(lengths, features.size(1)))
        # At least n_steps, so that every prediction has an index to look at.
        size = max(int(n_targets.max()), self.n_steps)
        factor = self.subsampling.factor
        start = cut + self.gap_frames
        frames = start[:, None] + torch.arange(size * factor, device=cut.device)
        frames = frames.clamp(max=features.size(1) - 1)
        rest = features.gather(1, frames[..., None].expand(-1, -1, features.size(2)))
        blocks = ((rest - mean) / std).unflatten(1, (size, factor)).mean(2)
        return _unit(blocks).masked_fill(~valid_frames(n_targets, size)[..., None], 0.0)

    def _negatives(self, lengths: list[int], n_targets: list[int]) -> Tensor:
        shape = (len(self.ahead), self.n_negatives)
        ahead = self.ahead.cpu()[:, None]
        result = torch.zeros(len(lengths), *shape, dtype=torch.long)
        generators = self._generators(lengths)
        for row, (n, generator) in enumerate(zip(n_targets, generators, strict=True)):
            if n >= 2:
                drawn = torch.randint(n - 1, shape, generator=generator)
                result[row] = drawn + (drawn >= ahead)  # skips the positive
        # A positive beyond the last target is no prediction; its negatives are not looked at.
        return result

    def outputs(self, h: Tensor, lengths: Tensor, context: CPCContext) -> HeadOutput:
        """InfoNCE of every prediction, averaged per utterance."""
        frames = lengths[:, None] - 1 - torch.arange(self.n_steps, device=h.device)
        last = h.gather(1, frames.clamp(min=0)[..., None].expand(-1, -1, h.size(2)))
        predicted = self.predictors(last).unflatten(2, (self.n_steps, self.feature_size))
        predicted = predicted[:, self.back, self.back + self.ahead]
        positive, negative = self._scores(predicted, context)
        losses = torch.cat([positive, negative], dim=2).logsumexp(2) - positive[..., 0]
        counted = (frames >= 0)[:, self.back] & context.usable[:, None]
        counted = counted & (self.ahead < context.target_lengths[:, None])
        n = counted.sum(1)
        correct = (positive[..., 0] > negative.amax(2)) & counted
        means = losses.masked_fill(~counted, 0.0).sum(1) / n.clamp(min=1)
        return HeadOutput(
            losses=means,
            correct_tokens=correct.sum(1).to(means.dtype),
            target_tokens=n.to(means.dtype),
            infeasible_ctc=torch.zeros_like(context.usable),
        )

    def _scores(self, predicted: Tensor, context: CPCContext) -> tuple[Tensor, Tensor]:
        """Cosine / temperature of predictions (B, P, F): positives (B, P, 1), negatives (B, P, N).

        Computed in float32 at least: autocast would round a product of unit vectors to halves.
        """
        with torch.autocast(predicted.device.type, enabled=False):
            predicted = at_least_float32(predicted)
            targets = context.targets.to(predicted.dtype)
            scores = _unit(predicted) @ targets.transpose(1, 2) / self.temperature
        positives = self.ahead[None, :, None].expand(len(scores), -1, 1)
        return scores.gather(2, positives), scores.gather(2, context.negatives)


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(-1, keepdim=True) + _NORM_EPS).sqrt()
