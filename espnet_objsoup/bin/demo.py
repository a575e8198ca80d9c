# SPDX-License-Identifier: Apache-2.0
"""A page in the browser where a model can be tried."""

import argparse
import signal
from collections.abc import Sequence

from espnet_objsoup.bin.cli import main_guard, positive_int, print_error
from espnet_objsoup.transcription.arguments import add_model, make_user_parser

_LARGEST_PORT = 65535
_EPILOG = """\
Needs Gradio: pip install 'espnet-objsoup[demo]'. Nothing is sent anywhere: the page, its fonts and
scripts come from this machine. What is uploaded or recorded is deleted at the end. To everybody who
reaches another --host than the default the page is open; browsers give the microphone only to pages
of this machine (127.0.0.1, also through `ssh -L 7860:127.0.0.1:7860`) or of https.

Example: objsoup demo --model exp/T"""


def port(value: str) -> int:
    """Type of --port.

    Raises:
        argparse.ArgumentTypeError: for no number of a port.
    """
    number = positive_int(value)
    if number > _LARGEST_PORT:
        raise argparse.ArgumentTypeError(f"expected at most {_LARGEST_PORT}, found {value}")
    return number


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command."""
    parser = make_user_parser(
        "demo", "Try a model in the browser: record or upload, see text, scores, times.", _EPILOG
    )
    add_model(parser)
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at (default 127.0.0.1: this machine)"
    )
    parser.add_argument("--port", type=port, default=7860, help="default 7860")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command until Ctrl-C; returns the exit status."""
    args = get_parser().parse_args(argv)
    from espnet_objsoup.demo.serve import check_address, check_installed, model_title, serve
    from espnet_objsoup.transcription.model import choose_model

    try:
        check_installed()
        check_address(args.host, args.port)
        serve(choose_model(args), model_title(args.model), args.host, args.port)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except (ValueError, OSError, RuntimeError) as err:
        print_error(err)
        return 1
    return 0


if __name__ == "__main__":
    main_guard(main)
