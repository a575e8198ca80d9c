# SPDX-License-Identifier: Apache-2.0
"""ESPnet's tokenizers, and one for a `bpe.model` with a vocabulary per group of languages."""

from collections.abc import Iterable
from pathlib import Path

from espnet2.text.abs_tokenizer import AbsTokenizer
from espnet2.text.build_tokenizer import build_tokenizer

from espnet_objsoup.data.bpe_model import BpeModel, is_grouped


class GroupTokenizer(AbsTokenizer):
    """SentencePiece models of several groups of languages (`--bpe_groups` of stage 5).

    Args:
        model: archive of the models.

    Raises:
        OSError, ValueError: if the models cannot be read.
    """

    def __init__(self, model: str | Path) -> None:
        self.models = BpeModel.read(Path(model))

    def knows(self, lang: str | None) -> bool:
        """Whether a language is in a group."""
        return self.models.knows(lang)

    def text2tokens(self, line: str, lang: str | None = None) -> list[str]:
        """Pieces of a text.

        Raises:
            ValueError: if the language is in no group.
        """
        return self.models.encode(line, lang)

    def tokens2text(self, tokens: Iterable[str]) -> str:
        """Text of pieces, whichever groups they are from."""
        return self.models.decode(tokens)


def make_tokenizer(token_type: str, bpemodel: str | None) -> AbsTokenizer:
    """The tokenizer of a token list.

    Args:
        token_type: `bpe`, `char` or `word`.
        bpemodel: file of stage 5, for `bpe`.
    """
    if token_type == "bpe" and bpemodel is not None and is_grouped(bpemodel):
        return GroupTokenizer(bpemodel)
    return build_tokenizer(token_type=token_type, bpemodel=bpemodel)
