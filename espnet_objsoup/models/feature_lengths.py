# SPDX-License-Identifier: Apache-2.0
"""How many frames a front end makes of a waveform."""

import torch
from espnet2.asr.frontend.abs_frontend import AbsFrontend
from espnet2.asr.frontend.default import DefaultFrontend
from torch import Tensor


@torch.no_grad()
def feature_lengths(frontend: AbsFrontend | None, speech: Tensor, speech_lengths: Tensor) -> Tensor:
    """Front-end frames (B,) of a batch, without computing features where that is possible.

    Args:
        frontend: ESPnet front end, or None if `speech` already holds features.
        speech: (B, N) samples, or features.
        speech_lengths: (B,) their number.
    """
    if frontend is None:
        return speech_lengths
    if isinstance(frontend, DefaultFrontend) and frontend.stft is not None:
        stft = frontend.stft
        padded = speech_lengths + (2 * (stft.n_fft // 2) if stft.center else 0)
        return torch.div(padded - stft.n_fft, stft.hop_length, rounding_mode="trunc") + 1
    # Other front ends say so only by running; their random numbers are not the training's.
    devices = [speech.device] if speech.is_cuda else []
    with torch.random.fork_rng(devices):
        return frontend(speech[:, : int(speech_lengths.max())], speech_lengths)[1]
