# SPDX-License-Identifier: Apache-2.0
"""One token list for all languages and both tasks.

`tokens.txt`: `<blank>`, `<unk>`, a symbol per language (`<fr>`), tokens, `<sos/eos>`.
"""

import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import sentencepiece

from espnet_objsoup.data.datadir import NO_VALUE, DataDir
from espnet_objsoup.data.files import write_bytes

TOKEN_TYPES = ("bpe", "char")


@dataclass(frozen=True)
class Corpus:
    """What a token list is made from: texts of all labels, and the languages that occur."""

    texts: list[str]
    languages: list[str]

    @classmethod
    def of(cls, parts: Iterable[DataDir]) -> "Corpus":
        """Texts and languages of data directories.

        Raises:
            ValueError: if there is no text.
        """
        texts, languages = [], set()
        for data in parts:
            for name, language in (("text", "utt2lang"), ("st_text", "utt2tgt")):
                for utterance, text in data.columns[name].items():
                    if text != NO_VALUE:
                        texts.append(text)
                        languages.add(data.columns[language][utterance])
            languages.update(data.columns["utt2lang"].values())
        if not texts:
            raise ValueError("token list: expected transcripts or translations, found none")
        return cls(texts, sorted(languages - {NO_VALUE}))


def make_char_tokens(corpus: Corpus, min_count: int = 1) -> list[str]:
    """Characters by falling frequency, `<space>` for the space."""
    counts = Counter(character for text in corpus.texts for character in text)
    if " " in counts:
        counts["<space>"] = counts.pop(" ")
    frequent = [(-n, token) for token, n in counts.items() if n >= min_count]
    return [token for _, token in sorted(frequent)]


def make_bpe_tokens(corpus: Corpus, vocabulary: int, model_path: Path) -> list[str]:
    """Train a SentencePiece unigram model, as ESPnet's recipes do by default.

    Args:
        corpus: texts of all languages.
        vocabulary: size of the model, its three control symbols included.
        model_path: where the model is written.

    Returns:
        Its pieces without control symbols.

    Raises:
        ValueError: if the texts do not allow that size, with the limit.
        OSError: if the model cannot be written.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus.texts),
            model_writer=model,
            vocab_size=vocabulary,
            model_type="unigram",
            character_coverage=1.0,
            input_sentence_size=10_000_000,
            num_threads=1,  # the result depends on the number of threads
            minloglevel=2,
        )
    except (RuntimeError, OSError) as err:
        raise ValueError(_size_message(vocabulary, corpus, str(err))) from err
    write_bytes(model_path, model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model_path))
    pieces = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
    return [piece for i, piece in enumerate(pieces) if not _is_special(processor, i)]


def _is_special(processor: sentencepiece.SentencePieceProcessor, i: int) -> bool:
    return processor.is_control(i) or processor.is_unknown(i)


def _size_message(vocabulary: int, corpus: Corpus, reason: str) -> str:
    characters = len({character for text in corpus.texts for character in text})
    limit = re.search(r"<= (\d+)", reason)
    most = f" and at most {limit.group(1)}" if limit else ""
    return (
        f"nbpe: expected at least {characters + 4} (the texts have {characters} characters){most}, "
        f"found {vocabulary}; SentencePiece says: {reason.strip()}"
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
