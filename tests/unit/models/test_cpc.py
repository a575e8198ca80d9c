# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from espnet_objsoup.models.ssl import CPC, Subsampling
from espnet_objsoup.models.ssl.cpc import CPCContext

from .model_factory import CONV1D2, N_MELS, SIZE, make_ssl_head

PLAIN = Subsampling(factor=1, min_frames=1)


def test_loss_is_infonce_of_predictions_beyond_the_context() -> None:
    head = CPC(2, 2, PLAIN, n_steps=2, n_negatives=2, temperature=0.5).double()
    # Step 1 predicts h itself, step 2 predicts h turned by 90 degrees.
    head.predictors.weight.data = torch.tensor(
        [[1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [1.0, 0.0]], dtype=torch.float64
    )
    head.predictors.bias.data.zero_()
    h = torch.tensor([[[9.0, 9.0], [1.0, 0.0], [0.0, 1.0]]], dtype=torch.float64) * 1e3
    targets = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [0.6, 0.8]]], dtype=torch.float64)
    # Predictions: last frame step 1 -> target 0, step 2 -> target 1; frame before, step 2 -> 0.
    negatives = torch.tensor([[[1, 2], [0, 0], [1, 1]]])
    context = CPCContext(targets, torch.tensor([3]), negatives, torch.tensor([True]))
    out = head.outputs(h, torch.tensor([3]), context)

    def infonce(positive: float, *others: float) -> float:
        total = sum(math.exp(cosine / 0.5) for cosine in (positive, *others))
        return -math.log(math.exp(positive / 0.5) / total)

    # (0, 1) step 1 -> (0, 1): cosines 1 with target 0; 0 and .8 with targets 1 and 2.
    # (0, 1) step 2 -> (-1, 0): -1 with target 1; 0 with target 0, twice.
    # (1, 0) step 2 -> (0, 1): 1 with target 0; 0 with target 1, twice.
    expected = (infonce(1.0, 0.0, 0.8) + infonce(-1.0, 0.0, 0.0) + infonce(1.0, 0.0, 0.0)) / 3
    assert out.losses.tolist() == pytest.approx([expected], rel=1e-6)
    assert out.target_tokens.tolist() == [3]
    assert out.correct_tokens.tolist() == [2]


def test_uninformative_encoder_pays_the_logarithm_of_the_candidates() -> None:
    head = make_ssl_head("cpc", n_negatives=7)
    head.predictors.weight.data.zero_()
    head.predictors.bias.data.zero_()
    inputs = head.prepare(torch.randn(1, 60, N_MELS), torch.tensor([60]))
    losses = head.losses(torch.randn(1, 20, SIZE), torch.tensor([20]), inputs.context)
    assert losses.item() == pytest.approx(math.log(8), rel=1e-5)


def test_targets_are_normalised_means_of_the_frames_behind_the_gap() -> None:
    head = make_ssl_head("cpc", gap_frames=3)
    features = torch.randn(1, 30, N_MELS) * 3 + 5
    context = head.prepare(features, torch.tensor([30])).context
    assert context.target_lengths.tolist() == [3]  # (30 - 20 - 3) // 2
    normalised = (features[0] - features[0].mean(0)) / features[0].std(0, correction=0)
    second = normalised[25:27].mean(0)
    assert torch.allclose(context.targets[0, 1], second / second.norm(), atol=1e-4)


def test_negatives_are_other_targets_of_the_same_utterance() -> None:
    head = make_ssl_head("cpc", n_negatives=50)
    lengths = torch.tensor([120, 18, 30])
    context = head.prepare(torch.randn(3, 120, N_MELS), lengths).context
    assert context.target_lengths.tolist() == [19, 2, 4]
    for row, n in enumerate(context.target_lengths.tolist()):
        for pair, positive in enumerate(head.ahead.tolist()):
            drawn = set(context.negatives[row, pair].tolist())
            if positive < n:
                assert positive not in drawn
                assert drawn <= set(range(n))
    assert set(context.negatives[2].unique().tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("frames", "usable"),
    [(0, False), (7, False), (15, False), (16, True), (100, True)],
)
def test_usable_from_the_length_alone(frames: int, usable: bool) -> None:
    # 16 frames: 10 of context, 2 of gap, 4 for two targets.
    head = make_ssl_head("cpc")
    assert head.usable(torch.tensor([frames])).item() is usable


def test_context_and_targets_share_no_sample() -> None:
    head = make_ssl_head("cpc")
    lengths = torch.tensor([45])
    features = torch.randn(1, 45, N_MELS)
    inputs = head.prepare(features, lengths)
    assert inputs.lengths.tolist() == [30]
    assert torch.equal(inputs.features, features[:, :30])
    # Windows of 400 samples every 160: the last of the context ends before the first target's.
    first_target = 30 + head.gap_frames
    assert first_target * 160 >= 29 * 160 + 400


def test_prepare_leaves_its_input_alone_and_hides_the_rest() -> None:
    head = make_ssl_head("cpc")
    features = torch.randn(2, 90, N_MELS)
    before = features.clone()
    inputs = head.prepare(features, torch.tensor([90, 30]))
    inputs.features.zero_()
    assert torch.equal(features, before)
    inputs = head.prepare(features, torch.tensor([90, 30]))
    assert inputs.features.shape == (2, 60, N_MELS)
    assert inputs.features[1, 20:].abs().max() == 0


def test_silence_gives_finite_gradients() -> None:
    head = make_ssl_head("cpc")
    torch.nn.init.zeros_(head.predictors.bias)
    features = torch.zeros(1, 60, N_MELS)
    features[:, 45:] = torch.randn(15, N_MELS)
    h = torch.zeros(1, 20, SIZE, requires_grad=True)
    context = head.prepare(features, torch.tensor([60])).context
    head.losses(h, torch.tensor([20]), context).sum().backward()
    assert h.grad.isfinite().all()
    assert h.grad.norm() < 1e4


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"context_fraction": 1.0}, r"ssl_conf.context_fraction: .*\[0.1, 0.9\], found 1.0"),
        ({"n_steps": 2.5}, "ssl_conf.n_steps: expected an integer"),
        ({"temperature": 0}, "ssl_conf.temperature"),
        ({"n_negatives": True}, "ssl_conf.n_negatives"),
        ({"seed": -1}, "ssl_conf.seed"),
    ],
)
def test_options_out_of_range_are_refused(conf: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CPC(N_MELS, SIZE, CONV1D2, **conf)
