# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from espnet_objsoup.tasks.objective_discovery import (
    discover_objectives,
    languages_of,
    with_self_supervision,
)


def write(directory: Path, **files: str) -> list[tuple[str, str, str]]:
    names = {"text": "text", "st_text": "st_text", "lang": "utt2lang", "tgt_lang": "utt2tgt"}
    for name, content in files.items():
        (directory / names[name]).write_text(content, encoding="utf-8")
    return [(str(directory / names[name]), name, "text") for name in files]


def test_objectives_are_those_with_labels(tmp_path: Path) -> None:
    data = write(
        tmp_path,
        text="a bonjour\nb <na>\nc hello\n",
        st_text="a hello\nb good day\nc <na>\n",
        lang="a fr\nb de\nc en\n",
        tgt_lang="a en\nb en\nc <na>\n",
    )
    assert discover_objectives(data) == ["asr/en", "asr/fr", "st/de-en", "st/fr-en"]


def test_recognition_only(tmp_path: Path) -> None:
    assert discover_objectives(write(tmp_path, text="a x\n", lang="a en\n")) == ["asr/en"]


def test_label_without_language_is_an_error(tmp_path: Path) -> None:
    data = write(tmp_path, text="a bonjour\n", lang="a <na>\n")
    with pytest.raises(ValueError, match="utterance a"):
        discover_objectives(data)


def test_nothing_to_train_on_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="transcripts.*without labels set ssl: cpc"):
        discover_objectives(write(tmp_path, text="a <na>\n", lang="a fr\n"))
    with pytest.raises(ValueError, match="utt2lang"):
        discover_objectives(write(tmp_path, text="a b\n"))


def test_languages_of_objectives() -> None:
    assert languages_of(["st/fr-en", "asr/de", "ssl"]) == ["de", "en", "fr"]
    assert languages_of(["ssl"]) == []


def test_self_supervision_comes_last_and_needs_no_label(tmp_path: Path) -> None:
    data = write(tmp_path, text="a x\nb <na>\n", lang="a tr\nb <na>\n")
    assert discover_objectives(data, "cpc") == ["asr/tr", "ssl"]
    assert discover_objectives(write(tmp_path, lang="a <na>\n"), "best_rq") == ["ssl"]


def test_objectives_and_option_agree_on_self_supervision() -> None:
    assert with_self_supervision(["asr/fr", "ssl"], "cpc") == ["asr/fr", "ssl"]
    assert with_self_supervision(["asr/fr"], None) == ["asr/fr"]
    assert with_self_supervision([], "cpc") is None
    with pytest.raises(ValueError, match="option ssl is none; choose ssl: cpc or ssl: best_rq"):
        with_self_supervision(["asr/fr", "ssl"], None)
    with pytest.raises(ValueError, match="option ssl is cpc, found asr/fr; add ssl"):
        with_self_supervision(["asr/fr"], "cpc")
