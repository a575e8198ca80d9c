# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import pytest

from espnet_objsoup.comparison.experiment import (
    ExperimentError,
    conflicts_of,
    mean_last_loss,
    scores_of,
    updates_of,
    utterances_of,
    valid_losses,
)

LOG = """\
[vm] 2026-01-01 (abs_trainer:378) INFO: epoch 1/2, batch 50/120: loss=9.5 loss_asr_de=5.6, lr 1e-4
[vm] 2026-01-01 (abs_trainer:378) INFO: epoch 1/2, batch 100/120: loss=9.5 loss_asr_de=5.6, lr 1e-4
[vm] 2026-01-01 (trainer:392) INFO: 1epoch results: [train] loss_asr_de=1.0, loss_st_de_en=1.0, \
time=2 seconds, [valid] loss_asr=9.0, loss_asr_de=4.0, loss_st_de_en=2.0, loss=3.0, time=1 seconds
[vm] 2026-01-01 (abs_trainer:378) INFO: epoch 2/2, batch 50/118: loss=9.5, lr 1e-4
[vm] 2026-01-01 (trainer:392) INFO: 2epoch results: [train] loss_asr_de=1.0, time=2 seconds, \
[valid] loss_asr=9.0, loss_asr_de=1.5, loss_st=9.0, loss_st_de_en=5.000e-01, loss=3.0, time=1 s
"""


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    (tmp_path / "train.log").write_text(LOG)
    return tmp_path


def test_updates_and_losses_of_the_log(experiment: Path) -> None:
    assert updates_of(experiment) == 238
    losses = valid_losses(experiment)
    assert losses == {"asr_de": [4.0, 1.5], "st_de_en": [2.0, 0.5]}
    assert mean_last_loss(losses) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "INFO: 1epoch results: [train] loss=1, [valid] loss_asr_de=nan, loss_asr_fr=1.0, time=1 s",
    ],
)
def test_logs_that_do_not_say(tmp_path: Path, text: str) -> None:
    (tmp_path / "train.log").write_text(text)
    with pytest.raises(ExperimentError, match="expected lines `epoch 1/9"):
        updates_of(tmp_path)
    with pytest.raises(ExperimentError, match="expected finite losses"):
        valid_losses(tmp_path)
    with pytest.raises(ExperimentError, match="expected the log, found none"):
        updates_of(tmp_path / "no")


def test_conflicts(tmp_path: Path) -> None:
    assert conflicts_of(tmp_path) == {}
    scan = {
        "kind": "scan", "step": 9, "epoch": 3, "objectives": ["a", "b", "c"], "layers": ["x", "y"],
        "selected": [],
        "scores": [0.1, -0.2], "errors": [0.01, None],
        "cosines": [[[1, 0.1, -0.3], [0.1, 1, 0], [-0.3, 0, 1]]] * 2,
        "counted": [[[0, 1, 1], [1, 0, 0], [1, 0, 0]], [[0, 0, 1], [0, 0, 0], [1, 0, 0]]],
    }  # fmt: skip
    at = {"step": 1, "epoch": 1}
    measured = {"kind": "refresh", **at, "soup_grad_norm/a": 1.0}
    refreshes = [
        {**measured, "soup_conflict/all": 0.0, "soup_coefficient/a": 1.0},
        {**measured, "soup_conflict/all": 0.5, "soup_coefficient/a": 0.25},
        {"kind": "skipped", **at, "causes": {}},
    ]
    write_soup(tmp_path, *refreshes, scan)
    found = conflicts_of(tmp_path)
    assert (found["refreshes"], found["conflict"]) == (2, 0.25)
    assert found["coefficients"] == {"a": 0.25}
    (of_scan,) = found["scans"]
    # A pair that was not counted in a layer has no cosine there.
    assert of_scan["cosines"] == {"a b": {"x": 0.1}, "a c": {"x": -0.3, "y": -0.3}}
    assert of_scan["scores"] == {"x": 0.1, "y": -0.2}
    assert of_scan["errors"] == {"x": 0.01, "y": None}


def test_a_rate_without_gradients_is_no_finding(tmp_path: Path) -> None:
    """Weights from losses (uw): the soup's estimate is empty, and its rate of conflicts is 0."""
    write_soup(tmp_path, {"kind": "refresh", "step": 1, "epoch": 1, "soup_conflict/all": 0.0})
    assert "conflict" not in conflicts_of(tmp_path)


def write_soup(directory: Path, *lines: dict) -> None:
    (directory / "soup.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_scores_that_the_utterances_do_not_add_up_to(tmp_path: Path) -> None:
    dump, decoded = tmp_path / "dump", tmp_path / "decode"
    dump.mkdir()
    columns = {
        "wav.scp": "a.flac", "text": "zwei drei", "st_text": "<na>", "utt2lang": "de",
        "utt2tgt": "<na>", "utt2spk": "u", "spk2utt": "u", "utt2num_samples": "16000",
    }  # fmt: skip
    for name, value in columns.items():
        (dump / name).write_text(f"u {value}\n")
    details = decoded / "asr" / "score_wer"
    details.mkdir(parents=True)
    (details / "ref.trn").write_text("zwei drei\t(u-u)\n")
    (details / "hyp.trn").write_text("zwei vier fünf\t(u-u)\n")
    counts = utterances_of(decoded, dump, {"asr/de": {"wer": 100.0, "sentences": 1}})["asr/de"]
    assert counts["counts"] == "2 2"
    with pytest.raises(ExperimentError, match=r"add up to 100\.0000, but its score is 50\.0000"):
        utterances_of(decoded, dump, {"asr/de": {"wer": 50.0, "sentences": 1}})
    (details / "hyp.trn").unlink()
    with pytest.raises(ExperimentError, match="not found; score again"):
        utterances_of(decoded, dump, {"asr/de": {"wer": 50.0, "sentences": 1}})


def test_scores_of_the_test_set(tmp_path: Path) -> None:
    scores = {
        "asr/zh": {"wer": 100.0, "cer": 9.0, "measure": "cer", "sentences": 3},
        "asr/mean": {"wer": 1.0},
        "asr_ctc/zh": {"wer": 1.0, "cer": 2.0, "measure": "cer", "sentences": 3},
        "st/zh-en": {"bleu": 30.0, "chrf": 40.0, "bleu_lc": 31.0, "sentences": 3},
    }
    (tmp_path / "scores.json").write_text(json.dumps({"test": scores}))
    assert scores_of(tmp_path, "test") == {
        "asr/zh": {"cer": 9.0, "sentences": 3},
        "st/zh-en": {"bleu": 30.0, "chrf": 40.0, "sentences": 3},
    }
    with pytest.raises(ExperimentError, match="expected scores of dev"):
        scores_of(tmp_path, "dev")
