# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import pytest
import sacrebleu

from espnet_objsoup.bin import score
from espnet_objsoup.data import datadir
from espnet_objsoup.data.corpora.rows import Utterance, to_data_dir
from espnet_objsoup.data.text import UNSPACED_LANGUAGES
from espnet_objsoup.evaluation import bleu_tokenizers, scores
from espnet_objsoup.evaluation.bleu_tokenizers import check_bleu_tokenizers
from espnet_objsoup.evaluation.error_rate import ErrorCounts, word_errors
from espnet_objsoup.evaluation.results import RunInfo, render
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
    found = score_split(experiment / "dump" / "test", experiment / "exp" / "decode" / "test")
    assert found["asr/fr"]["wer"] == pytest.approx(100 / 8)
    assert found["asr/fr"]["deletions"] == 1
    assert found["asr/en"]["wer"] == pytest.approx(100 / 3)
    assert found["asr/mean"]["wer"] == pytest.approx((100 / 8 + 100 / 3) / 2)
    assert found["st/fr-en"]["bleu"] == pytest.approx(100)
    assert "tok:13a" in found["st/fr-en"]["signature"]
    assert "tok:zh" in found["st/en-zh"]["signature"]


def test_scores_hold_all_counts_and_splets(experiment: Path) -> None:
    found = score_split(experiment / "dump" / "test", experiment / "exp" / "decode" / "test")
    french = found["asr/fr"]
    assert (french["words"], french["characters"]) == (8, 35)
    assert french["character_deletions"] == 4  # "ici" and its space
    assert french["text_policy"] == "lc.rm"
    assert french["splet"]["wer"]["rate"] == pytest.approx(french["wer"])
    assert french["splet"]["cer"]["rate"] == pytest.approx(french["cer"])
    unchecked = score_split(
        experiment / "dump" / "test", experiment / "exp" / "decode" / "test", check=False
    )
    assert "splet" not in unchecked["asr/fr"]


def test_alignments_are_written_beside_the_hypotheses(experiment: Path) -> None:
    decoded = experiment / "exp" / "decode" / "test"
    score_split(experiment / "dump" / "test", decoded)
    listing = (decoded / "asr" / "score_wer" / "result.txt").read_text()
    expected = (
        "id: (fr-s-fr-s-u0)\nScores: (#C #S #D #I) 3 0 1 0\n"
        "REF:  le chat dort ICI\nHYP:  le chat dort ***\nEval:              D\n"
    )
    assert expected in listing
    assert "hello big WORLD\nHYP:  hello big WORD" in listing
    hypotheses = (decoded / "asr" / "score_cer" / "hyp.trn").read_text().splitlines()
    assert "h e l l o <space> b i g <space> w o r d\t(en-s-en-s-u2)" in hypotheses
    translations = (decoded / "st" / "score_bleu" / "ref.trn").read_text().splitlines()
    assert "The cat sleeps here now.\t(fr-s-fr-s-u0)" in translations
    result = json.loads((decoded / "st" / "score_bleu" / "result.txt").read_text())
    assert result["st/fr-en"]["bleu"] == pytest.approx(100)


def test_bleu_is_sacrebleus() -> None:
    references = ["The cat sleeps here now .", "A black dog is running fast"]
    hypotheses = ["the cat sleeps here now .", "A black dog was running fast"]
    scores = score_translations(references, hypotheses, "en")
    assert scores.bleu == sacrebleu.corpus_bleu(hypotheses, [references]).score
    lower = sacrebleu.corpus_bleu(hypotheses, [references], lowercase=True).score
    assert scores.bleu_lc == lower > scores.bleu
    assert scores.chrf == sacrebleu.corpus_chrf(hypotheses, [references]).score


@pytest.mark.parametrize(
    ("lang", "tokenizer", "reference", "hypothesis"),
    [
        ("ja", "ja-mecab", "猫がここで静かに眠る。", "猫がここで眠る。"),
        ("ko", "ko-mecab", "고양이가 여기서 조용히 잔다.", "고양이가 여기서 잔다."),
        ("zh", "zh", "猫在这里静静地睡觉。", "猫在这里睡觉。"),
        ("th", "char", "แมวนอนหลับที่นี่", "แมวนอนที่นี่"),
        ("tr", "13a", "Kedi burada sessizce uyuyor.", "Kedi burada uyuyor."),
    ],
)
def test_every_target_has_its_tokenizer(
    lang: str, tokenizer: str, reference: str, hypothesis: str
) -> None:
    scores = score_translations([reference], [hypothesis], lang)
    assert f"tok:{tokenizer}" in scores.signature
    assert "case:mixed" in scores.signature
    assert "case:lc" in scores.lc_signature
    expected = sacrebleu.corpus_bleu([hypothesis], [[reference]], tokenize=tokenizer).score
    assert scores.bleu == pytest.approx(expected)
    if lang == "tr":
        assert scores.bleu_char is None
    else:
        by_character = sacrebleu.corpus_bleu([hypothesis], [[reference]], tokenize="char").score
        assert (scores.bleu_char or 0.0) == (
            pytest.approx(by_character) if lang in UNSPACED_LANGUAGES else 0.0
        )


