# SPDX-License-Identifier: Apache-2.0
"""`bpe.model`: one SentencePiece model for all languages, or one for each group of languages.

For groups the file is a zip archive with a model per group, whose name lists the languages
(`en+fr.model`). One file, as ESPnet's packing wants it; `unzip` gives models that any SentencePiece
reads.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import sentencepiece

_SUFFIX = ".model"

# What SentencePiece and zipfile raise for files that are not theirs.
_DAMAGE = (RuntimeError, ValueError, zipfile.BadZipFile, zlib.error, struct.error, EOFError)


class BpeModel:
    """Encodes a text by the model of its language.

    Args:
        models: serialised SentencePiece models by their languages; a single one, for no languages
            in particular, is used for all.
        name: file, for messages.
    """

    def __init__(self, models: Mapping[tuple[str, ...], bytes], name: str = "bpe.model") -> None:
        self.name = name
        self._all: sentencepiece.SentencePieceProcessor | None = None
        self._by_language: dict[str, sentencepiece.SentencePieceProcessor] = {}
        for languages, content in models.items():
            processor = sentencepiece.SentencePieceProcessor(model_proto=content)
            if not languages:
                self._all = processor
            self._by_language |= dict.fromkeys(languages, processor)

    @classmethod
    def read(cls, path: Path) -> "BpeModel":
        """Model or models of a file.

        Raises:
            OSError: if it cannot be read.
            ValueError: if it holds anything else.
        """
        content = path.read_bytes()
        try:
            models = _models_of(content)
            # SentencePiece takes an empty file for a model without pieces.
            if not models or not all(map(pieces_of, models.values())):
                raise RuntimeError("no pieces in it")
            return cls(models, str(path))
        except _DAMAGE as err:
            raise ValueError(
                f"{path}: expected a SentencePiece model, or an archive of them, found neither "
                f"({err}); make it again (stage 5)"
            ) from err

    @property
    def languages(self) -> list[str]:
        """Languages that have a group; none for a model of all."""
        return sorted(self._by_language)

    def knows(self, lang: str | None) -> bool:
        """Whether texts of this language can be encoded."""
        return self._all is not None or lang in self._by_language

    def encode(self, text: str, lang: str | None = None) -> list[str]:
        """Pieces of a text; characters that the model lacks are pieces too.

        Args:
            text: normalised.
            lang: its language; needed where languages have groups.

        Raises:
            ValueError: if the language has no group.
        """
        return self._processor(lang).encode(text, out_type=str)

    def decode(self, pieces: Iterable[str]) -> str:
        """Text of pieces, whichever models they are from."""
        # A processor joins pieces that it does not know as they are.
        processor = self._all or next(iter(self._by_language.values()))
        return processor.decode(list(pieces))

    def _processor(self, lang: str | None) -> sentencepiece.SentencePieceProcessor:
        found = self._all or self._by_language.get(lang or "")
        if found is None:
            raise ValueError(
                f"{self.name}: expected a language of a group, {', '.join(self.languages)}, "
                f"found {lang!r}; run stage 5 with the language in --bpe_groups"
            )
        return found


def is_grouped(path: str | Path) -> bool:
    """Whether a file has a model for each group of languages."""
    return zipfile.is_zipfile(path)


def pieces_of(model: bytes) -> list[str]:
    """Pieces of a SentencePiece model without control symbols and `<unk>`."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [
        processor.id_to_piece(i)
        for i in range(processor.get_piece_size())
        if not (processor.is_control(i) or processor.is_unknown(i))
    ]


def archive(models: Mapping[tuple[str, ...], bytes]) -> bytes:
    """Content of a file for several groups; equal models give equal bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for languages, model in models.items():
            file.writestr(zipfile.ZipInfo("+".join(languages) + _SUFFIX), model)
    return content.getvalue()


def _models_of(content: bytes) -> dict[tuple[str, ...], bytes]:
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return {(): content}
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return {
            tuple(name.removesuffix(_SUFFIX).split("+")): file.read(name)
            for name in file.namelist()
        }
