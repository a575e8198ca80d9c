# SPDX-License-Identifier: Apache-2.0
"""Which objectives the training data holds."""

from collections import Counter
from collections.abc import Iterator, Sequence

from espnet_objsoup.objectives import ObjectiveSpec
from espnet_objsoup.train.preprocessor import NO_LABEL

SSL = "ssl"


def languages_of(objectives: Sequence[str]) -> list[str]:
    """Sorted language codes that the objectives name."""
    specs = [ObjectiveSpec.parse(name) for name in objectives]
    codes = {code for spec in specs for code in (spec.lang, spec.target_lang)}
    return sorted(code for code in codes if code is not None)


def with_self_supervision(objectives: Sequence[str] | None, ssl: str | None) -> list[str] | None:
    """Check that objectives which were asked for agree with the option `ssl`.

    Args:
        objectives: value of `--objectives`; None or empty: those that the data holds.
        ssl: value of `--ssl`.

    Returns:
        The objectives as they are.

    Raises:
        ValueError: if one asks for self-supervision and the other does not.
    """
    if not objectives:
        return None
    if SSL in objectives and ssl is None:
        raise ValueError(
            "objectives: ssl is listed, but the option ssl is none; choose ssl: cpc or "
            "ssl: best_rq, or remove ssl from the objectives"
        )
    if SSL not in objectives and ssl is not None:
        raise ValueError(
            f"objectives: expected ssl among them because the option ssl is {ssl}, found "
            f"{', '.join(objectives)}; add ssl to the objectives, or set ssl: none"
        )
    return list(objectives)


def discover_objectives(data: Sequence[Sequence[str]], ssl: str | None = None) -> list[str]:
    """Objectives that the training data can serve.

    Args:
        data: (path, name, type) triples of `--train_data_path_and_name_and_type`.
        ssl: kind of self-supervision, which needs no label, or None.

    Returns:
        Sorted names, `asr/<lang>` where `text` has a transcript, `st/<src>-<tgt>` where `st_text`
        has a translation; then `ssl` if it is wanted.

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
    if not counts and ssl is None:
        raise ValueError(
            f"training data: expected transcripts in text or translations in st_text, found only "
            f"{NO_LABEL} in {', '.join(sorted(paths.values()))}; for training without labels set "
            "ssl: cpc or ssl: best_rq"
        )
    return [*sorted(counts), *([] if ssl is None else [SSL])]


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
