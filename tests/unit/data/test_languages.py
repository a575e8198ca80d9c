# SPDX-License-Identifier: Apache-2.0
import pytest

from espnet_objsoup.data.languages import bare_code, parse_langs, parse_pairs


def test_regions_that_a_corpus_writes_are_dropped() -> None:
    assert parse_langs(["zh-CN", "en", "zh", "sv-SE"]) == ["zh", "en", "sv"]
    assert bare_code("zh-TW") == "zh-TW"  # another language to the corpus


def test_pairs_are_read_with_and_without_region() -> None:
    assert parse_pairs(["zh-CN-en", "en-sv-SE", "fr-en", "zh-en", "zh-CN-sv-SE"]) == [
        ("zh", "en"), ("en", "sv"), ("fr", "en"), ("zh", "sv"),
    ]  # fmt: skip


@pytest.mark.parametrize("value", ["fr", "fr-", "-en", "fr-en-de", "fr-e-n", "fr>en"])
def test_other_words_are_no_pairs(value: str) -> None:
    with pytest.raises(ValueError, match="such as fr-en"):
        parse_pairs([value])
