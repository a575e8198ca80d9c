# SPDX-License-Identifier: Apache-2.0
"""BERT-based speech pre-training with a random-projection quantiser.

Source: Chiu, Qin, Zhang, Yu, Wu, "Self-supervised learning with random-projection quantizer for
speech recognition", ICML 2022, section 3 and equation 1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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


@dataclass(frozen=True)
class BestRQContext:
    """What BEST-RQ predicts; M encoder frames.

    Attributes:
        masked: (B, M) bool, encoder frames whose input is masked; none in unusable rows.
        labels: (number of masked frames,) codes, in the order of `masked.nonzero()`.
    """

    masked: Tensor
    labels: Tensor


class RandomProjectionQuantizer(nn.Module):
    """Nearest code of a random projection; nothing in it is ever trained.

    Args:
        input_size: dimension of stacked frames.
        code_size: dimension of the codes.
        n_codes: size of the codebook.
        seed: of projection and codebook.
    """

    def __init__(self, input_size: int, code_size: int, n_codes: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        bound = (6.0 / (input_size + code_size)) ** 0.5  # Xavier, as in the paper
        projection = torch.rand(input_size, code_size, generator=generator) * 2 - 1
        codebook = torch.randn(n_codes, code_size, generator=generator)
        # Buffers, and saved: labels of a resumed training must not depend on torch's version.
        self.register_buffer("projection", projection * bound)
        self.register_buffer("codebook", F.normalize(codebook, dim=1))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Codes (n,) of stacked frames (n, input_size)."""
        with torch.autocast(x.device.type, enabled=False):
            # On the unit sphere the nearest code is the one with the largest cosine.
            projected = x.to(self.projection.dtype) @ self.projection
            return (projected @ self.codebook.T).argmax(1)


