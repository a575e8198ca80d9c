# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
from espnet2.asr.encoder.e_branchformer_encoder import EBranchformerEncoder
from espnet2.asr.encoder.transformer_encoder import TransformerEncoder
from espnet2.asr.encoder.vgg_rnn_encoder import VGGRNNEncoder

from espnet_objsoup.models.ssl import Subsampling, measure_subsampling


@pytest.mark.parametrize(
    ("encoder", "expected"),
    [
        (TransformerEncoder(40, 8, 2, 8, 1, input_layer="conv2d"), Subsampling(4, 7)),
        (ConformerEncoder(40, 8, 2, 8, 1, input_layer="conv2d6"), Subsampling(6, 11)),
        (TransformerEncoder(40, 8, 2, 8, 1, input_layer="conv2d8"), Subsampling(8, 15)),
        (EBranchformerEncoder(40, 8, 2, input_layer="conv1d2"), Subsampling(2, 5)),
        (EBranchformerEncoder(40, 8, 2, input_layer="conv1d3"), Subsampling(3, 7)),
        (TransformerEncoder(40, 8, 2, 8, 1, input_layer="linear"), Subsampling(1, 1)),
        (VGGRNNEncoder(40, hidden_size=8, output_size=8), Subsampling(4, 1)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_subsampling_is_that_of_the_input_layer(
    encoder: torch.nn.Module, expected: Subsampling
) -> None:
    encoder.train()
    assert measure_subsampling(encoder, None, 40) == expected
    assert encoder.training


def test_lengths_of_short_utterances() -> None:
    conv2d = Subsampling(4, 7)
    assert conv2d.length(torch.tensor([0, 6, 7, 10, 11])).tolist() == [0, 0, 1, 1, 2]
    assert conv2d.blocks(torch.tensor([0, 6, 7, 10, 11])).tolist() == [0, 0, 1, 1, 2]
    # A padded convolution gives a frame for less than its stride.
    assert Subsampling(4, 1).blocks(torch.tensor([1, 4, 7, 8])).tolist() == [0, 1, 1, 2]


class Halving(torch.nn.Module):
    """Lengths that no convolution gives."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor, lengths: torch.Tensor):
        return x, lengths.sqrt().long(), None


def test_unsuitable_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match="Halving.*choose another encoder"):
        measure_subsampling(Halving(), None, 4)
