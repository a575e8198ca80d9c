# SPDX-License-Identifier: Apache-2.0
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
import sentencepiece

from espnet_objsoup.bin import make_token_list
from espnet_objsoup.data import datadir
from espnet_objsoup.data.bpe_model import BpeModel, is_grouped
from espnet_objsoup.data.text import normalise
from espnet_objsoup.data.token_list import (
    BpeGroup,
    Corpus,
    language_weights,
    make_bpe_tokens,
    make_char_tokens,
    write_token_list,
)

from .factory import make_data

TEXTS = [f"the {a} {b} sees a {c}" for a in ("old", "new", "red") for b in ("cat", "dog", "fox")
         for c in ("house", "tree", "bird", "car")]  # fmt: skip
CHINESE = [f"{a}的{b}看见{c}" for a in "老新红" for b in "猫狗" for c in ("房子", "大树", "小鸟")]
# A sentence in each language of CoVoST 2, with what its spelling asks for.
SENTENCES = {
    "en": "Don't the boys' 3.50 pounds count?", "fr": "L'homme où l'on naît, aujourd'hui.",
    "de": "Große Straßen über Äcker", "es": "¿Qué será, señor?", "ca": "L'intel·ligència és això",
    "it": "Perché c'è dell'acqua", "ru": "Ещё кто-нибудь здесь", "zh": "那个女人用Open Source软件",
    "pt": "Não são às 10 horas", "fa": "کتاب‌های من را می‌خواهم", "et": "Õhtul šokk ja žanr",
    "mn": "Сайн байна уу өвөл", "nl": "Zo'n zee-eend eet foto's", "tr": "Iğdır'da İzmir'de ışık",
    "ar": "السَّلامُ عليكم كيف الحال؟", "sv": "Åsa såg tv-n", "lv": "Ķēniņš teica jā",
    "sl": "Čez cesto gre žena", "ta": "தமிழ்நாடு வணக்கம்", "ja": "ジョンはテレビで「NHK」を見た",
    "id": "Anak-anak bermain", "cy": "Mae'n i'r tŷ, on'd ydy?", "th": "น้ำกับ iPhone 15ๆ",
}  # fmt: skip


def corpus_of(texts: dict[str, Iterable[str]]) -> Corpus:
    pairs = [(text, code) for code, of_code in texts.items() for text in of_code]
    return Corpus([text for text, _ in pairs], [code for _, code in pairs], sorted(texts))


ENGLISH = corpus_of({"en": TEXTS})
BOTH = corpus_of({"en": TEXTS, "zh": CHINESE})
GROUPS = [BpeGroup(("en",), 26), BpeGroup(("zh",), 20)]


def test_corpus_has_texts_of_both_tasks_and_all_languages() -> None:
    corpus = Corpus.of([make_data()])
    pairs = set(zip(corpus.texts, corpus.text_languages, strict=True))
    assert {("hello", "en"), ("le chat", "fr"), ("le chien", "fr"), ("the cat", "en")} < pairs
    assert len(corpus.texts) == 5
    assert corpus.languages == ["en", "fr"]


def test_characters_by_frequency() -> None:
    assert make_char_tokens(corpus_of({"en": ["aab b", "a"]})) == ["a", "b", "<space>"]


def test_bpe_pieces_are_those_of_the_model(tmp_path: Path) -> None:
    tokens = make_bpe_tokens(ENGLISH, [BpeGroup(size=25)], tmp_path / "bpe.model")
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "bpe.model"))
    assert len(tokens) == 25 - 3
    assert set(model.encode("the old cat", out_type=str)) <= set(tokens)
    assert [p.name for p in tmp_path.iterdir()] == ["bpe.model"]


def test_impossible_size_names_the_limits(tmp_path: Path) -> None:
    path = tmp_path / "bpe.model"
    with pytest.raises(ValueError, match="nbpe: expected at least .* at most .* found 5000"):
        make_bpe_tokens(ENGLISH, [BpeGroup(size=5000)], path)
    with pytest.raises(ValueError, match="nbpe: expected at least"):
        make_bpe_tokens(ENGLISH, [BpeGroup(size=5)], path)
    with pytest.raises(ValueError, match="nbpe of zh: expected at least"):
        make_bpe_tokens(BOTH, [GROUPS[0], BpeGroup(("zh",), 5)], path)
    assert not path.exists()


def test_a_group_is_encoded_as_by_its_own_model(tmp_path: Path) -> None:
    tokens = make_bpe_tokens(BOTH, GROUPS, tmp_path / "bpe.model")
    both = BpeModel.read(tmp_path / "bpe.model")
    own = {}
    for group, texts in zip(GROUPS, (TEXTS, CHINESE), strict=True):
        (code,) = group.languages
        path = tmp_path / f"{code}.model"
        own[code] = make_bpe_tokens(corpus_of({code: texts}), [BpeGroup(size=group.size)], path)
        alone = BpeModel.read(path)
        assert [both.encode(t, code) for t in texts] == [alone.encode(t) for t in texts]
    # United: each piece once, in the order of the groups; what both have is one token.
    assert tokens == list(dict.fromkeys([*own["en"], *own["zh"]]))
    assert set(own["en"]) & set(own["zh"]) == {"▁"}
    # A group leaves the pieces of the others alone.
    assert both.encode(TEXTS[0], "zh") != both.encode(TEXTS[0], "en")


