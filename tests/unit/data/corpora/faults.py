# SPDX-License-Identifier: Apache-2.0
"""What tables of faults have in common: names of remarks, and what is looked at after a fault."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from espnet_objsoup.data import datadir
from espnet_objsoup.data.audio import AudioFormat, format_audio
from espnet_objsoup.data.datadir import DataDirError

# Damages the corpus in a folder.
Fault = Callable[[Path], object]
FOREIGN = "left out: files and folders that are not the corpus'"
NO_LINE = "without transcript: recordings that no transcript mentions"
NO_AUDIO = "left out: lines of transcripts without a recording"

_PAGE = Path(__file__).parents[4] / "docs" / "data_format.md"


def documented(corpus: str) -> set[str]:
    """Names of the faults that the page lists for a corpus."""
    text = _PAGE.read_text("utf-8").partition(f"## Faults in {corpus}")[2]
    return set(re.findall(r"^\| (.+?) \| \w", text.partition("\n## ")[0], re.MULTILINE))


def check_texts(prepared: Path, whole: Path) -> None:
    """That no utterance of the training data has another text than without the fault."""
    expected = datadir.read(whole / "train").columns["text"]
    for utterance, text in datadir.read(prepared / "train").columns["text"].items():
        assert text in (expected[utterance], "<na>")


def check_refused_in_stage_3(prepared: Path, message: str) -> None:
    """That stage 3 lists the audio that it cannot use; `message` is a pattern."""
    data = datadir.read(prepared / "train")
    with pytest.raises(DataDirError, match=message):
        format_audio(data, prepared.parent / "dump", AudioFormat(), 1)
