# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import pytest
import sacrebleu

from espnet_objsoup.bin import score
from espnet_objsoup.data import datadir
from espnet_objsoup.data.corpora.rows import Utterance, to_data_dir
from espnet_objsoup.evaluation.scores import ScoringError, score_split
from espnet_objsoup.evaluation.translation import score_translations

ROWS = [
    ("fr", "le chat dort ici", "en", "The cat sleeps here now."),
    ("fr", "un chien noir court", "en", "A black dog is running."),
    ("en", "hello big world", "zh", "你好，大世界。"),
]


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    data = to_data_dir(
        Utterance(f"u{i}", f"{lang}-s", "x.wav", lang, text, {target: translation})
        for i, (lang, text, target, translation) in enumerate(ROWS)
    )
    datadir.write(data, tmp_path / "dump" / "test")
    write_hypotheses(tmp_path, "asr", ["le chat dort", "un chien noir court", "hello big word"])
    write_hypotheses(tmp_path, "st", [row[3] for row in ROWS])
    return tmp_path


def write_hypotheses(root: Path, task: str, texts: list[str]) -> None:
    directory = root / "exp" / "decode" / "test" / task
    directory.mkdir(parents=True, exist_ok=True)
    languages = [row[0] for row in ROWS]
    lines = [
        f"{lang}-s-u{i} {text}\n"
        for i, (lang, text) in enumerate(zip(languages, texts, strict=True))
    ]
    (directory / "text").write_text("".join(lines), encoding="utf-8")


def test_scores_by_language_pair_and_mean(experiment: Path) -> None:
    scores = score_split(experiment / "dump" / "test", experiment / "exp" / "decode" / "test")
    assert scores["asr/fr"]["wer"] == pytest.approx(100 / 8)
    assert scores["asr/fr"]["deletions"] == 1
    assert scores["asr/en"]["wer"] == pytest.approx(100 / 3)
    assert scores["asr/mean"]["wer"] == pytest.approx((100 / 8 + 100 / 3) / 2)
    assert scores["st/fr-en"]["bleu"] == pytest.approx(100)
    assert "tok:13a" in scores["st/fr-en"]["signature"]
    assert "tok:zh" in scores["st/en-zh"]["signature"]


def test_bleu_is_sacrebleus() -> None:
    references = ["The cat sleeps here now .", "A black dog is running fast"]
    hypotheses = ["the cat sleeps here now .", "A black dog was running fast"]
    scores = score_translations(references, hypotheses, "en")
    assert scores.bleu == sacrebleu.corpus_bleu(hypotheses, [references]).score
    lower = sacrebleu.corpus_bleu(hypotheses, [references], lowercase=True).score
    assert scores.bleu_lc == lower > scores.bleu
    assert scores.chrf == sacrebleu.corpus_chrf(hypotheses, [references]).score


def test_variants_of_a_task_are_scored_beside_it(experiment: Path) -> None:
    write_hypotheses(experiment, "asr_ctc", [row[1] for row in ROWS])
    scores = score_split(experiment / "dump" / "test", experiment / "exp" / "decode" / "test")
    assert scores["asr_ctc/mean"]["wer"] == 0.0
    assert scores["asr/mean"]["wer"] > 0.0


def test_missing_and_unknown_hypotheses_are_errors(experiment: Path) -> None:
    path = experiment / "exp" / "decode" / "test" / "asr" / "text"
    lines = path.read_text().splitlines(keepends=True)
    arguments = (experiment / "dump" / "test", experiment / "exp" / "decode" / "test")
    path.write_text("".join(lines[1:]))
    with pytest.raises(ScoringError, match="1 utterances have no hypothesis, such as fr-s-u0"):
        score_split(*arguments)
    path.write_text("".join([*lines, "zz unknown\n"]))
    with pytest.raises(ScoringError, match="not in the data, such as zz"):
        score_split(*arguments)
    path.write_text("".join([*lines, lines[0]]))
    with pytest.raises(ScoringError, match="text:4"):
        score_split(*arguments)


def test_command_writes_json_and_markdown(
    experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exp = experiment / "exp"
    (exp / "config.yaml").write_text("seed: 7\n")
    arguments = ["--decode_dir", str(exp / "decode"), "--dump_dir", str(experiment / "dump")]
    arguments += ["--test_sets", "test", "--exp_dir", str(exp), "--command", "./run.sh"]
    assert score.main([*arguments, "--results_file", str(experiment / "RESULTS.md")]) == 0
    assert json.loads((exp / "scores.json").read_text())["test"]["st/fr-en"]["chrf"] > 99
    results = (exp / "RESULTS.md").read_text()
    assert results == (experiment / "RESULTS.md").read_text()
    for part in ("- seed: `7`", "- command: `./run.sh`", "|asr/fr|2|8|", "chrF2", "- commit: "):
        assert part in results
    assert "scores.json" in capsys.readouterr().out.splitlines()[-1]


def test_command_fails_with_a_message(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exp = experiment / "exp"
    arguments = ["--decode_dir", str(exp / "none"), "--dump_dir", str(experiment / "dump")]
    assert score.main([*arguments, "--test_sets", "test", "--exp_dir", str(exp)]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert not (exp / "scores.json").exists()
