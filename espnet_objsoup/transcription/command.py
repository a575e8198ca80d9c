# SPDX-License-Identifier: Apache-2.0
"""What `objsoup transcribe` and `objsoup translate` do."""

import argparse
import logging
import os
import signal
import sys
from pathlib import Path

from espnet_objsoup.bin.cli import print_error
from espnet_objsoup.transcription.arguments import check
from espnet_objsoup.transcription.formats import Format
from espnet_objsoup.transcription.inputs import (
    Inputs,
    UsageError,
    check_unique,
    find_inputs,
    read_list,
    stdin_audio,
)
from espnet_objsoup.transcription.model import choose_model
from espnet_objsoup.transcription.outputs import (
    check_writable,
    is_directory,
    to_directory,
    to_file,
    to_stdout,
)
from espnet_objsoup.transcription.run import Outcome, Request, run


def main(parser: argparse.ArgumentParser, args: argparse.Namespace, task: str) -> int:
    """Run a command; returns the exit status.

    Args:
        parser: tells of usage errors.
        args: parsed by it.
        task: `asr` or `st`.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s")
    try:
        return _main(args, task, check(args))
    except UsageError as err:
        parser.error(str(err))
    except BrokenPipeError:
        # Whoever read the output has seen enough (`| head`). Nothing more is written, also not by
        # the interpreter when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        print("interrupted before the first result", file=sys.stderr)
        return 128 + signal.SIGINT
    except (ValueError, OSError, RuntimeError) as err:
        print_error(err)
        return 1


def _main(args: argparse.Namespace, task: str, form: Format) -> int:
    names = [*args.files, *([] if args.files_from is None else read_list(args.files_from))]
    with stdin_audio(args.files) as stdin_path:
        inputs = find_inputs(names, args.recursive, stdin_path)
        for name, reason in inputs.missing.items():
            print_error(ValueError(f"{name}: {reason}"))
        if not inputs.files:
            if not inputs.missing:
                raise ValueError(f"--files_from {args.files_from}: expected paths, found none")
            return 1
        return _report(_transcribe(args, task, form, inputs), inputs)


def _transcribe(args: argparse.Namespace, task: str, form: Format, inputs: Inputs) -> Outcome:
    several = len(inputs.files) > 1 or inputs.has_folder or args.files_from is not None
    directory = is_directory(args.output, form, several)
    if directory:
        check_unique(inputs.files)
    choice = choose_model(args)
    choice.check(task, args.lang, args.target_lang, args.nbest, args.word_times)
    if args.output is None:
        output = to_stdout(form, several)
    else:
        check_writable(args.output, directory, inputs.files)
        target = Path(args.output)
        output = to_directory(target, form) if directory else to_file(target, form, several)
    request = Request(
        task, args.lang, args.target_lang, args.nbest, args.batch_size,
        # Without CTC, subtitles are divided by estimated times; asked for, they have to be known.
        word_times=args.word_times or (form.wants_words and task == "asr" and choice.has_ctc),
    )  # fmt: skip
    return run(choice.load(), request, inputs.files, output)


def _report(outcome: Outcome, inputs: Inputs) -> int:
    """Say on standard error how it went; returns the exit status."""
    print(outcome.summary(), file=sys.stderr)
    failed = {**inputs.missing, **outcome.failed}
    if failed:
        print(f"{len(failed)} failed:", file=sys.stderr)
        for name, reason in failed.items():
            print(f"  {name}: {reason}", file=sys.stderr)
    if outcome.interrupted:
        print("interrupted; what was done until then is written", file=sys.stderr)
        return 128 + signal.SIGINT
    return 1 if failed else 0
