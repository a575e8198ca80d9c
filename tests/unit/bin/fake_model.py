# SPDX-License-Identifier: Apache-2.0
"""A stand-in for Speech2Text that answers with the name of the file."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from espnet_objsoup.inference.results import FileResult, Result
from tests.unit.transcription.results import make_result


def make_model(directory: Path, objectives: list[str], **model_conf: Any) -> Path:
    """An experiment that can be found, but not loaded."""
    directory.mkdir(parents=True)
    conf = {"objectives": objectives, "token_list": ["a"], "model_conf": model_conf}
    (directory / "config.yaml").write_text(yaml.safe_dump(conf))
    (directory / "valid.loss.ave.pth").write_bytes(b"")
    return directory


class FakeSpeech2Text:
    """Hears `hello from <stem>`, fails for files named bad*.

    Args:
        before_each: called with each path.
    """

    def __init__(self, before_each: Callable[[Path], None] = lambda path: None) -> None:
        self.before_each = before_each
        self.asked: dict[str, Any] = {}

    def stream(self, files: Iterable[Path], **asked: Any) -> Iterator[FileResult]:
        self.asked = asked
        for path in files:
            self.before_each(path)
            if path.stem.startswith("bad"):
                yield FileResult(path, None, "expected audio, found none")
            else:
                yield FileResult(
                    path, [self._result(path, rank) for rank in range(asked["nbest"])], None
                )

    def _result(self, path: Path, rank: int) -> Result:
        text = f"hello from {path.stem}" + "!" * rank
        words = [(word, i + 0.0, i + 0.5) for i, word in enumerate(text.split())]
        return make_result(text, words=words if self.asked["word_times"] else None, audio_s=4.0)
