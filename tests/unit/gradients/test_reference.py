# SPDX-License-Identifier: Apache-2.0
"""The Gramian by autograd against sums written out pair by pair."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from espnet_objsoup.gradients.layers import find_layers
from espnet_objsoup.gradients.reference import reference_statistic
from espnet_objsoup.gradients.statistic import GramianStatistic, common_counts
from espnet_objsoup.models.gradient_scale import GradientScale
from espnet_objsoup.objectives import LayerError

from ..models.model_factory import OBJECTIVES, make_batch, make_model, make_ssl_model

# Recognition and translation of the same utterance, either alone, unequal lengths.
ROWS = [
    ("fr", "en", 3, 4),
    ("fr", "en", 2, 3),
    ("en", None, 4, 0),
    ("de", "en", 0, 5),
    ("en", None, 2, 0),
    ("fr", None, 3, 0),
]
SECONDS = [0.5, 1.1, 0.7, 0.9, 0.6, 0.8]


def double_batch(rows: list, seconds: list[float] | None = None) -> dict[str, Tensor]:
    batch = make_batch(rows, seconds)
    return {**batch, "speech": batch["speech"].double()}


def flat(gradients: tuple) -> Tensor:
    return torch.cat([g.reshape(-1) for g in gradients])


def pairwise(
    gradients: dict[tuple[int, int], Tensor], n_objectives: int, unbiased: bool = True
) -> tuple[Tensor, Tensor]:
    """Numerators and pairs from (utterance, objective) -> gradient, by two loops."""
    numerators = torch.zeros(n_objectives, n_objectives, dtype=torch.float64)
    pairs = torch.zeros_like(numerators)
    for ((b, k), g), ((c, j), h) in itertools.product(gradients.items(), repeat=2):
        if b != c or not unbiased:
            numerators[k, j] += torch.dot(g, h)
            pairs[k, j] += 1
    return numerators, pairs


@pytest.mark.parametrize("kind", [None, "cpc", "best_rq"])
@pytest.mark.parametrize("unbiased", [True, False])
def test_statistic_of_a_model_is_that_of_its_pairs(kind: str | None, unbiased: bool) -> None:
    model = (make_ssl_model(kind) if kind else make_model()).double().eval()
    layers = find_layers(model, model.shared_parameters())
    assert [layer.name for layer in layers] == ["encoder.encoders.0", "encoder.encoders.1"]
    out = model(**double_batch(ROWS, SECONDS))
    losses, index = out["utterance_losses"], out["objective_index"]
    n_objectives = len(model.objectives)
    measured = [layer.parameters for layer in layers]
    found = reference_statistic(losses, index, measured, n_objectives, unbiased=unbiased)
    for n, layer in enumerate(layers):
        gradients = {
            (b, int(index[task][b])): flat(
                torch.autograd.grad(losses[task][b], layer.parameters, retain_graph=True)
            )
            for task in losses
            for b in range(len(ROWS))
            if index[task][b] >= 0
        }
        numerators, pairs = pairwise(gradients, n_objectives, unbiased)
        torch.testing.assert_close(found.numerators[n], numerators, rtol=1e-9, atol=1e-15)
        torch.testing.assert_close(found.pairs, pairs)
    absent = OBJECTIVES.index("asr/de")
    assert found.batches[absent] == 0
    assert not found.numerators[:, absent].any()


def test_batch_of_unequal_lengths_is_its_utterances_alone() -> None:
    """Padding adds nothing: features as input, so that no STFT frame sees an utterance's end."""
    model = make_model().double().eval()
    model.frontend = None
    layers = [layer.parameters for layer in find_layers(model, model.shared_parameters())]
    batch = make_batch(ROWS, SECONDS)
    lengths = torch.tensor([40, 90, 55, 70, 48, 62])
    speech = torch.randn(6, 90, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    speech = speech * (torch.arange(90)[None, :, None] < lengths[:, None, None])
    batch |= {"speech": speech, "speech_lengths": lengths}
    out = model(**batch)
    whole = reference_statistic(out["utterance_losses"], out["objective_index"], layers, 5)

    alone: dict[tuple[int, int], list[Tensor]] = {}
    for b in range(6):
        one = {name: value[b : b + 1] for name, value in batch.items()}
        one["speech"] = one["speech"][:, : lengths[b]]
        for name in ("text", "st_text"):
            one[name] = one[name][:, : one[f"{name}_lengths"].max()]
        result = model(**one)
        for task, loss in result["utterance_losses"].items():
            k = int(result["objective_index"][task][0])
            if k >= 0:
                alone[b, k] = [
                    flat(torch.autograd.grad(loss[0], layer, retain_graph=True)) for layer in layers
                ]
    for n in range(len(layers)):
        numerators, pairs = pairwise({key: value[n] for key, value in alone.items()}, 5)
        torch.testing.assert_close(whole.numerators[n], numerators, rtol=1e-6, atol=1e-12)
        torch.testing.assert_close(whole.pairs, pairs)


@pytest.mark.parametrize("shared_decoder", [False, True])
def test_one_backward_weights_the_encoder_and_averages_the_heads(shared_decoder: bool) -> None:
    model = make_ssl_model("cpc", shared_decoder=shared_decoder).double().eval()
    batch = double_batch(ROWS, SECONDS)
    of_head = torch.tensor([model.objectives_of_head[name] for name in model.objectives])
    assert of_head.tolist() == ([5] * 5 if shared_decoder else [3, 3, 3, 2, 2]) + [1]
    coefficients = torch.tensor([0.1, 0.4, 0.2, 0.3, 0.9, 0.05], dtype=torch.float64)
    scale = GradientScale(coefficients * of_head)
    model.gradient_scale = scale
    losses = torch.stack(list(model(**batch)["losses"].values()))
    shared = model.shared_parameters()
    own = {id(p) for p in shared}
    heads = [p for p in model.parameters() if id(p) not in own]
    expected = torch.autograd.grad((coefficients * losses).sum(), shared, retain_graph=True)
    mean = torch.autograd.grad((losses / of_head).sum(), heads, retain_graph=True)
    scale.active = True
    (losses / of_head).sum().backward()
    for parameter, value in zip(shared + heads, [*expected, *mean], strict=True):
        # ESPnet's CTC works in single precision, whatever the model's is.
        torch.testing.assert_close(parameter.grad, value, rtol=1e-6, atol=1e-7)


def test_estimate_is_right_on_average() -> None:
    """Expectation of the estimate = Gramian of the expected gradients, absent objectives included.

    Two objectives share utterances whose noise they have in common; a third is often absent.
    """
    generator = torch.Generator().manual_seed(0)
    means = torch.tensor([[1.0, 0.0, 0.5], [-0.5, 1.0, 0.0], [0.3, 0.3, -1.0]]).double()
    theta = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    total = GramianStatistic.zeros(1, 3)
    biased = torch.zeros(3, 3, dtype=torch.float64)
    for step in range(1500):
        noise = 1.5 * torch.randn(6, 3, generator=generator, dtype=torch.float64)
        rows = {
            "asr": torch.tensor([0, 0, 0, -1, -1, -1]),
            "st": torch.tensor([1, 1, -1, -1, -1, -1]),
        }
        if step % 3 == 0:
            rows["asr"] = torch.tensor([0, 0, 0, -1, 2, 2])
        losses = {
            task: ((means[index] + noise) @ theta) * (index >= 0) for task, index in rows.items()
        }
        statistic = reference_statistic(losses, rows, [[theta]], 3)
        total = total + statistic
        sums = torch.stack(
            [
                sum(((means[k] + noise) * (index == k)[:, None]).sum(0) for index in rows.values())
                for k in range(3)
            ]
        )
        counts = sum(
            torch.stack([(index == k).sum() for k in range(3)]) for index in rows.values()
        ).clamp(min=1)
        biased += (sums / counts[:, None]) @ (sums / counts[:, None]).T / 1500
    estimate = total.numerators[0] / total.pairs
    torch.testing.assert_close(estimate, means @ means.T, rtol=0, atol=0.5)
    # One batch's own Gramian has the noise on its diagonal and between tasks.
    assert (biased - means @ means.T).abs().max() > 2.0


def test_sums_of_processes_and_layers_add_up() -> None:
    model = make_model().double().eval()
    layers = [layer.parameters for layer in find_layers(model, model.shared_parameters())]
    parts = []
    for rows in (ROWS[:3], ROWS[3:]):
        out = model(**double_batch(rows))
        parts.append(
            reference_statistic(out["utterance_losses"], out["objective_index"], layers, 5)
        )
    both = parts[0] + parts[1]
    numerators, pairs, norms2 = both.select([1]).total()
    torch.testing.assert_close(numerators, parts[0].numerators[1] + parts[1].numerators[1])
    torch.testing.assert_close(pairs, parts[0].pairs + parts[1].pairs)
    fr = OBJECTIVES.index("asr/fr")
    torch.testing.assert_close(
        norms2[fr], (parts[0].mean_norms2[1, fr] + parts[1].mean_norms2[1, fr]) / 2
    )
    everything = both.total()[0]
    torch.testing.assert_close(everything, both.numerators[0] + both.numerators[1])


def test_half_precision_scale_is_divided_out() -> None:
    model = make_model().double().eval()
    layers = [layer.parameters for layer in find_layers(model, model.shared_parameters())]
    out = model(**double_batch(ROWS[:3]))
    args = (out["utterance_losses"], out["objective_index"], layers, 5)
    torch.testing.assert_close(
        reference_statistic(*args, scale=1024.0).numerators, reference_statistic(*args).numerators
    )


def test_common_utterances() -> None:
    index = {"asr": torch.tensor([0, 0, 1, -1]), "st": torch.tensor([2, -1, -1, 2])}
    assert common_counts(index, 3).tolist() == [[2, 0, 1], [0, 1, 0], [1, 0, 2]]


def test_objective_that_is_not_finite_is_named() -> None:
    statistic = GramianStatistic.zeros(2, 3)
    statistic.numerators[1, 2, 2] = torch.nan
    statistic.numerators[1, 0, 2] = statistic.numerators[1, 2, 0] = torch.nan
    assert statistic.nonfinite().tolist() == [False, False, True]
    assert not GramianStatistic.zeros(2, 3).nonfinite().any()


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("encoder.blocks.*", r"'encoder.blocks.\*' matches no module; the model has, for example"),
        ("asr_head.*", "belongs to a head"),
        (["encoder.encoders.*", "encoder.encoders.0.attn"], "parameters in common"),
    ],
    ids=str,
)
def test_wrong_patterns_are_refused(pattern: str | list[str], message: str) -> None:
    model = make_model()
    with pytest.raises(LayerError, match=message):
        find_layers(model, model.shared_parameters(), pattern)


def test_layers_leave_the_position_branch_out() -> None:
    model = make_model()
    (layer,) = find_layers(model, model.shared_parameters(), "encoder.encoders.1")
    names = {id(p): name for name, p in layer.module.named_parameters()}
    measured = {names[id(p)] for p in layer.parameters}
    assert set(names.values()) - measured == {"attn.linear_pos.weight"}
