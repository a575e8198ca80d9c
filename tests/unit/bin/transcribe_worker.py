# SPDX-License-Identifier: Apache-2.0
"""`objsoup transcribe` in a process of its own, with a fake model that is slow: ARGUMENTS..."""

import signal
import sys
import time
from pathlib import Path

from espnet_objsoup.bin import objsoup
from espnet_objsoup.transcription.model import ModelChoice

from .fake_model import FakeSpeech2Text


def load(choice: ModelChoice) -> FakeSpeech2Text:
    return FakeSpeech2Text(before_each=wait)


def wait(path: Path) -> None:
    if path.stem == "slow":
        time.sleep(1000)


if __name__ == "__main__":
    # A shell's background processes ignore Ctrl-C, and so do their children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ModelChoice.load = load
    sys.exit(objsoup.main(sys.argv[1:]))
