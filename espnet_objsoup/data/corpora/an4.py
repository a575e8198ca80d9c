# SPDX-License-Identifier: Apache-2.0
"""AN4 (Carnegie Mellon's alphanumeric database), as ESPnet ships seven utterances of it.

Layout: `an4/etc/an4_{train,test}.{fileids,transcription}` and `an4/wav/<fileid>.sph`; the
transcription lines are `<s> WORDS </s> (utterance)`.
"""

import re
import tarfile
from pathlib import Path

from espnet_objsoup.data.corpora.rows import Utterance, to_data_dir
from espnet_objsoup.data.datadir import DataDir, DataDirError
from espnet_objsoup.data.text import normalise_asr_text

_LINE = re.compile(r"(?:<s>)?\s*(?P<words>.*?)\s*(?:</s>)?\s*\((?P<utterance>\S+)\)")


def unpack(archive: Path, directory: Path) -> Path:
    """Unpack `downloads.tar.gz`; returns the directory `an4` in it.

    Members outside `directory`, links and devices are refused by the archive filter.

    Raises:
        DataDirError: if the archive has no AN4.
    """
    with tarfile.open(archive) as tar:
        tar.extractall(directory, filter="data")
    found = sorted(directory.glob("**/etc/an4_train.fileids"))
    if not found:
        raise DataDirError(f"{archive}: expected an4/etc/an4_train.fileids in it, found none")
    return found[0].parent.parent


def prepare(root: Path) -> dict[str, DataDir]:
    """`train` and `test` as the corpus defines them.

    Raises:
        DataDirError: for a file id without transcript or audio.
    """
    return {split: to_data_dir(_read(root, split)) for split in ("train", "test")}


def _read(root: Path, split: str) -> list[Utterance]:
    ids_path = root / "etc" / f"an4_{split}.fileids"
    text_path = root / "etc" / f"an4_{split}.transcription"
    texts = {}
    for number, line in enumerate(text_path.read_text(encoding="utf-8").splitlines(), 1):
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise DataDirError(
                f"{text_path}:{number}: expected `<s> WORDS </s> (id)`, found {line!r}"
            )
        texts[match["utterance"]] = normalise_asr_text(match["words"], "en")
    utterances = []
    for number, line in enumerate(ids_path.read_text(encoding="utf-8").splitlines(), 1):
        audio = root / "wav" / f"{line.strip()}.sph"
        if audio.stem not in texts or not audio.exists():
            missing = "transcript" if audio.exists() else f"audio ({audio})"
            raise DataDirError(f"{ids_path}:{number}: no {missing} for {line.strip()}")
        utterances.append(
            Utterance(audio.stem, audio.parent.name, str(audio), "en", texts[audio.stem])
        )
    return utterances
