# SPDX-License-Identifier: Apache-2.0
"""Where transcripts go: standard output, one file, or a file for each input.

A file that stands there is whole: it holds either the former content or all results so far. After
Ctrl-C that is what was done until then.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from espnet_objsoup.data.files import replacing, write_bytes
from espnet_objsoup.inference.results import Result
from espnet_objsoup.transcription.formats import Format
from espnet_objsoup.transcription.inputs import AudioInput, UsageError

Write = Callable[[AudioInput, Sequence[Result]], None]


def is_directory(output: str | None, form: Format, several: bool) -> bool:
    """Whether an output holds a file for each input.

    Args:
        output: `--output`; None is standard output.
        form: a file of subtitles is of one recording.
        several: there is more than one input, or there may be.

    Raises:
        UsageError: if results cannot stand together.
    """
    one_each = several and form.suffix in (".srt", ".vtt")
    if output is None:
        if one_each:
            raise UsageError(
                f"expected a folder for the subtitles of several files ({form.suffix}), found no "
                "--output; add --output FOLDER/"
            )
        return False
    if one_each and Path(output).is_file():
        raise UsageError(
            f"--output {output}: expected a folder for the subtitles of several files, found a "
            "file; choose another name"
        )
    return one_each or output.endswith("/") or Path(output).is_dir()


def check_writable(output: str, directory: bool, files: Sequence[AudioInput]) -> None:
    """See before a model is loaded that an output can be written.

    Raises:
        OSError: naming what stands in the way.
        UsageError: if it is one of the inputs.
    """
    path = Path(output)
    if path.is_file() and any(path.samefile(file.path) for file in files):
        raise UsageError(
            f"--output {output}: expected another file than those to be read; the option takes "
            "the name of the output"
        )
    if directory:
        path.mkdir(parents=True, exist_ok=True)
    elif not path.parent.is_dir():
        raise FileNotFoundError(
            f"--output {output}: expected an existing folder, found no {path.parent}; make it first"
        )


def encode(text: str) -> bytes:
    """UTF-8 whatever the locale is; a name that is not UTF-8 keeps its bytes."""
    return text.encode("utf-8", "surrogateescape")


@contextmanager
def to_stdout(form: Format, one_of_many: bool) -> Iterator[Write]:
    """Write results to standard output, each as soon as it is there."""

    def write(file: AudioInput, results: Sequence[Result]) -> None:
        sys.stdout.buffer.write(encode(form.render(file.name, results, one_of_many)))
        sys.stdout.buffer.flush()

    yield write


@contextmanager
def to_file(target: Path, form: Format, one_of_many: bool) -> Iterator[Write]:
    """Write results to one file, which appears when the block ends.

    A KeyboardInterrupt has to be handled within the block, if what was written is to be kept. No
    file is made where there is no result at all.
    """
    with ExitStack() as stack:
        temporary: list[Path] = []

        def write(file: AudioInput, results: Sequence[Result]) -> None:
            if not temporary:
                temporary.append(stack.enter_context(replacing(target)))
                temporary[0].write_bytes(b"")
            with open(temporary[0], "ab") as stream:
                stream.write(encode(form.render(file.name, results, one_of_many)))

        yield write


@contextmanager
def to_directory(directory: Path, form: Format) -> Iterator[Write]:
    """Write a file for each input, with the folders that it lay in."""

    def write(file: AudioInput, results: Sequence[Result]) -> None:
        target = directory / file.relative.with_name(file.relative.name + form.suffix)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, encode(form.render(file.name, results, False)))

    yield write
