# SPDX-License-Identifier: Apache-2.0
"""The soup inside the trainer, on a model small enough to follow by hand."""

import json
from pathlib import Path

import pytest
import torch
from espnet2.train.trainer import Trainer
from torch import Tensor

from espnet_objsoup.gradients.reference import reference_statistic
from espnet_objsoup.train.faults import NonFiniteTrainingError
from espnet_objsoup.train.objsoup_trainer import ObjSoupTrainer
from espnet_objsoup.train.options import SoupConf
from espnet_objsoup.train.soup_run import SoupRun
from espnet_objsoup.weighting.soup import Soup, SoupMismatchError

from .toy import OBJECTIVES, ToyData, ToyModel, parameters, run

LAYERS = {"pattern": "linear", "policy": "all"}
SOUPS = {
    # Fast, so that weights come near the border.
    "flat": {"recipe": "flat", "weighting_conf": {"gamma": 0.1}},
    "bilevel": {"recipe": "bilevel", "order": "sa", "weighting_conf": {"gamma": 0.1}},
    "barrier": {"recipe": "bilevel", "penalty": "barrier"},
    "mgda": {"recipe": "flat", "weighting": "mgda"},
    "random": {"recipe": "flat", "weighting": "random"},
    "dwa": {"recipe": "flat", "weighting": "dwa"},
    "languages": {"levels": [{"objectives": ["*/fr*"]}, {"objectives": ["asr/de"]}]},
}


def soup(name: str, **changes: object) -> dict:
    return {"trainer_conf": {**SOUPS[name], "layers": LAYERS, "weights_interval": 1, **changes}}


class OneObjective(ToyData):
    """All rows belong to the first objective."""

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> list:
        return [
            (ids, {**batch, "index": torch.zeros_like(batch["index"])})
            for ids, batch in super().build_iter(epoch)
        ]


@pytest.mark.parametrize(
    "conf",
    [
        {"recipe": "flat"},
        {"recipe": "flat", "weighting": "mgda"},
        {"levels": [{"objectives": ["*"]}]},
    ],
    ids=str,
)
def test_one_objective_is_espnets_step(tmp_path: Path, conf: dict) -> None:
    conf = {"trainer_conf": {**conf, "layers": LAYERS}}
    ours = run(
        ObjSoupTrainer,
        tmp_path / "a",
        ToyModel(OBJECTIVES[:1], "espnet"),
        data=OneObjective(),
        **conf,
    )
    theirs = run(Trainer, tmp_path / "b", ToyModel(OBJECTIVES[:1]), data=OneObjective())
    torch.testing.assert_close(parameters(ours), parameters(theirs), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["flat", "bilevel"])
