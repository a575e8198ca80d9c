# SPDX-License-Identifier: Apache-2.0
"""ESPnet's S2T training (`espnet2.bin.s2t_train`) with a choice of trainer."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from espnet_objsoup.bin.espnet_task import run_task

if TYPE_CHECKING:
    from espnet_objsoup.tasks.stock import SoupS2TTask


def _task() -> type["SoupS2TTask"]:
    from espnet_objsoup.tasks.stock import SoupS2TTask

    return SoupS2TTask


def main(cmd: Sequence[str] | None = None) -> int:
    """Run ESPnet's S2T task; returns the exit status."""
    words = sys.argv[1:] if cmd is None else cmd
    return run_task("s2t_train", _task, lambda: words)


if __name__ == "__main__":
    sys.exit(main())
