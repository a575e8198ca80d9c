# SPDX-License-Identifier: Apache-2.0
from espnet_objsoup.demo import choices

OBJECTIVES = ["asr/de", "asr/fr", "st/fr-en", "st/fr-es", "st/de-en", "ssl"]


def test_only_tasks_of_the_model() -> None:
    assert choices.tasks(OBJECTIVES) == [("Transcribe", "asr"), ("Translate", "st")]
    assert choices.tasks(["st/fr-en", "ssl"]) == [("Translate", "st")]


def test_only_languages_of_the_task() -> None:
    assert [value for _, value in choices.spoken(OBJECTIVES, "asr")] == ["", "de", "fr"]
    assert [value for _, value in choices.spoken(["asr/de", "st/fr-en"], "st")] == ["", "fr"]


def test_only_targets_of_the_language() -> None:
    def values(task: str, lang: str) -> list[str]:
        return [value for _, value in choices.targets(OBJECTIVES, task, lang)]

    assert values("st", "fr") == ["en", "es"]
    assert values("st", "de") == ["en"]
    assert values("st", choices.GUESS) == ["en", "es"]
    assert values("asr", "fr") == []
