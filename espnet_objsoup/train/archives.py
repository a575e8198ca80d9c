# SPDX-License-Identifier: Apache-2.0
"""kaldiio, which ESPnet reads Kaldi archives with, made to run nothing.

An archive's entry may be a pickle, and a location in an scp file a command: kaldiio loads the one
and runs the other, whoever wrote the files.
"""

from types import SimpleNamespace
from typing import Any, NoReturn


def run_nothing() -> None:
    """From now on kaldiio refuses pickles and commands in this process and those that it forks."""
    import kaldiio.matio
    import kaldiio.utils

    kaldiio.matio.pickle = SimpleNamespace(load=_refuse_pickle, dump=kaldiio.matio.pickle.dump)
    kaldiio.utils.my_popen = _refuse_command


def _refuse_pickle(file: Any, **_: Any) -> NoReturn:
    where = f"{getattr(file, 'name', 'archive')}, before byte {file.tell()}"
    raise ValueError(
        f"{where}: expected audio or a matrix, found a pickle, which can run any program; make the "
        "archive again (stage 3)"
    )


def _refuse_command(command: bytes, *_: Any, **__: Any) -> NoReturn:
    shown = command.decode(errors="replace") if isinstance(command, bytes) else command
    raise ValueError(
        f"expected a file or an entry of an archive, found the command {shown!r}; format the audio "
        "(stage 3), with --allow_pipes true where you trust wav.scp"
    )