@pytest.mark.parametrize("interval", [1, 2])
def test_steps_are_those_of_the_definition(tmp_path: Path, name: str, interval: int) -> None:
    """The whole training again, written down without the trainer."""
    ours = run(ObjSoupTrainer, tmp_path, grad_clip=1e9, **soup(name, weights_interval=interval))

    model = ToyModel()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    levels = SoupConf.from_dict(soup(name)["trainer_conf"]).resolve(OBJECTIVES)
    reference = Soup(levels, OBJECTIVES, interval, seed=3)
    expected: Tensor | None = None
    step = 0
    for epoch in (1, 2):
        reference.begin_epoch(epoch)
        for _, batch in ToyData().build_iter(epoch):
            out = model(**batch)
            counts = torch.stack(list(out["counts"].values())).double()
            losses = torch.stack(list(out["losses"].values()))
            divisor = counts if expected is None else torch.maximum(expected, 0.1 * counts)
            divisor = divisor.clamp(min=0.1)
            sums = losses * counts / divisor
            gradient = torch.autograd.grad(
                (reference.coefficients * sums).sum(), list(model.parameters()), retain_graph=True
            )
            statistic = reference_statistic(
                out["utterance_losses"], out["objective_index"], [list(model.parameters())], 3
            )
            for parameter, value in zip(model.parameters(), gradient, strict=True):
                parameter.grad = value
            for group in optimizer.param_groups:  # WarmupLR of the toy: steps from 1, 5 of warm-up
                group["lr"] = 0.05 * 5**0.5 * min((step + 1) ** -0.5, (step + 1) * 5**-1.5)
            optimizer.step()
            if step % interval == 0:
                reference.refresh(*statistic.total(), losses.detach(), counts)
            step += 1
            previous = torch.zeros(3) if expected is None else expected
            expected = previous + (counts - previous) / step
    torch.testing.assert_close(parameters(ours), parameters(model), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", SOUPS)
@pytest.mark.parametrize("accum_grad", [1, 2])
def test_resumed_training_equals_uninterrupted(tmp_path: Path, name: str, accum_grad: int) -> None:
    changes = {"accum_grad": accum_grad, **soup(name, weights_interval=2)}
    straight = run(ObjSoupTrainer, tmp_path / "straight", max_epoch=4, **changes)
    run(ObjSoupTrainer, tmp_path / "two", max_epoch=2, **changes)
    resumed = run(ObjSoupTrainer, tmp_path / "two", max_epoch=4, **changes)
    assert torch.equal(parameters(straight), parameters(resumed))
    lines = [(tmp_path / directory / "soup.jsonl").read_text() for directory in ("straight", "two")]
    assert lines[0] == lines[1]


def test_weights_move_and_are_logged(tmp_path: Path) -> None:
    run(ObjSoupTrainer, tmp_path, max_epoch=2, **soup("flat"))
    rows = [json.loads(line) for line in (tmp_path / "soup.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 13))
    weights = torch.tensor([[row[f"soup_weight/{name}"] for name in OBJECTIVES] for row in rows])
    torch.testing.assert_close(weights.sum(1), torch.ones(12), rtol=1e-4, atol=1e-4)
    assert (weights[0] - weights[-1]).abs().max() > 0.01
    assert rows[0]["layers"] == ["linear"]
    assert rows[0]["losses"]["st/fr-en"] is None  # absent from every third batch
    assert rows[1]["losses"]["st/fr-en"] > 0
    assert rows[-1]["soup_grad_norm/asr/de"] > 0


@pytest.mark.parametrize("estimate", ["unbiased", "batch"])
def test_estimate_of_squared_norms(estimate: str) -> None:
    """The batch's own mean gradient has the noise in its length, pairs of utterances have not."""
    model = ToyModel()
    conf = SoupConf.from_dict({**SOUPS["languages"], "layers": LAYERS, "estimate": estimate})
    soup_run = SoupRun(conf, model)
    soup_run.begin_epoch(1, 1)
    _, batch = ToyData().build_iter(1)[1]
    with soup_run.recording():
        out = model(**batch)
    assert soup_run.measure(out, out["loss"].mean(), 1.0, "cpu", False)[0] == []
    found = (
        soup_run._pending.numerators.diagonal(dim1=1, dim2=2) / soup_run._pending.pairs.diagonal()
    )
    of_mean = soup_run._pending.mean_norms2
    if estimate == "batch":
        torch.testing.assert_close(found, of_mean)
    else:
        assert (found < of_mean).all()


def test_monitoring_takes_the_static_step(tmp_path: Path) -> None:
    """But for rounding: measured steps add up the same gradients in another order."""
    static = run(ObjSoupTrainer, tmp_path / "static")
    conf = {"trainer_conf": {"recipe": "static", "monitor": True, "layers": LAYERS}}
    monitored = run(ObjSoupTrainer, tmp_path / "monitored", **conf)
    torch.testing.assert_close(parameters(static), parameters(monitored), rtol=1e-12, atol=1e-14)
    rows = [
        json.loads(line) for line in (tmp_path / "monitored/soup.jsonl").read_text().splitlines()
    ]
    assert {row["kind"] for row in rows} == {"refresh", "scan"}
    scan = next(row for row in rows if row["kind"] == "scan")
    assert torch.tensor(scan["cosines"]).shape == (1, 3, 3)


def test_scope_selected_gives_other_layers_the_plain_average(tmp_path: Path) -> None:
    """The bias alone is selected: it takes the soup's step, the matrix the average's."""
    model = ToyModel()
    conf = {**SOUPS["languages"], "layers": {**LAYERS, "scope": "selected"}, "weights_interval": 1}
    soup_run = SoupRun(SoupConf.from_dict(conf), model)
    weight, bias = model.linear.weight, model.linear.bias
    holder = torch.nn.Module()
    holder.bias = bias
    soup_run.layers[0] = type(soup_run.layers[0])("bias", holder, (bias,))
    _, batch = ToyData().build_iter(1)[1]
    out = model(**batch)
    losses = torch.stack(list(out["losses"].values()))
    loss = (soup_run.loss_weights() * losses).sum()

    class Context:
        scaler = None
        distributed = False
        options = type("Options", (), {"run": soup_run})

    expected_bias = torch.autograd.grad(
        (soup_run.soup.coefficients * losses).sum(), bias, retain_graph=True
    )[0]
    expected_weight = torch.autograd.grad(losses.mean(), weight, retain_graph=True)[0]
    bias.grad = torch.ones_like(bias)  # of an earlier micro-batch
    ObjSoupTrainer._backward_selected(Context, loss)
    torch.testing.assert_close(bias.grad, expected_bias + 1)
    torch.testing.assert_close(weight.grad, expected_weight)
    assert not torch.allclose(
        expected_bias, torch.autograd.grad(model(**batch)["loss"].mean(), bias)[0]
    )


class Faulty(ToyData):
    """NaN in chosen utterances of chosen batches."""

    def __init__(self, batches: set[int], rows: list[int], value: float = float("nan")) -> None:
        super().__init__()
        self.faulty, self.rows, self.value = batches, rows, value

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> list:
        result = super().build_iter(epoch)
        for i in self.faulty:
            result[i][1]["y"][self.rows] = self.value
        return result


class Without(ToyData):
    """The same batches without the chosen ones."""

    def __init__(self, batches: set[int]) -> None:
        super().__init__()
        self.dropped = batches

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> list:
        return [b for i, b in enumerate(super().build_iter(epoch)) if i not in self.dropped]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_step_with_a_fault_is_skipped_and_the_soup_untouched(tmp_path: Path, value: float) -> None:
    faulty = run(
        ObjSoupTrainer, tmp_path / "faulty", data=Faulty({1, 4}, [2], value), **soup("flat")
    )
    clean = run(ObjSoupTrainer, tmp_path / "clean", data=Without({1, 4}), **soup("flat"))
    assert torch.equal(parameters(faulty), parameters(clean))
    states = [
        torch.load(tmp_path / name / "checkpoint.pth", weights_only=True)["optimizers"][1]["soup"]
        for name in ("faulty", "clean")
    ]
    assert states[0]["faults"]["counts"] == {"st/fr-en": 4}  # row 2 is of that objective
    assert torch.equal(states[0]["soup"]["weights"], states[1]["soup"]["weights"])
    assert torch.equal(states[0]["counts"]["mean"], states[1]["counts"]["mean"])


def test_too_many_faults_in_a_row_stop_training_and_name_utterances(tmp_path: Path) -> None:
    with pytest.raises(
        NonFiniteTrainingError, match=r"3 steps in a row.*asr/de: u4; asr/fr: u1"
    ) as error:
        run(
            ObjSoupTrainer,
            tmp_path,
            data=Faulty({1, 2, 3, 4}, [1, 4]),
            **soup("flat", max_nonfinite_steps=3),
        )
    assert "trainer_conf.max_nonfinite_steps" in str(error.value)


def test_fault_in_what_an_epoch_leaves_over_is_forgotten(tmp_path: Path) -> None:
    """Seven batches, two per step: the last one's fault must not cost the next epoch a step."""

    class Last(Faulty):
        def __init__(self) -> None:
            super().__init__({6}, [2])
            self.batches = 7

    straight = run(ObjSoupTrainer, tmp_path / "a", data=Last(), accum_grad=2, **soup("flat"))
    run(ObjSoupTrainer, tmp_path / "b", data=Last(), accum_grad=2, max_epoch=1, **soup("flat"))
    resumed = run(ObjSoupTrainer, tmp_path / "b", data=Last(), accum_grad=2, **soup("flat"))
    assert torch.equal(parameters(straight), parameters(resumed))
    state = torch.load(tmp_path / "a/checkpoint.pth", weights_only=True)["optimizers"][1]["soup"]
    assert state["steps"] == 6
    assert state["faults"] == {"counts": {}, "skipped": 0, "in_a_row": 0}


def test_scans_select_and_their_selection_is_resumed(tmp_path: Path) -> None:
    """Two layers of which scans select one by its score; resumed bit for bit."""

    class TwoLayers(ToyModel):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Linear(4, 4).double()

        def shared_parameters(self) -> list[torch.nn.Parameter]:
            return list(self.parameters())

        def forward(self, x: Tensor, **batch: Tensor) -> dict:
            return super().forward(torch.tanh(self.first(x)), **batch)

    layers = {"pattern": ["first", "linear"], "scan_steps": 6, "top_k": 1, "threshold": 0.9}
    conf = soup("mgda", layers=layers, weights_interval=1)
    straight = run(ObjSoupTrainer, tmp_path / "a", TwoLayers(), max_epoch=4, **conf)
    run(ObjSoupTrainer, tmp_path / "b", TwoLayers(), max_epoch=2, **conf)
    resumed = run(ObjSoupTrainer, tmp_path / "b", TwoLayers(), max_epoch=4, **conf)
    assert torch.equal(parameters(straight), parameters(resumed))
    lines = [(tmp_path / name / "soup.jsonl").read_text() for name in "ab"]
    assert lines[0] == lines[1]
    scans = [row for row in map(json.loads, lines[0].splitlines()) if row["kind"] == "scan"]
    assert all(len(row["selected"]) == 1 for row in scans)  # of the two, the worse one
    state = torch.load(tmp_path / "b/checkpoint.pth", weights_only=True)["optimizers"][1]["soup"]
    assert [state["selector"]["names"][i] for i in state["selector"]["selected"]] == scans[-1][
        "selected"
    ]


def test_faults_survive_a_checkpoint_and_are_reported(tmp_path: Path) -> None:
    run(ObjSoupTrainer, tmp_path, data=Faulty({5}, [2]), max_epoch=1, **soup("flat"))
    run(ObjSoupTrainer, tmp_path, data=Faulty({5}, [2]), max_epoch=2, **soup("flat"))
    checkpoint = torch.load(tmp_path / "checkpoint.pth", weights_only=True)
    faults = checkpoint["optimizers"][1]["soup"]["faults"]
    assert faults == {"counts": {"st/fr-en": 2}, "skipped": 2, "in_a_row": 1}
    stats = checkpoint["reporter"]["stats"][2]["train"]
    assert stats["soup_skipped/st/fr-en"] > stats["soup_skipped/asr/de"] == 0
    rows = [json.loads(line) for line in (tmp_path / "soup.jsonl").read_text().splitlines()]
    skipped = [row for row in rows if row["kind"] == "skipped"]
    assert [row["causes"] for row in skipped] == [{"st/fr-en": ["u2"]}] * 2


def test_log_of_an_earlier_training_is_put_aside(tmp_path: Path) -> None:
    for _ in range(3):
        run(ObjSoupTrainer, tmp_path, max_epoch=1, resume=False, **soup("flat"))
    names = sorted(path.name for path in tmp_path.glob("soup*.jsonl"))
    assert names == ["soup.1.jsonl", "soup.2.jsonl", "soup.jsonl"]
    assert len({(tmp_path / name).read_text() for name in names}) == 1


def test_monitor_goes_on_where_no_layer_is_in_conflict(tmp_path: Path) -> None:
    layers = {"pattern": "linear", "threshold": -1.0, "scan_steps": 6}
    conf = {"trainer_conf": {"monitor": True, "layers": layers, "weights_interval": 1}}
    run(ObjSoupTrainer, tmp_path, max_epoch=3, **conf)
    rows = [json.loads(line) for line in (tmp_path / "soup.jsonl").read_text().splitlines()]
    assert max(row["step"] for row in rows if row["kind"] == "refresh") == 18


def test_checkpoint_of_another_soup_is_refused_or_reset(tmp_path: Path, caplog) -> None:
    run(ObjSoupTrainer, tmp_path, max_epoch=1, **soup("flat"))
    with pytest.raises(SoupMismatchError, match="levels"):
        run(ObjSoupTrainer, tmp_path, max_epoch=2, **soup("bilevel"))
    run(ObjSoupTrainer, tmp_path, max_epoch=2, **soup("bilevel", reset_soup=True))
    assert "reset_soup: the soup starts afresh" in caplog.text


def test_table_is_logged(tmp_path: Path, caplog) -> None:
    with caplog.at_level("INFO"):
        run(ObjSoupTrainer, tmp_path, max_epoch=1, **soup("bilevel"))
    assert "level  objective" in caplog.text
    assert "0.1" in caplog.text


def test_selection_of_no_layer_leaves_weights_alone(tmp_path: Path) -> None:
    """With a threshold that no layer reaches, the first scan ends the measuring."""
    layers = {"pattern": "linear", "threshold": -1.0, "scan_steps": 6, "last_k": 1}
    run(ObjSoupTrainer, tmp_path, max_epoch=3, **soup("flat", layers=layers))
    rows = [json.loads(line) for line in (tmp_path / "soup.jsonl").read_text().splitlines()]
    scans = [row for row in rows if row["kind"] == "scan"]
    assert [scan["selected"] for scan in scans] == [[], [], []]
    assert max(row["step"] for row in rows if row["kind"] == "refresh") == 6
