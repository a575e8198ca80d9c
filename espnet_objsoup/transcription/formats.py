# SPDX-License-Identifier: Apache-2.0
"""Results as text, JSON lines and subtitles."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from espnet_objsoup.inference.results import Result
from espnet_objsoup.transcription.subtitles import Cue, Layout, make_cues

# Of terminals: tokens of a stranger's model may hold them. White space is dealt with elsewhere.
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")


class Format(ABC):
    """How results of one file are written.

    Attributes:
        suffix: of a file of its own.
        wants_words: word times make it better.
    """

    suffix: str
    wants_words = False

    @abstractmethod
    def render(self, name: str, results: Sequence[Result], one_of_many: bool) -> str:
        """All that is written of a file, with its last line feed.

        Args:
            name: of the file, as the user named it.
            results: best first; at least one.
            one_of_many: other files' results may stand beside it.
        """


class Text(Format):
    """The text; the name before it where there may be several, rank and score with n-best."""

    suffix = ".txt"

    def __init__(self, nbest: int = 1) -> None:
        self.with_scores = nbest > 1

    def render(self, name: str, results: Sequence[Result], one_of_many: bool) -> str:
        """One line per hypothesis, its columns separated by tabs."""
        lines = []
        for rank, result in enumerate(results, 1):
            columns = [name] if one_of_many else []
            if self.with_scores:
                columns += [str(rank), f"{result.score:.3f}"]
            lines.append("\t".join([*columns, _one_line(result.text)]) + "\n")
        return "".join(lines)


class JSONLines(Format):
    """One object per file."""

    suffix = ".jsonl"

    def __init__(self, nbest: int = 1) -> None:
        self.with_nbest = nbest > 1

    def render(self, name: str, results: Sequence[Result], one_of_many: bool) -> str:
        """Keys are the attributes of `Result`, after `path`; `nbest` has them of every rank."""
        # JSON is Unicode: of a name that is not, the bytes that do not fit are marked.
        path = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        record = {"path": path, **_fields(results[0])}
        if self.with_nbest:
            record["nbest"] = [
                {key: getattr(one, key) for key in ("text", "tokens", "score")} for one in results
            ]
        text = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
        # JSON has escaped the others, but the last.
        return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class SubRip(Format):
    """Subtitles of the best hypothesis, as `.srt`."""

    suffix = ".srt"
    wants_words = True

    def __init__(self, layout: Layout | None = None) -> None:
        self.layout = layout or Layout()

    def render(self, name: str, results: Sequence[Result], one_of_many: bool) -> str:
        """Numbered cues; nothing at all for silence."""
        blocks = [
            _cue(cue, ",", f"{number}\n")
            for number, cue in enumerate(make_cues(results[0], self.layout), 1)
        ]
        return "\n".join(blocks)


class WebVTT(Format):
    """Subtitles of the best hypothesis, as `.vtt`."""

    suffix = ".vtt"
    wants_words = True

    def __init__(self, layout: Layout | None = None) -> None:
        self.layout = layout or Layout()

    def render(self, name: str, results: Sequence[Result], one_of_many: bool) -> str:
        """A header and cues."""
        blocks = [_escaped(_cue(cue, ".")) for cue in make_cues(results[0], self.layout)]
        return "\n".join(["WEBVTT\n", *blocks])


def make_format(name: str, nbest: int, layout: Layout) -> Format:
    """Format of an option's value: `text`, `jsonl`, `srt` or `vtt`."""
    return {
        "text": lambda: Text(nbest),
        "jsonl": lambda: JSONLines(nbest),
        "srt": lambda: SubRip(layout),
        "vtt": lambda: WebVTT(layout),
    }[name]()


def timestamp(seconds: float, decimal_mark: str) -> str:
    """Hours, minutes, seconds and milliseconds, as subtitles have them."""
    milliseconds = round(max(seconds, 0.0) * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d}"
        f"{decimal_mark}{milliseconds % 1000:03d}"
    )


def _cue(cue: Cue, decimal_mark: str, head: str = "") -> str:
    times = " --> ".join(timestamp(at, decimal_mark) for at in (cue.start_s, cue.end_s))
    return f"{head}{times}\n" + "\n".join(_CONTROLS.sub("", line) for line in cue.lines) + "\n"


def _escaped(block: str) -> str:
    """A cue whose text holds no mark-up: `<`, `>` and `&` mean something in WebVTT."""
    times, _, text = block.partition("\n")
    for letter, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(letter, name)
    return f"{times}\n{text}"


def _one_line(text: str) -> str:
    return " ".join(_CONTROLS.sub("", text).split())


def _fields(result: Result) -> dict[str, Any]:
    fields = asdict(result)
    fields["segments"] = list(fields["segments"])
    if fields["words"] is None:
        del fields["words"]
    for key in ("audio_s", "seconds"):
        fields[key] = round(fields[key], 3)
    return fields
