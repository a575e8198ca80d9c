# SPDX-License-Identifier: Apache-2.0
"""Common Voice, release 4 and later: where a language lies, its tables, its clips.

Layout: `<root>/<language>/{validated,train,dev,test}.tsv` and `clips/*.mp3`; `<root>` is what an
archive unpacks to (`cv-corpus-*`), or the folder that contains that.
"""

import os
import stat
from collections import Counter
from pathlib import Path

from espnet_objsoup.data.languages import CORPUS_CODES
from espnet_objsoup.data.tables import DataDirError

SPLITS = ("train", "dev", "test")


def language_dirs(root: Path, lang: str) -> list[Path]:
    """Folders of a language that are there: beside the others, or in releases as they unpack."""
    code = CORPUS_CODES.get(lang, lang)
    paths = [root / code, *sorted(root.glob(f"cv-corpus-*/{code}"))]
    return [path for path in paths if path.is_dir()]


def language_dir(root: Path, lang: str) -> Path:
    """Folder of a language.

    Raises:
        DataDirError: if there is none, or one in each of several releases.
    """
    code = CORPUS_CODES.get(lang, lang)
    found = language_dirs(root, lang)
    if len(found) == 1:
        return found[0]
    if found:
        raise DataDirError(
            f"{root}: expected one folder of {code}, found {', '.join(map(str, found))}; name one "
            "release (COMMONVOICE, or --commonvoice)"
        )
    hint = "give the folder that contains the languages"
    if (root / "clips").exists():
        hint = "this looks like the folder of a language, give the one above"
    there = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    raise DataDirError(
        f"{root}: expected {code}/ or cv-corpus-*/{code}/ in it, found "
        f"{' '.join(there)[:200] or 'no folders'}; {hint}"
    )


def clip_name(path: str, where: str, repaired: Counter[str]) -> str:
    """Name of a clip without `.mp3`, which not all releases and tools write.

    Args:
        path: value of a column `path`.
        where: file and line, for messages.
        repaired: counts of what was mended.

    Raises:
        DataDirError: for a path that leads out of `clips/`, or an empty one.
    """
    name = path
    if "/" in path:
        parts = path.split("/")
        if parts[0] == "" or ".." in parts:
            raise DataDirError(
                f"{where}: expected the name of a file in clips/, found {path!r}, which leads "
                "elsewhere; get the file again"
            )
        name = parts[-1]
        repaired["paths with directories, of which the last part is used"] += 1
    name = name.removesuffix(".mp3")
    if not name or name.split() != [name]:
        raise DataDirError(
            f"{where}: expected the name of a file in clips/, found {path!r}; get the file again"
        )
    return name


class Clips:
    """The folder of a language's clips.

    Raises:
        DataDirError: if it cannot be read.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "clips"
        try:
            with os.scandir(self.directory) as entries:
                self.files = sum(1 for _ in entries)
        except OSError as err:
            raise DataDirError(
                f"{self.directory}: expected a folder with the clips, found that it cannot be read "
                f"({err.strerror}); unpack the archive there, or correct its rights"
            ) from err

    def path(self, name: str) -> str:
        """Path of a clip."""
        return f"{self.directory}/{name}.mp3"

    def fault(self, name: str) -> str:
        """Why a clip is not usable, as far as its size tells; empty if it is.

        Raises:
            DataDirError: if that cannot be found out.
        """
        # A call for each clip that is used: os.scandir, too, asks for every file's size by itself.
        try:
            status = os.stat(self.path(name))
        except FileNotFoundError:
            return "whose audio is missing"
        except OSError as err:
            raise DataDirError(
                f"{self.path(name)}: expected a file that can be read ({err.strerror}); correct "
                "the rights of the folder"
            ) from err
        if not stat.S_ISREG(status.st_mode):
            return "whose audio is no file"
        return "whose audio is empty" if status.st_size == 0 else ""
