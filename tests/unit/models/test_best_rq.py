# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from espnet_objsoup.models.ssl import BestRQ
from espnet_objsoup.models.ssl.best_rq import BestRQContext, RandomProjectionQuantizer

from .model_factory import CONV1D2, N_MELS, SIZE, make_ssl_head


def test_code_is_the_nearest_on_the_unit_sphere() -> None:
    quantizer = RandomProjectionQuantizer(6, 4, 50, seed=3).double()
    x = torch.randn(20, 6, dtype=torch.float64)
    projected = x @ quantizer.projection
    projected = projected / projected.norm(dim=1, keepdim=True)
    nearest = torch.cdist(projected, quantizer.codebook).argmin(1)
    assert torch.equal(quantizer(x), nearest)
    assert len(nearest.unique()) > 5


def test_quantiser_is_seeded_saved_and_frozen() -> None:
    torch.manual_seed(0)
    head = make_ssl_head("best_rq", seed=4)
    torch.manual_seed(1)
    same, other = make_ssl_head("best_rq", seed=4), make_ssl_head("best_rq", seed=5)
    assert torch.equal(head.quantizer.codebook, same.quantizer.codebook)
    assert not torch.equal(head.quantizer.codebook, other.quantizer.codebook)
    assert list(head.quantizer.parameters()) == []
    other.load_state_dict(head.state_dict())
    x = torch.randn(30, 2 * N_MELS)
    assert torch.equal(other.quantizer(x), head.quantizer(x))


def test_training_step_leaves_the_quantiser_alone() -> None:
    head = make_ssl_head("best_rq")
    before = {name: value.clone() for name, value in head.quantizer.state_dict().items()}
    optimizer = torch.optim.SGD(head.parameters(), lr=1.0, weight_decay=0.1)
    context = head.prepare(torch.randn(1, 60, N_MELS), torch.tensor([60])).context
    head.losses(torch.randn(1, 29, SIZE), torch.tensor([29]), context).sum().backward()
    optimizer.step()
    assert all(torch.equal(v, before[n]) for n, v in head.quantizer.state_dict().items())


def test_loss_is_the_mean_cross_entropy_of_masked_frames_only() -> None:
    head = make_ssl_head("best_rq").double()
    h = torch.randn(2, 5, SIZE, dtype=torch.float64, requires_grad=True)
    masked = torch.tensor([[False, True, False, True], [True, False, False, False]])
    context = BestRQContext(masked, torch.tensor([7, 1, 30]))
    losses = head.losses(h, torch.tensor([5, 4]), context)
    log_p = head.classifier(h).log_softmax(-1)
    assert torch.allclose(losses[0], -(log_p[0, 1, 7] + log_p[0, 3, 1]) / 2)
    assert torch.allclose(losses[1], -log_p[1, 0, 30])
    losses.sum().backward()
    reached = h.grad.abs().sum(2) > 0
    assert torch.equal(reached[:, :4], masked)
    assert not reached[:, 4].any()


def test_labels_are_those_of_the_unmasked_normalised_features() -> None:
    head = make_ssl_head("best_rq")
    features = torch.randn(1, 41, N_MELS) * 2 + 3
    context = head.prepare(features, torch.tensor([41])).context
    normalised = (features[0] - features[0].mean(0)) / features[0].std(0, correction=0)
    frames = context.masked[0].nonzero()[:, 0].tolist()
    stacked = torch.stack([normalised[2 * i : 2 * i + 2].reshape(-1) for i in frames])
    assert torch.equal(context.labels, head.quantizer(stacked))


def test_masks_cover_what_is_asked_for() -> None:
    torch.manual_seed(0)
    head = make_ssl_head("best_rq", mask_probability=0.02, mask_frames=10)
    lengths = torch.tensor([1000] * 40 + [9, 7, 8])
    context = head.prepare(torch.randn(43, 1000, N_MELS), lengths).context
    masked = context.masked
    long = masked[:40].float().mean().item()
    # A frame is seen if no span of 5 encoder frames began at it or the 4 before.
    assert long == pytest.approx(1 - (1 - 0.02) ** 10, abs=0.02)
    blocks = [3, 2, 2]
    for row, n in zip(masked[40:], blocks, strict=True):
        assert 1 <= int(row.sum()) < n
        assert not row[n:].any()


def test_masked_input_holds_nothing_of_what_was_there() -> None:
    head = make_ssl_head("best_rq").eval()
    features = torch.randn(1, 80, N_MELS)
    lengths = torch.tensor([80])
    first = head.prepare(features, lengths)
    frames = first.context.masked[0].repeat_interleave(2).nonzero()[:, 0]
    assert len(frames) > 0
    changed = features.clone()
    changed[:, frames] = torch.randn(len(frames), N_MELS) * 10
    assert torch.equal(head.prepare(changed, lengths).features, first.features)
    kept = torch.ones(80, dtype=torch.bool)
    kept[frames] = False
    assert torch.equal(first.features[:, kept], features[:, kept])


def test_noise_is_relative_to_the_frames_that_remain() -> None:
    features = torch.randn(1, 4000, N_MELS) * 5 - 20
    lengths = torch.tensor([4000])
    for noise in (0.0, 0.5):
        head = make_ssl_head("best_rq", mask_noise=noise).eval()
        inputs = head.prepare(features, lengths)
        frames = inputs.context.masked[0].repeat_interleave(2)
        frames = torch.nn.functional.pad(frames, (0, 4000 - len(frames)))
        replaced = inputs.features[0, frames]
        assert replaced.mean().item() == pytest.approx(-20, abs=0.3)
        assert replaced.std(0).mean().item() == pytest.approx(noise * 5, rel=0.1, abs=1e-3)


@pytest.mark.parametrize(("frames", "usable"), [(0, False), (6, False), (7, True)])
def test_usable_from_the_length_alone(frames: int, usable: bool) -> None:
    assert make_ssl_head("best_rq").usable(torch.tensor([frames])).item() is usable


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"mask_probability": 1.5}, r"ssl_conf.mask_probability: .*\[0, 1\], found 1.5"),
        ({"mask_frames": 0}, "ssl_conf.mask_frames"),
        ({"n_codes": 1}, "ssl_conf.n_codes"),
    ],
)
def test_options_out_of_range_are_refused(conf: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BestRQ(N_MELS, SIZE, CONV1D2, **conf)