def test_lower_case_is_that_of_the_language() -> None:
    pair = ["IŞIK İZMİR'DE PARLAK YANIYOR"], ["ışık izmir'de parlak yanıyor"]
    assert score_translations(*pair, "tr").bleu_lc == pytest.approx(100)
    assert score_translations(*pair, "en").bleu_lc < 100


def test_missing_dictionaries_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    check_bleu_tokenizers(["ja", "ko", "en"])
    monkeypatch.setattr(bleu_tokenizers, "find_spec", lambda name: None if name == "MeCab" else 1)
    check_bleu_tokenizers(["ko", "en"])
    with pytest.raises(ValueError, match=r"MeCab for ja: pip install 'sacrebleu\[ja\]'"):
        check_bleu_tokenizers(["ja", "en"])
    with pytest.raises(ValueError, match="MeCab for ja"):
        score_translations(["猫"], ["猫"], "ja")


def test_languages_without_spaces_have_character_errors(tmp_path: Path) -> None:
    data = to_data_dir(
        Utterance(f"u{i}", f"{lang}-s", "x.wav", lang, text, {})
        for i, (lang, text) in enumerate([("zh", "那个女人看见了"), ("en", "hello big world")])
    )
    datadir.write(data, tmp_path / "dump" / "test")
    directory = tmp_path / "exp" / "decode" / "test" / "asr"
    directory.mkdir(parents=True)
    # Case and punctuation of hypotheses go, as they do in references.
    (directory / "text").write_text("zh-s-u0 那个 女人，看见。\nen-s-u1 Hello, big word!\n")
    found = score_split(tmp_path / "dump" / "test", directory.parent)
    assert (found["asr/zh"]["measure"], found["asr/en"]["measure"]) == ("cer", "wer")
    assert found["asr/zh"]["error_rate"] == found["asr/zh"]["cer"] == pytest.approx(100 / 7)
    assert found["asr/mean"]["wer"] == found["asr/en"]["wer"] == pytest.approx(100 / 3)
    assert found["asr/mean"]["error_rate"] == pytest.approx((100 / 7 + 100 / 3) / 2)
    info = RunInfo("e", "c", "1", "m", "d")
    results = render(info, {}, {"test": found})
    assert "|asr/zh|1|7|0.0|14.3|0.0|-|14.3|100.0|" in results
    assert "|asr/en|1|3|33.3|0.0|0.0|33.3|" in results
    assert "asr/zh: Wrd, Sub, Del and Ins are of characters." in results


def test_variants_of_a_task_are_scored_beside_it(experiment: Path) -> None:
    write_hypotheses(experiment, "asr_ctc", [row[1] for row in ROWS])
    found = score_split(experiment / "dump" / "test", experiment / "exp" / "decode" / "test")
    assert found["asr_ctc/mean"]["wer"] == 0.0
    assert found["asr/mean"]["wer"] > 0.0


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
    assert "|st/en-zh|1|100.0|100.0|100.0|100.0|" in results
    assert "|st/fr-en|2|100.0|100.0|100.0||" in results
    assert "st/en-zh: BLEU `nrefs:1|case:mixed|eff:no|tok:zh|" in results
    assert "scores.json" in capsys.readouterr().out.splitlines()[-1]
    assert "|asr/fr|2|8|0.0|12.5|0.0|12.5|" in results  # of 8 words one was deleted


def test_disagreement_with_splet_stops_scoring(
    experiment: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exp = experiment / "exp"
    arguments = ["--decode_dir", str(exp / "decode"), "--dump_dir", str(experiment / "dump")]
    arguments += ["--test_sets", "test", "--exp_dir", str(exp)]

    def wrong(references: list[str], hypotheses: list[str]) -> ErrorCounts:
        return word_errors(references, hypotheses) + ErrorCounts(substitutions=1)

    monkeypatch.setattr(scores, "word_errors", wrong)
    assert score.main(arguments) == 1
    err = capsys.readouterr().err
    assert "asr/en: WER: expected the same" in err
    assert "50.0000 (S 2, D 0, I 0, 4 tokens) and 33.3333 (S 1, D 0, I 0, 3 tokens)" in err
    assert not (exp / "scores.json").exists()
    assert score.main([*arguments, "--cross_check", "false"]) == 0
    with pytest.raises(SystemExit):
        score.main([*arguments, "--cross_check", "maybe"])


def test_reference_without_words_is_named(experiment: Path) -> None:
    data = datadir.read(experiment / "dump" / "test")
    data.columns["text"]["fr-s-u0"] = "..."
    datadir.write(data, experiment / "dump" / "test")
    with pytest.raises(ScoringError, match="asr/fr: expected words .* such as fr-s-u0"):
        score_split(experiment / "dump" / "test", experiment / "exp" / "decode" / "test")


def test_command_fails_with_a_message(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exp = experiment / "exp"
    arguments = ["--decode_dir", str(exp / "none"), "--dump_dir", str(experiment / "dump")]
    assert score.main([*arguments, "--test_sets", "test", "--exp_dir", str(exp)]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert not (exp / "scores.json").exists()
