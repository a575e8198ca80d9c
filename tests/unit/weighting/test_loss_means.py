# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from espnet_objsoup.weighting.loss_means import LossMeans


def test_absent_objectives_keep_their_mean() -> None:
    means = LossMeans(torch.tensor([0.5, 0.5]).double())
    means.update(torch.tensor([1.0, 3.0]), torch.tensor([True, True]))
    means.update(torch.tensor([4.0, float("nan")]), torch.tensor([True, False]))
    # (.25 * 1 + .5 * 4) / .75; the second is untouched, weight included.
    assert means.mean().tolist() == pytest.approx([3.0, 3.0])
    assert means.weights.tolist() == [0.75, 0.5]
    filled = means.fill(torch.tensor([9.0, 9.0]), torch.tensor([True, False]))
    assert filled.tolist() == pytest.approx([9.0, 3.0])


def test_objectives_never_present_have_no_mean() -> None:
    means = LossMeans(torch.tensor([0.9]).double())
    means.update(torch.tensor([1.0]), torch.tensor([False]))
    assert means.mean().isnan().all()
