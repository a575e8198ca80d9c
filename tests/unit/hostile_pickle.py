# SPDX-License-Identifier: Apache-2.0
"""What a pickle of a stranger may do, seen by a directory that it makes."""

import os
from pathlib import Path


class MakesDirectory:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)
