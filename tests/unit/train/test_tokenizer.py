# SPDX-License-Identifier: Apache-2.0
import pickle
from pathlib import Path

import numpy as np
import pytest

from espnet_objsoup.data.token_list import BpeGroup, Corpus, make_bpe_tokens, write_token_list
from espnet_objsoup.inference import Speech2Text
from espnet_objsoup.train.preprocessor import ObjSoupPreprocessor
from espnet_objsoup.train.tokenizer import GroupTokenizer

from ..experiment import make_experiment

TEXTS = {"en": ["the cat", "the mat"], "fr": ["le chat", "la tache"], "zh": ["那只猫"]}
GROUPS = [BpeGroup(("en", "fr"), 14), BpeGroup(("zh",))]


@pytest.fixture(scope="module")
def token_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokens")
    pairs = [(text, code) for code, texts in TEXTS.items() for text in texts * 20]
    corpus = Corpus([t for t, _ in pairs], [code for _, code in pairs], sorted(TEXTS))
    tokens = make_bpe_tokens(corpus, GROUPS, directory / "bpe.model")
    write_token_list(tokens, sorted(TEXTS), directory / "tokens.txt")
    return directory


@pytest.fixture
def preprocessor(token_dir: Path) -> ObjSoupPreprocessor:
    return ObjSoupPreprocessor(
        train=True,
        languages=["en", "zh", "it"],
        token_type="bpe",
        token_list=str(token_dir / "tokens.txt"),
        bpemodel=str(token_dir / "bpe.model"),
    )


def ids(preprocessor: ObjSoupPreprocessor, **data: str) -> dict[str, np.ndarray]:
    return preprocessor("u", {**data})


def test_transcripts_and_translations_have_the_models_of_their_languages(
    preprocessor: ObjSoupPreprocessor, token_dir: Path
) -> None:
    tokens = (token_dir / "tokens.txt").read_text().splitlines()
    found = ids(preprocessor, text="那只猫", lang="zh", st_text="the cat", tgt_lang="en")
    assert [tokens[i] for i in found["text"]] == ["▁", *"那只猫"]
    assert "<unk>" not in {tokens[i] for i in found["st_text"]}
    assert preprocessor.tokenizer.tokens2text(tokens[i] for i in found["st_text"]) == "the cat"
    assert (found["lang"].item(), found["tgt_lang"].item()) == (1, 0)
    swapped = ids(preprocessor, text="那只猫", lang="en", st_text="the cat", tgt_lang="zh")
    assert {tokens[i] for i in swapped["text"]} == {"▁", "<unk>"}
    none = ids(preprocessor, text="<na>", lang="en", st_text="<na>", tgt_lang="<na>")
    assert none["text"].size == none["st_text"].size == 0


def test_a_language_of_no_group(preprocessor: ObjSoupPreprocessor) -> None:
    assert ids(preprocessor, text="katze", lang="de")["text"].size == 0  # no objective needs it
    with pytest.raises(ValueError, match="a language of a group, en, fr, zh, found 'it'"):
        ids(preprocessor, text="gatto", lang="it")


def test_workers_of_a_loader_get_a_copy(preprocessor: ObjSoupPreprocessor) -> None:
    copy = pickle.loads(pickle.dumps(preprocessor))  # noqa: S301
    assert isinstance(copy.tokenizer, GroupTokenizer)
    sample = {"text": "le chat", "lang": "fr"}
    assert ids(copy, **sample)["text"].tolist() == ids(preprocessor, **sample)["text"].tolist()


def test_hypotheses_are_put_together_again(token_dir: Path, tmp_path: Path) -> None:
    directory = make_experiment(tmp_path, token_type="bpe", bpemodel=str(token_dir / "bpe.model"))
    speech2text = Speech2Text(directory / "config.yaml", directory / "model.pth")
    tokenizer = speech2text.tokenizer
    assert isinstance(tokenizer, GroupTokenizer)
    for code, texts in TEXTS.items():
        for text in texts:
            assert tokenizer.tokens2text(tokenizer.text2tokens(text, code)) == text
