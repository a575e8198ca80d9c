# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
import sentencepiece

from espnet_objsoup.data.token_list import (
    Corpus,
    make_bpe_tokens,
    make_char_tokens,
    write_token_list,
)

from .factory import make_data

TEXTS = [f"the {a} {b} sees a {c}" for a in ("old", "new", "red") for b in ("cat", "dog", "fox")
         for c in ("house", "tree", "bird", "car")]  # fmt: skip


def test_corpus_has_texts_of_both_tasks_and_all_languages() -> None:
    corpus = Corpus.of([make_data()])
    assert sorted(corpus.texts) == ["hello", "le chat", "le chien", "the cat", "the dog"]
    assert corpus.languages == ["en", "fr"]


def test_characters_by_frequency() -> None:
    assert make_char_tokens(Corpus(["aab b", "a"], ["en"])) == ["a", "b", "<space>"]


def test_bpe_pieces_are_those_of_the_model(tmp_path: Path) -> None:
    tokens = make_bpe_tokens(Corpus(TEXTS, ["en"]), 25, tmp_path / "bpe.model")
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "bpe.model"))
    assert len(tokens) == 25 - 3
    assert set(model.encode("the old cat", out_type=str)) <= set(tokens)
    assert [p.name for p in tmp_path.iterdir()] == ["bpe.model"]


def test_impossible_size_names_the_limits(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected at least .* at most .* found 5000"):
        make_bpe_tokens(Corpus(TEXTS, ["en"]), 5000, tmp_path / "bpe.model")
    with pytest.raises(ValueError, match="nbpe: expected at least"):
        make_bpe_tokens(Corpus(TEXTS, ["en"]), 5, tmp_path / "bpe.model")


def test_order_of_the_list(tmp_path: Path) -> None:
    write_token_list(["a", "b"], ["en", "fr"], tmp_path / "tokens.txt")
    lines = (tmp_path / "tokens.txt").read_text().split()
    assert lines == ["<blank>", "<unk>", "<en>", "<fr>", "a", "b", "<sos/eos>"]


def test_special_symbols_in_texts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="<fr>"):
        write_token_list(["<fr>"], ["fr"], tmp_path / "tokens.txt")
