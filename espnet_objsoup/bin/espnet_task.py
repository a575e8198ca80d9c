# SPDX-License-Identifier: Apache-2.0
"""What the training commands share: running a task of ESPnet's, and whose error an error is."""

import argparse
import inspect
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_objsoup.bin.cli import print_error

if TYPE_CHECKING:
    from espnet2.tasks.abs_task import AbsTask

# Where an error is a check of what the user gave: our package, and the place where ESPnet looks up
# the names of encoders, optimisers and so on.
CHECKS = (str(Path(__file__).resolve().parents[1]), "espnet2/train/class_choices.py")
_UNEXPECTED = re.compile(
    r"(?P<function>[\w.<>]+)\(\) got an unexpected keyword argument '(?P<key>\w+)'"
)


def run_task(
    command: str,
    load: Callable[[], type["AbsTask"]],
    words: Callable[[], Sequence[str]],
    add_help: Callable[[argparse.ArgumentParser], None] | None = None,
) -> int:
    """Run a task of ESPnet's.

    Args:
        command: module of the command, for its usage.
        load: imports the task, which takes seconds.
        words: makes ESPnet's command line; called first.
        add_help: adds options to the help that `words` has taken already.

    Returns:
        Exit status: 0, or 1 after an error that the user can mend, printed without a traceback.
    """
    task = args = None
    try:
        line = list(words())
        task = load()
        parser = task.get_parser()
        # ESPnet's usage is some two hundred lines before the one that matters.
        parser.usage = f"python -m espnet_objsoup.bin.{command} [--option value] ... (see --help)"
        if add_help is not None and {"-h", "--help"} & set(line):
            add_help(parser)
        args = parser.parse_args(line)
        _check_gpus(args)
        task.main(args=args)
    except (ValueError, OSError, NotImplementedError) as err:
        if not is_users(err):
            raise
        print_error(err)
        return 1
    except RuntimeError as err:
        # ESPnet's refusal of weights (--init_param) that are more than tensors says what to do.
        if type(err).__name__ != "UnsafeLoadRefusedError":
            raise
        print_error(err)
        return 1
    except TypeError as err:
        message = None if task is None or args is None else unknown_key(err, task, args)
        if message is None:
            raise
        print_error(ValueError(message))
        return 1
    except Exception as err:
        # One of several processes that ESPnet has started has ended; it has said why itself.
        if type(err).__name__ != "ProcessExitedException":
            raise
        print_error(
            RuntimeError(f"training: {err}; what it says stands above, if it was not killed")
        )
        return 1
    return 0


def is_users(err: Exception) -> bool:
    """Whether an error says what the user gave wrong; any other needs its traceback.

    ESPnet and PyTorch raise ValueError for both; the line that raised decides. A check is a `raise`
    with a message in our package (or ESPnet's look-up of names), or a file that our package could
    not open.
    """
    frames = traceback.extract_tb(err.__traceback__)
    frames = [frame for frame in frames if "pathlib" not in frame.filename]
    if not frames or not any(place in frames[-1].filename for place in CHECKS):
        return False
    raised = (frames[-1].line or "").startswith("raise") and str(err) != ""
    return isinstance(err, OSError) or (
        isinstance(err, ValueError | NotImplementedError) and raised
    )


def unknown_key(err: TypeError, task: type["AbsTask"], args: argparse.Namespace) -> str | None:
    """What is wrong with `<name>_conf` if its class refused one of its keys; None for other errors.

    Only a refusal by the very class that the options name, of a key that they hold, is the user's.
    """
    found = _UNEXPECTED.match(str(err))
    if found is None:
        return None
    for name, built in _configured_classes(task, args):
        conf = getattr(args, f"{name}_conf", None) or {}
        if found["key"] in conf and built.__init__.__qualname__ == found["function"]:
            parameters = inspect.signature(built).parameters.values()
            # Those without default are given by the task.
            known = [p.name for p in parameters if p.default is not p.empty]
            return (
                f"{name}_conf: unknown key {found['key']} for {name}: {getattr(args, name, name)}; "
                f"known keys: {', '.join(known)}"
            )
    return None


def _configured_classes(
    task: type["AbsTask"], args: argparse.Namespace
) -> Iterator[tuple[str, type]]:
    from espnet2.asr.ctc import CTC
    from espnet2.tasks.abs_task import optim_classes, scheduler_classes

    for choices in task.class_choices_list:
        if getattr(args, choices.name, None) is not None:
            yield choices.name, choices.get_class(getattr(args, choices.name))
    for name, classes in (("optim", optim_classes), ("scheduler", scheduler_classes)):
        if getattr(args, name, None) in classes:
            yield name, classes[getattr(args, name)]
    yield "ctc", CTC


def _check_gpus(args: argparse.Namespace) -> None:
    import torch

    if (args.ngpu or 0) > 0 and torch.cuda.device_count() == 0:
        raise ValueError(
            f"ngpu: expected a GPU that PyTorch can use, found none for --ngpu {args.ngpu}; use "
            "--ngpu 0 for the CPU, or look at nvidia-smi, CUDA_VISIBLE_DEVICES and the build of "
            "PyTorch"
        )
