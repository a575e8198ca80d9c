# SPDX-License-Identifier: Apache-2.0
"""One token list for all languages and both tasks.

`tokens.txt`: `<blank>`, `<unk>`, a symbol per language (`<fr>`), tokens, `<sos/eos>`.
"""

import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import sentencepiece

from espnet_objsoup.data.bpe_model import archive, pieces_of
from espnet_objsoup.data.datadir import NO_VALUE, DataDir
from espnet_objsoup.data.files import write_bytes

TOKEN_TYPES = ("bpe", "char")
# Weights of languages are whole numbers for SentencePiece; the smallest is this.
_SMALLEST_WEIGHT = 10


@dataclass(frozen=True)
class Corpus:
    """What a token list is made from: texts of all labels, and the languages that occur.

    Attributes:
        texts: transcripts and translations.
        text_languages: the language of each.
        languages: of texts and of speech, sorted.
    """

    texts: list[str]
    text_languages: list[str]
    languages: list[str]

    @classmethod
    def of(cls, parts: Iterable[DataDir]) -> "Corpus":
        """Texts and languages of data directories.

        Raises:
            ValueError: if there is no text.
        """
        texts: list[str] = []
        text_languages: list[str] = []
        languages: set[str] = set()
        for data in parts:
            for name, language in (("text", "utt2lang"), ("st_text", "utt2tgt")):
                for utterance, text in data.columns[name].items():
                    if text != NO_VALUE:
                        texts.append(text)
                        text_languages.append(data.columns[language][utterance])
            languages.update(data.columns["utt2lang"].values(), text_languages)
        if not texts:
            raise ValueError("token list: expected transcripts or translations, found none")
        return cls(texts, text_languages, sorted(languages - {NO_VALUE}))

    def only(self, languages: Sequence[str]) -> "Corpus":
        """The texts of some languages."""
        pairs = [
            pair
            for pair in zip(self.texts, self.text_languages, strict=True)
            if pair[1] in languages
        ]
        return Corpus([t for t, _ in pairs], [code for _, code in pairs], sorted(languages))


@dataclass(frozen=True)
class BpeGroup:
    """Languages that share a vocabulary.

    Attributes:
        languages: codes; none for all languages of the corpus.
        size: pieces of the model, its three control symbols included; None: a piece for each
            character.
    """

    languages: tuple[str, ...] = ()
    size: int | None = None


def make_char_tokens(corpus: Corpus, min_count: int = 1) -> list[str]:
    """Characters by falling frequency, `<space>` for the space."""
    counts = Counter(character for text in corpus.texts for character in text)
    if " " in counts:
        counts["<space>"] = counts.pop(" ")
    frequent = [(-n, token) for token, n in counts.items() if n >= min_count]
    return [token for _, token in sorted(frequent)]


def make_bpe_tokens(
    corpus: Corpus, groups: Sequence[BpeGroup], model_path: Path, temperature: float = 1.0
) -> list[str]:
    """Train SentencePiece unigram models, as ESPnet's recipes do by default.

    Args:
        corpus: texts of all languages.
        groups: a single one without languages for a joint vocabulary, or several that hold all
            languages with texts, each once.
        model_path: where the model, or an archive of all, is written.
        temperature: 1 counts texts as they are; above 1 languages with little text count for more:
            in a group, a share p of the characters counts as p^(1/temperature).

    Returns:
        The pieces of all models without control symbols, each once.

    Raises:
        ValueError: if the texts do not allow a size, with the limit, or the groups do not fit the
            languages.
        OSError: if the model cannot be written.
    """
    joint = len(groups) == 1 and not groups[0].languages
    if joint:
        content = _train(corpus, groups[0], temperature)
        models = {(): content}
    else:
        _check_groups(corpus, groups)
        models = {
            group.languages: _train(corpus.only(group.languages), group, temperature)
            for group in groups
        }
        content = archive(models)
    write_bytes(model_path, content)
    return list(dict.fromkeys(piece for model in models.values() for piece in pieces_of(model)))


