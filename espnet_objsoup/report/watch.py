# SPDX-License-Identifier: Apache-2.0
"""Writing a page once, or again whenever training has written more."""

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from espnet_objsoup.data.files import write_bytes
from espnet_objsoup.report.page import Report, make_report
from espnet_objsoup.report.soup_history import FILE_NAME

_SOURCES = ("config.yaml", FILE_NAME, "scores.json", "tensorboard/*/events.*")


def write_report(report: Report, output: Path) -> str:
    """Write a page and its figures, every file whole or not at all.

    Returns:
        What was written, in words.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(output, report.html.encode("utf-8"))
    if not report.figures:
        return str(output)
    directory = output.with_name(f"{output.stem}_figures")
    directory.mkdir(exist_ok=True)
    for name, content in report.figures.items():
        write_bytes(directory / name, content)
    return f"{output} and {len(report.figures)} figures in {directory}"


def watch(
    directories: Sequence[Path], output: Path, forms: Sequence[str], interval_s: float
) -> None:
    """Write the page again whenever something has changed, until SIGINT.

    The page loads itself again while this goes on, and no longer after it.

    Raises:
        ValueError: if the first page cannot be made. What goes wrong later is printed, as training
            may be about to write the file in question again.
    """
    report, before, told = None, None, ""
    with _interrupts():
        try:
            _wait_for_training(directories, interval_s)
            while True:
                now = _fingerprint(directories)
                if now != before:
                    try:
                        report = make_report(directories, forms, interval_s)
                        made = write_report(report, output)
                        print(f"{time.strftime('%H:%M:%S')} {made}", flush=True)
                        told = ""
                    except ValueError as err:
                        if report is None:
                            raise
                        if str(err) != told:
                            told = str(err)
                            print(f"not written again: {err}", file=sys.stderr, flush=True)
                    before = now
                time.sleep(interval_s)
        except KeyboardInterrupt:
            if report is not None:
                write_bytes(output, report.at_rest.encode("utf-8"))


def _wait_for_training(directories: Sequence[Path], interval_s: float) -> None:
    """Until experiments that are there, but have only just begun, have a configuration."""
    begun = [path / "config.yaml" for path in directories if path.is_dir()]
    missing = [path for path in begun if not path.exists()]
    if missing:
        names = ", ".join(map(str, missing))
        print(f"waiting for {names}, which training writes first; Ctrl-C ends it", flush=True)
    while not all(path.exists() for path in missing):
        time.sleep(interval_s)


def _fingerprint(directories: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Names, sizes and times of all that the page is made from."""
    found = []
    for directory in directories:
        for pattern in _SOURCES:
            for path in sorted(directory.glob(pattern)):
                with suppress(FileNotFoundError):  # moved aside meanwhile
                    status = path.stat()
                    found.append((str(path), status.st_size, status.st_mtime_ns))
    return found


@contextmanager
def _interrupts() -> Iterator[None]:
    """Hear SIGINT also where a shell had it ignored, as it does for commands in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
