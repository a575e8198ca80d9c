# SPDX-License-Identifier: Apache-2.0
"""Options that transcribe and translate share, and what they mean together.

Little is imported, so that --help is immediate.
"""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_objsoup.bin.cli import positive_int
from espnet_objsoup.transcription.inputs import STDIN, UsageError

if TYPE_CHECKING:
    from espnet_objsoup.transcription.formats import Format

FORMATS = ("text", "jsonl", "srt", "vtt")

DTYPES = ("float32", "float64", "bfloat16", "float16")
_DEVICE = re.compile(r"cpu|cuda(:\d+)?|mps")
Arguments = argparse.ArgumentParser | argparse._ArgumentGroup
_EPILOG = """\
Files are what libsndfile reads (wav, flac, mp3, ogg, ...), of any sample rate and length. A folder
stands for the audio files in it. Results go to standard output, UTF-8; messages and the progress
bar go to standard error.

Exit status: 0 all done; 1 something failed, the rest is written; 2 wrong options; 130 Ctrl-C, what
was done until then is written."""


def device(value: str) -> str:
    """Type of --device.

    Raises:
        argparse.ArgumentTypeError: for anything that is no device's name.
    """
    if not _DEVICE.fullmatch(value):
        raise argparse.ArgumentTypeError(f"expected cpu, cuda or cuda:0, found {value!r}")
    return value


def make_user_parser(command: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """Parser of `objsoup <command>`."""
    return argparse.ArgumentParser(
        prog=f"objsoup {command}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def get_parser(command: str, description: str, target: bool) -> argparse.ArgumentParser:
    """Parser of a command on audio files.

    Args:
        command: its name.
        description: what it does.
        target: it translates.
    """
    example = f"objsoup {command} --model user/name --lang fr" + " --target_lang en" * target
    parser = make_user_parser(command, description, f"{_EPILOG}\n\nExample: {example} talk.mp3")
    inputs = parser.add_argument_group("input")
    inputs.add_argument(
        "files", nargs="*", metavar="FILE", help="audio file or folder; - reads audio from stdin"
    )
    inputs.add_argument(
        "--files_from", metavar="LIST", help="file with one path in a line; - is stdin"
    )
    inputs.add_argument("--recursive", action="store_true", help="folders with their folders")
    inputs.add_argument("--lang", help="spoken language; default: guessed by the model, per file")
    if target:
        inputs.add_argument(
            "--target_lang", help="language to translate into; default: the model's only one"
        )
    output = parser.add_argument_group("output")
    _add_output(output)
    if not target:  # words of a translation are said at no time
        output.add_argument("--word_times", action="store_true", help="times of words (jsonl)")
    parser.set_defaults(target_lang=None, word_times=False)
    model = parser.add_argument_group("model")
    add_model(model)
    model.add_argument(
        "--batch_size", type=positive_int, default=16, help="pieces of audio at once (default 16)"
    )
    return parser


def add_model(group: Arguments) -> None:
    """Options that say which model runs and how."""
    group.add_argument(
        "--model", required=True,
        help="packed model (.zip), directory of one, experiment (exp/T), or user/name of the hub",
    )  # fmt: skip
    group.add_argument(
        "--config", type=Path, metavar="YAML",
        help="options of the search (beam_size, ...), as of stage 12; default: the model's own",
    )  # fmt: skip
    group.add_argument(
        "--device", type=device, default="cpu", help="cpu (default), cuda, cuda:1 ..."
    )
    group.add_argument(
        "--dtype", choices=DTYPES, default="float32",
        help=f"of the encoder: {', '.join(DTYPES)} (default float32)", metavar="DTYPE",
    )  # fmt: skip
    group.add_argument(
        "--max_segment_s", type=float, metavar="S",
        help="longer audio is cut, in pauses if there are any; default: what the model is used to",
    )  # fmt: skip


def _add_output(group: Arguments) -> None:
    group.add_argument(
        "--format", choices=FORMATS, default="text", metavar="FORMAT",
        help=f"{', '.join(FORMATS)} (default text)",
    )  # fmt: skip
    group.add_argument(
        "--output", metavar="FILE|DIR/",
        help="default: stdout. A folder gets one file for each input",
    )  # fmt: skip
    group.add_argument(
        "--nbest", type=positive_int, default=1, metavar="N",
        help="hypotheses (text, jsonl; default 1)",
    )  # fmt: skip
    group.add_argument(
        "--line_width", type=positive_int, default=42, metavar="N",
        help="columns of a subtitle (default 42)",
    )  # fmt: skip
    group.add_argument(
        "--max_lines", type=positive_int, default=2, metavar="N",
        help="lines of a subtitle (default 2)",
    )  # fmt: skip


def check(args: argparse.Namespace) -> "Format":
    """See that options make sense together; returns the format that they ask for.

    Raises:
        UsageError: saying which do not.
    """
    if not args.files and args.files_from is None:
        raise UsageError("expected audio files or folders, found none; - reads standard input")
    if STDIN in args.files and args.files_from == STDIN:
        raise UsageError("expected one use of standard input, found `-` and `--files_from -`")
    if args.nbest > 1 and args.format in ("srt", "vtt"):
        raise UsageError(
            f"--nbest {args.nbest}: expected 1 with --format {args.format}, whose subtitles show "
            "the best hypothesis; use text or jsonl"
        )
    if args.word_times and args.format == "text":
        raise UsageError("--word_times: expected --format jsonl (srt and vtt use them unasked)")
    # Half a second, of which --help has no need.
    from espnet_objsoup.transcription.formats import make_format
    from espnet_objsoup.transcription.subtitles import Layout

    return make_format(args.format, args.nbest, Layout(args.line_width, args.max_lines))
