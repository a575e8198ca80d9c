# SPDX-License-Identifier: Apache-2.0
"""Which objectives the training data holds."""

from collections import Counter
from collections.abc import Iterator, Sequence

from espnet_objsoup.train.preprocessor import NO_LABEL


def languages_of(objectives: Sequence[str]) -> list[str]:
    """Sorted language codes that the objectives name."""
    return sorted({code for name in objectives for code in name.split("/", 1)[1].split("-")})


def discover_objectives(data: Sequence[Sequence[str]]) -> list[str]:
    """Objectives that have at least one labelled utterance.

    Args:
        data: (path, name, type) triples of `--train_data_path_and_name_and_type`.

    Returns:
        Sorted names: `asr/<lang>` where `text` has a transcript, `st/<src>-<tgt>` where `st_text`
        has a translation.

    Raises:
        ValueError: if there are none, or an input that is needed is missing.
    """
    paths = {name: path for path, name, _ in data}
    if "lang" not in paths:
        raise ValueError(
            "training data: expected an input named lang (the file utt2lang), found "
            f"{sorted(paths)}; give --train_data_path_and_name_and_type DIR/utt2lang,lang,text"
        )
    languages = dict(_rows(paths["lang"]))
    counts: Counter[str] = Counter()
    if "text" in paths:
        for utterance, text in _rows(paths["text"]):
            if text != NO_LABEL:
                counts[f"asr/{_known(languages, utterance, paths['lang'])}"] += 1
    if "st_text" in paths and "tgt_lang" in paths:
        targets = dict(_rows(paths["tgt_lang"]))
        for utterance, text in _rows(paths["st_text"]):
            if text != NO_LABEL:
                source = _known(languages, utterance, paths["lang"])
                target = _known(targets, utterance, paths["tgt_lang"])
                counts[f"st/{source}-{target}"] += 1
    if not counts:
        raise ValueError(
            f"training data: expected transcripts in text or translations in st_text, found only "
            f"{NO_LABEL} in {', '.join(sorted(paths.values()))}"
        )
    return sorted(counts)


def _rows(path: str) -> Iterator[tuple[str, str]]:
    with open(path, encoding="utf-8") as file:
        for line in file:
            key, _, value = line.rstrip("\n").partition(" ")
            yield key, value.strip()


def _known(values: dict[str, str], utterance: str, path: str) -> str:
    value = values.get(utterance, NO_LABEL)
    if value == NO_LABEL:
        raise ValueError(
            f"{path}: expected a language for utterance {utterance}, which has a label; found "
            f"{'no line' if utterance not in values else NO_LABEL}"
        )
    return value
