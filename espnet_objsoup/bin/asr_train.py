# SPDX-License-Identifier: Apache-2.0
"""ESPnet's ASR training (`espnet2.bin.asr_train`) with a choice of trainer."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from espnet_objsoup.bin.espnet_task import run_task

if TYPE_CHECKING:
    from espnet_objsoup.tasks.stock import SoupASRTask


def _task() -> type["SoupASRTask"]:
    from espnet_objsoup.tasks.stock import SoupASRTask

    return SoupASRTask


def main(cmd: Sequence[str] | None = None) -> int:
    """Run ESPnet's ASR task; returns the exit status."""
    words = sys.argv[1:] if cmd is None else cmd
    return run_task("asr_train", _task, lambda: words)


if __name__ == "__main__":
    sys.exit(main())