class BestRQ(AbsSSLHead):
    """Predicts the codes of masked frames.

    Spans of the input are replaced by noise; for every encoder frame whose own front-end frames
    are masked, a linear classifier predicts the code of these frames as they were.

    Args:
        feature_size, encoder_size, subsampling: of the front end and the encoder.
        mask_probability: of a front-end frame to begin a span.
        mask_frames: front-end frames per span (0.4 s at 10 ms), rounded to whole encoder frames;
            at most half of an utterance.
        mask_noise: standard deviation of the noise, relative to the utterance's features.
        n_codes, code_size: of the codebook.
        seed: of the quantiser, and of masks in eval mode.
    """

    def __init__(
        self,
        feature_size: int,
        encoder_size: int,
        subsampling: Subsampling,
        mask_probability: float = 0.01,
        mask_frames: int = 40,
        mask_noise: float = 0.1,
        n_codes: int = 8192,
        code_size: int = 16,
        seed: int = 0,
    ) -> None:
        super().__init__(feature_size, encoder_size, subsampling, seed)
        check_range("mask_probability", mask_probability, 0.0, 1.0)
        check_range("mask_frames", mask_frames, 1, 10000, integer=True)
        check_range("mask_noise", mask_noise, 0.0, 100.0)
        check_range("n_codes", n_codes, 2, 2**20, integer=True)
        check_range("code_size", code_size, 1, 4096, integer=True)
        check_range("seed", seed, 0, 2**31, integer=True)
        factor = subsampling.factor
        self.start_probability = 1.0 - (1.0 - mask_probability) ** factor
        self.span = max(1, round(mask_frames / factor))
        self.mask_noise = mask_noise
        self.quantizer = RandomProjectionQuantizer(factor * feature_size, code_size, n_codes, seed)
        self.classifier = nn.Linear(encoder_size, n_codes)

    def usable(self, lengths: Tensor) -> Tensor:
        """Utterances of two encoder frames or more: one to mask and one to see."""
        return self.subsampling.blocks(lengths) >= 2

    def prepare(self, features: Tensor, lengths: Tensor) -> SSLInputs:
        """Draw masks, label the masked frames, put noise in their place."""
        usable = self.usable(lengths)
        factor = self.subsampling.factor
        blocks = self.subsampling.blocks(lengths).masked_fill(~usable, 0)
        seen_lengths = lengths.clamp(min=self.subsampling.min_frames)
        features = stretch(features, int(seen_lengths.max()))
        generators = self._generators(lengths.tolist())
        masked = self._masks(blocks.tolist(), generators).to(features.device)
        frame_masked = masked.repeat_interleave(factor, dim=1)
        frame_masked = F.pad(frame_masked, (0, features.size(1) - frame_masked.size(1)))
        valid = valid_frames(lengths, features.size(1))
        original = at_least_float32(features.detach())
        context = BestRQContext(masked, self._labels(original, valid, masked))
        noise = self._noise(original, valid & ~frame_masked, frame_masked, generators)
        seen = torch.where(frame_masked[..., None], noise.to(features.dtype), features)
        seen = seen.masked_fill(~(valid & usable[:, None])[..., None], 0.0)
        return SSLInputs(seen, seen_lengths, context)

    def _masks(self, blocks: list[int], generators: list[torch.Generator]) -> Tensor:
        """(B, M) bool on the CPU."""
        masked = torch.zeros(len(blocks), max(blocks), dtype=torch.bool)
        for row, (n, generator) in enumerate(zip(blocks, generators, strict=True)):
            if n > 0:
                masked[row, :n] = self._mask(n, generator)
        return masked

    def _mask(self, n: int, generator: torch.Generator) -> Tensor:
        """Spans over `n` >= 2 encoder frames: one at least, and something left to see."""
        span = min(self.span, n // 2)
        starts = torch.rand(n - span + 1, generator=generator) < self.start_probability
        one = int(torch.randint(n - span + 1, (), generator=generator))

        def cover(first_frames: list[int]) -> Tensor:
            mask = torch.zeros(n, dtype=torch.bool)
            for first in first_frames:
                mask[first : first + span] = True
            return mask

        mask = cover(starts.nonzero()[:, 0].tolist() or [one])
        return cover([one]) if bool(mask.all()) else mask

    def _labels(self, features: Tensor, valid: Tensor, masked: Tensor) -> Tensor:
        """Codes of the masked encoder frames, from normalised front-end frames as they were."""
        mean, std = statistics(features, valid)
        n = masked.size(1)
        # The projection is applied to whole frames: without normalisation the codes collapse.
        normalised = ((features - mean) / std)[:, : n * self.subsampling.factor]
        stacked = normalised.unflatten(1, (n, self.subsampling.factor)).flatten(2)
        return self.quantizer(stacked[masked])

    def _noise(
        self, features: Tensor, seen: Tensor, masked: Tensor, generators: list[torch.Generator]
    ) -> Tensor:
        """(B, T, F) noise around the mean of the frames that remain `seen` (B, T).

        Before normalisation, so that it means the same under any normalisation, and from the
        remaining frames only, so that nothing of the masked ones is left in it.
        """
        mean, std = statistics(features, seen)
        noise = torch.zeros(features.shape)
        if self.mask_noise > 0.0:
            for row, (mask, generator) in enumerate(zip(masked.cpu(), generators, strict=True)):
                shape = (int(mask.sum()), features.size(2))
                noise[row, mask] = torch.randn(shape, generator=generator)
        return mean + self.mask_noise * std * noise.to(features)

    def outputs(self, h: Tensor, lengths: Tensor, context: BestRQContext) -> HeadOutput:
        """Cross-entropy at masked frames, averaged per utterance."""
        masked = context.masked
        logits = at_least_float32(self.classifier(h[:, : masked.size(1)][masked]))
        rows = masked.nonzero()[:, 0]
        losses = F.cross_entropy(logits, context.labels, reduction="none")
        n = masked.sum(1).to(losses.dtype)
        correct = (logits.detach().argmax(1) == context.labels).to(losses.dtype)
        zeros = losses.new_zeros(h.size(0))
        return HeadOutput(
            losses=zeros.index_add(0, rows, losses) / n.clamp(min=1),
            correct_tokens=zeros.index_add(0, rows, correct),
            target_tokens=n,
            infeasible_ctc=torch.zeros_like(zeros, dtype=torch.bool),
        )
