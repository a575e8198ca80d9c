# SPDX-License-Identifier: Apache-2.0
"""ESPnet's ASR training (`espnet2.bin.asr_train`) with a choice of trainer."""

import sys
from collections.abc import Sequence

from espnet_objsoup.bin.cli import print_error
from espnet_objsoup.bin.train import is_users


def main(cmd: Sequence[str] | None = None) -> int:
    """Run ESPnet's ASR task; returns the exit status."""
    try:
        from espnet_objsoup.tasks.stock import SoupASRTask

        SoupASRTask.main(cmd=None if cmd is None else list(cmd))
    except (ValueError, OSError) as err:
        if not is_users(err):
            raise
        print_error(err)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