def _check_groups(corpus: Corpus, groups: Sequence[BpeGroup]) -> None:
    listed = [code for group in groups for code in group.languages]
    with_text = set(corpus.text_languages)
    problems = [
        f"{what} {' '.join(sorted(codes))}"
        for what, codes in (
            ("no group has", with_text - set(listed)),
            ("several groups have", {code for code, n in Counter(listed).items() if n > 1}),
            ("the texts are not in", set(listed) - with_text),
        )
        if codes
    ]
    if problems:
        raise ValueError(
            "bpe_groups: expected groups that hold each language of the texts "
            f"({' '.join(sorted(with_text))}) once, found "
            f"'{'|'.join(' '.join(group.languages) for group in groups)}': {'; '.join(problems)}"
        )


def _train(corpus: Corpus, group: BpeGroup, temperature: float) -> bytes:
    model = io.BytesIO()
    kind = {"model_type": "unigram", "vocab_size": group.size}
    if group.size is None:
        kind = {"model_type": "char", "use_all_vocab": True}
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_weighted(corpus, temperature),
            input_format="text" if temperature == 1 else "tsv",
            model_writer=model,
            **kind,
            character_coverage=1.0,
            # The texts are normalised (data/text.py). SentencePiece's own rule would split Persian
            # words at a zero-width non-joiner.
            normalization_rule_name="identity",
            input_sentence_size=10_000_000,
            num_threads=1,  # the result depends on the number of threads
            minloglevel=2,
        )
    except (RuntimeError, OSError) as err:
        raise ValueError(_size_message(group, corpus, str(err))) from err
    return model.getvalue()


def language_weights(corpus: Corpus, temperature: float) -> dict[str, int]:
    """How often a text of a language counts; the least is 10, so that rounding matters little."""
    characters: Counter[str] = Counter()
    for text, code in zip(corpus.texts, corpus.text_languages, strict=True):
        characters[code] += len(text)
    total = characters.total()
    # Share that is wanted by share that there is, up to a factor.
    ratios = {code: (n / total) ** (1 / temperature - 1) for code, n in characters.items()}
    least = min(ratios.values())
    return {code: round(_SMALLEST_WEIGHT * ratio / least) for code, ratio in ratios.items()}


def _weighted(corpus: Corpus, temperature: float) -> Iterator[str]:
    """Texts, with a column of weights unless all count as they are."""
    if temperature == 1:
        yield from corpus.texts
        return
    weights = language_weights(corpus, temperature)
    for text, code in zip(corpus.texts, corpus.text_languages, strict=True):
        yield f"{text}\t{weights[code]}"


def _size_message(group: BpeGroup, corpus: Corpus, reason: str) -> str:
    characters = len({character for text in corpus.texts for character in text})
    limit = re.search(r"<= (\d+)", reason)
    most = f" and at most {limit.group(1)}" if limit else ""
    of_group = f" of {' '.join(group.languages)}" if group.languages else ""
    return (
        f"nbpe{of_group}: expected at least {characters + 4} (the texts have {characters} "
        f"characters){most}, found {group.size or 'char'}; SentencePiece says: {reason.strip()}"
    )


def write_token_list(tokens: Sequence[str], languages: Sequence[str], path: Path) -> list[str]:
    """Write `tokens.txt`; returns the whole list.

    Raises:
        ValueError: if a token has the name of a special symbol.
        OSError: if the file cannot be written.
    """
    special = ["<blank>", "<unk>", *(f"<{code}>" for code in languages), "<sos/eos>"]
    clashes = sorted(set(tokens) & set(special))
    if clashes:
        raise ValueError(f"token list: the texts hold special symbols: {', '.join(clashes)}")
    whole = [*special[:-1], *tokens, special[-1]]
    write_bytes(path, "".join(f"{token}\n" for token in whole).encode())
    return whole
