# SPDX-License-Identifier: Apache-2.0
"""Utterances of a corpus before they become a data directory."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from espnet_objsoup.data.datadir import NO_VALUE, REQUIRED, DataDir, DataDirError


@dataclass(frozen=True)
class Utterance:
    """One recording with its labels.

    Attributes:
        utterance: id without the speaker.
        speaker: speaker id; the data directory's id begins with it, as Kaldi's tools want.
        audio: path.
        lang: spoken language.
        transcript: normalised transcript or `<na>`.
        translations: target language -> normalised translation.
    """

    utterance: str
    speaker: str
    audio: str
    lang: str
    transcript: str = NO_VALUE
    translations: Mapping[str, str] = field(default_factory=dict)


def rows_of(item: Utterance) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows of a data directory: id, and file name -> value.

    An utterance with several translations becomes a row per target with the suffix `-<target>`;
    the transcript stays with the first, so that recognition is not counted twice.
    """
    targets = sorted(item.translations) or [NO_VALUE]
    for i, target in enumerate(targets):
        suffix = f"-{target}" if len(targets) > 1 else ""
        yield (
            f"{item.speaker}-{item.utterance}{suffix}",
            {
                "wav.scp": item.audio,
                "text": item.transcript if i == 0 else NO_VALUE,
                "st_text": item.translations.get(target, NO_VALUE),
                "utt2lang": item.lang,
                "utt2tgt": target,
                "utt2spk": item.speaker,
            },
        )


def to_data_dir(utterances: Iterable[Utterance]) -> DataDir:
    """Columns of a data directory; see `rows_of`. `data.datadir_writer` writes without them."""
    data = DataDir({name: {} for name in REQUIRED})
    for item in utterances:
        for utterance, row in rows_of(item):
            for name, value in row.items():
                data.columns[name][utterance] = value
    return data


def check_no_leak(splits: Mapping[str, DataDir], columns: Iterable[str]) -> dict[str, int]:
    """Values that occur in two splits.

    Args:
        splits: split name -> data.
        columns: `utt2spk` for speakers, `text` for sentences.

    Returns:
        "<column> <split>/<split>" -> number of shared values, where there are any.

    Raises:
        DataDirError: if a recording itself is in two splits.
    """
    shared = {}
    names = list(splits)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            for column in ("wav.scp", *columns):
                values = [set(splits[n].columns[column].values()) for n in (first, second)]
                common = (values[0] & values[1]) - {NO_VALUE}
                if common and column == "wav.scp":
                    raise DataDirError(
                        f"{len(common)} recordings are both in {first} and in {second}, such as "
                        f"{min(common)}; expected disjoint splits"
                    )
                if common:
                    shared[f"{column} {first}/{second}"] = len(common)
    return shared