def test_models_of_groups_are_files_of_sentencepiece(tmp_path: Path) -> None:
    path = tmp_path / "bpe.model"
    make_bpe_tokens(BOTH, GROUPS, path)
    assert is_grouped(path)
    first = path.read_bytes()
    make_bpe_tokens(BOTH, GROUPS, path)
    assert path.read_bytes() == first
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["en.model", "zh.model"]
        model = sentencepiece.SentencePieceProcessor(model_proto=archive.read("zh.model"))
    assert model.get_piece_size() == 20


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("policy", ["lc.rm", "tc"])
def test_every_language_is_what_it_was_after_encoding(
    tmp_path: Path, policy: str, groups: int
) -> None:
    texts = {c: [normalise(text, c, policy)] * 3 for c, text in SENTENCES.items()}
    codes = list(SENTENCES)
    wanted = [BpeGroup(tuple(codes[i::groups])) for i in range(groups)] if groups > 1 else []
    tokens = make_bpe_tokens(
        corpus_of(texts), wanted or [BpeGroup(size=180)], tmp_path / "bpe.model"
    )
    model = BpeModel.read(tmp_path / "bpe.model")
    for code, (text, *_) in texts.items():
        pieces = model.encode(text, code)
        assert set(pieces) <= set(tokens)
        assert model.decode(pieces) == text


def test_a_piece_for_each_character(tmp_path: Path) -> None:
    groups = [GROUPS[0], BpeGroup(("zh",))]
    tokens = make_bpe_tokens(BOTH, groups, tmp_path / "bpe.model")
    assert set("".join(CHINESE)) <= set(tokens)
    model = BpeModel.read(tmp_path / "bpe.model")
    assert model.encode("老猫看见房子", "zh") == ["▁", *"老猫看见房子"]


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        ([("en",)], "found 'en': no group has zh"),
        ([("en", "zh"), ("en",)], "several groups have en"),
        ([("en",), ("zh", "fr")], "the texts are not in fr"),
    ],
)
def test_groups_that_do_not_fit_the_languages(
    tmp_path: Path, languages: list[tuple[str, ...]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_bpe_tokens(BOTH, [BpeGroup(codes, 30) for codes in languages], tmp_path / "bpe.model")


def test_a_language_without_group_cannot_be_encoded(tmp_path: Path) -> None:
    make_bpe_tokens(BOTH, GROUPS, tmp_path / "bpe.model")
    model = BpeModel.read(tmp_path / "bpe.model")
    assert model.knows("zh")
    assert not model.knows("fr")
    with pytest.raises(ValueError, match="a language of a group, en, zh, found 'fr'"):
        model.encode("le chat", "fr")
    (tmp_path / "bpe.model").write_text("no model")
    with pytest.raises(ValueError, match="expected a SentencePiece model, .* make it again"):
        BpeModel.read(tmp_path / "bpe.model")


def test_temperature_gives_room_to_languages_with_little_text(tmp_path: Path) -> None:
    rare = [
        f"{a}{b}{c}" for a in ("jaluk", "temor") for b in ("izev", "obag") for c in ("un", "yr")
    ]
    corpus = corpus_of({"en": TEXTS * 50, "xx": rare})
    n = {code: sum(map(len, texts)) for code, texts in (("en", TEXTS * 50), ("xx", rare))}
    weights = language_weights(corpus, 2)
    assert weights["en"] == 10  # shares 1 : r count as 1 : sqrt(r), so a text for 1/sqrt(r)
    assert weights["xx"] == round(10 * (n["en"] / n["xx"]) ** 0.5)
    pieces = {}
    for temperature in (1.0, 5.0):
        path = tmp_path / "bpe.model"
        make_bpe_tokens(corpus, [BpeGroup(size=36)], path, temperature)
        model = BpeModel.read(path)
        pieces[temperature] = sum(len(model.encode(text)) for text in rare)
    assert pieces[5.0] < pieces[1.0]


def test_order_of_the_list(tmp_path: Path) -> None:
    write_token_list(["a", "b"], ["en", "fr"], tmp_path / "tokens.txt")
    lines = (tmp_path / "tokens.txt").read_text().split()
    assert lines == ["<blank>", "<unk>", "<en>", "<fr>", "a", "b", "<sos/eos>"]


def test_special_symbols_in_texts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="<fr>"):
        write_token_list(["<fr>"], ["fr"], tmp_path / "tokens.txt")


def test_command_makes_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    datadir.write(make_data(), tmp_path / "data")
    command = ["--data_dirs", f"{tmp_path}/data", "--out", f"{tmp_path}/t", "--nbpe", "char | 13"]
    assert make_token_list.main([*command, "--bpe_groups", "en|fr"]) == 0
    assert BpeModel.read(tmp_path / "t" / "bpe.model").languages == ["en", "fr"]
    tokens = (tmp_path / "t" / "tokens.txt").read_text().splitlines()
    assert len(tokens) == len(set(tokens))
    assert make_token_list.groups("en sv-SE sv|zh-CN") == [("en", "sv"), ("zh",)]
    assert make_token_list.main([*command, "--bpe_groups", "en|de"]) == 1
    assert "no group has fr" in capsys.readouterr().err
    for wrong, message in (
        (["--bpe_groups", "en fr"], "a size for each of the 1 groups"),
        (["--bpe_groups", "en|"], "languages on both sides"),
        (["--bpe_groups", "en|fr", "--nbpe", "9|many"], "--nbpe"),
        (["--bpe_groups", "en|fr", "--bpe_temperature", "0.5"], "a number >= 1"),
        (["--bpe_groups", "en|fr", "--token_type", "char"], "nothing with --token_type char"),
    ):
        with pytest.raises(SystemExit):
            make_token_list.main([*command, *wrong])
        assert message in capsys.readouterr().err
