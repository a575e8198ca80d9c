# SPDX-License-Identifier: Apache-2.0
from pathlib import Path
from typing import Any

import pytest

from espnet_objsoup.bin.input_checks import check_tokens, model_sample_rate
from espnet_objsoup.data.token_list import BpeGroup, Corpus, make_bpe_tokens, write_token_list


@pytest.mark.parametrize(
    ("conf", "rate"),
    [
        ({}, 16000),
        ({"frontend_conf": {"fs": "8k"}}, 8000),
        ({"frontend_conf": {"fs": 24000}}, 24000),
        ({"frontend": "s3prl"}, None),
        ({"frontend": "s3prl", "frontend_conf": {"fs": "16k"}}, 16000),
        ({"input_size": 80}, None),
    ],
)
def test_sample_rate_of_a_configuration(conf: dict[str, Any], rate: int | None) -> None:
    assert model_sample_rate(conf) == rate


@pytest.mark.parametrize("options", [{"fs": "fast"}, {"fs": 0}, {"fs": [16000]}, {"fs": True}, [1]])
def test_no_rate_of_a_model(options: object) -> None:
    with pytest.raises(ValueError, match=r"frontend_conf\.fs: expected a sample rate .* found "):
        model_sample_rate({"frontend_conf": options})


def test_bpe_pieces_outside_the_list(tmp_path: Path) -> None:
    texts = ["the cat sat on the mat", "a hat on a cat"] * 20
    tokens = make_bpe_tokens(
        Corpus(texts, ["en"] * len(texts), ["en"]), [BpeGroup(size=15)], tmp_path / "bpe.model"
    )
    write_token_list(tokens, ["en"], tmp_path / "tokens.txt")
    (tmp_path / "text").write_text("u the cat\nv the zebra\nw <na>\n")
    warning = check_tokens(tmp_path, tmp_path, strict=False)
    assert warning is not None
    assert "in 1 of 2 texts (first: v)" in warning
    assert "z" in warning
    (tmp_path / "text").write_text("u the cat\n")
    assert check_tokens(tmp_path, tmp_path, strict=True) is None


def test_each_language_is_checked_with_its_group(tmp_path: Path) -> None:
    texts = {"en": ["the cat sat on the mat"] * 20, "fr": ["le chat là"] * 20}
    corpus = Corpus([t for of in texts.values() for t in of], ["en"] * 20 + ["fr"] * 20, [*texts])
    groups = [BpeGroup(("en",)), BpeGroup(("fr",))]
    tokens = make_bpe_tokens(corpus, groups, tmp_path / "bpe.model")
    write_token_list(tokens, [*texts], tmp_path / "tokens.txt")
    (tmp_path / "text").write_text("u the cat\nv le chat là\n")
    (tmp_path / "utt2lang").write_text("u en\nv fr\n")
    assert check_tokens(tmp_path, tmp_path, strict=True) is None
    (tmp_path / "utt2lang").write_text("u en\nv de\n")
    warning = check_tokens(tmp_path, tmp_path, strict=False)
    assert warning is not None
    assert "a text in de, which is in no group" in warning
