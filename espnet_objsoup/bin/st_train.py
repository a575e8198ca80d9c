# SPDX-License-Identifier: Apache-2.0
"""ESPnet's ST training (`espnet2.bin.st_train`) with a choice of trainer."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from espnet_objsoup.bin.espnet_task import run_task

if TYPE_CHECKING:
    from espnet_objsoup.tasks.stock import SoupSTTask


def _task() -> type["SoupSTTask"]:
    from espnet_objsoup.tasks.stock import SoupSTTask

    return SoupSTTask


def main(cmd: Sequence[str] | None = None) -> int:
    """Run ESPnet's ST task; returns the exit status."""
    words = sys.argv[1:] if cmd is None else cmd
    return run_task("st_train", _task, lambda: words)


if __name__ == "__main__":
    sys.exit(main())
