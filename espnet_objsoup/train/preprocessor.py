# SPDX-License-Identifier: Apache-2.0
"""Text and language names of an utterance to integers."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from espnet2.text.sentencepiece_tokenizer import SentencepiecesTokenizer
from espnet2.train.preprocessor import CommonPreprocessor

from espnet_objsoup.train.tokenizer import GroupTokenizer, make_tokenizer

NO_LABEL = "<na>"


class ObjSoupPreprocessor(CommonPreprocessor):
    """ESPnet's preprocessor for transcripts and translations with one token list.

    `text` and `st_text` become token ids (int64, empty where the data directory says `<na>`);
    `lang` and `tgt_lang` become an index into `languages`, shape (1,), -1 where they say `<na>` or
    name a language that no objective needs. Speech is treated as in ESPnet (reverberation, noise,
    volume), by the same options. Where languages have BPE models of their own, `lang` chooses that
    of `text` and `tgt_lang` that of `st_text`.

    Args:
        train: whether random augmentation is applied.
        languages: codes in the model's order.
        **kwargs: options of ESPnet's CommonPreprocessor.
    """

    text_names: ClassVar[dict[str, str]] = {"text": "lang", "st_text": "tgt_lang"}

    def __init__(self, train: bool, languages: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(train, **kwargs)
        self.language_index = {code: i for i, code in enumerate(languages)}
        if isinstance(self.tokenizer, SentencepiecesTokenizer):
            self.tokenizer = make_tokenizer(kwargs["token_type"], kwargs["bpemodel"])

    def _text_process(self, data: dict[str, str | np.ndarray]) -> dict[str, np.ndarray]:
        for name, language in self.text_names.items():
            if isinstance(data.get(name), str):
                data[name] = self._token_ids(data[name], data.get(language))
        for name in self.text_names.values():
            if isinstance(data.get(name), str):
                data[name] = np.array([self.language_index.get(data[name], -1)], dtype=np.int64)
        return data

    def _token_ids(self, text: str, lang: str | None) -> np.ndarray:
        if text == NO_LABEL:
            return np.zeros(0, dtype=np.int64)
        text = self.text_cleaner(text)
        if not isinstance(self.tokenizer, GroupTokenizer):
            tokens = self.tokenizer.text2tokens(text)
        elif lang in self.language_index or self.tokenizer.knows(lang):
            tokens = self.tokenizer.text2tokens(text, lang)
        else:
            tokens = []  # no objective needs it
        return np.array(self.token_id_converter.tokens2ids(tokens), dtype=np.int64)
