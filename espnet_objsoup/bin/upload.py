# SPDX-License-Identifier: Apache-2.0
"""Stage 15: show what would go to the Hugging Face hub, or send it."""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from espnet_objsoup.bin.cli import main_guard, make_parser, run_command
from espnet_objsoup.bin.data_options import true_or_false
from espnet_objsoup.data.files import write_bytes
from espnet_objsoup.zoo.errors import ModelError


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command."""
    parser = make_parser(
        "upload",
        "Show what of a packed model would go to the Hugging Face hub; --hf_upload true sends it. "
        "The token is that of 'hf auth login', or HF_TOKEN.",
    )
    parser.add_argument("--packed", type=Path, required=True, help="exp/T.zip of stage 14")
    parser.add_argument("--hf_repo", required=True, metavar="USER/NAME", help="repository")
    switches = {
        "--hf_upload": "send it; without this nothing leaves this machine",
        "--hf_private": "a new repository can be read by its owner only",
        "--hf_replace": "put it in the place of another model that the repository holds",
    }
    for option, meaning in switches.items():
        parser.add_argument(
            option, type=true_or_false, default=False, metavar="true|false", help=meaning
        )
    parser.add_argument("--folder", type=Path, help="keep what would go there, to look at")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = get_parser()
    args = parser.parse_args(argv)
    # Imported when the options are read: the hub's client takes half a second.
    from espnet_objsoup.zoo.hub_client import HubError, check_repository

    try:
        check_repository(args.hf_repo)
    except HubError as err:
        parser.error(str(err))
    return run_command(lambda: upload(args))


def upload(args: argparse.Namespace) -> str:
    """Do what the options say; returns what was made, in words.

    Raises:
        ModelError: if it cannot be done.
    """
    if args.folder is not None:
        if args.folder.exists() and any(args.folder.iterdir()):
            raise ModelError(f"--folder: expected a new or empty directory, found {args.folder}")
        return _upload(args, args.folder)
    if not args.packed.is_file():
        raise ModelError(f"--packed: expected an archive of stage 14, found none at {args.packed}")
    # Beside the archive, where there was room for the weights before.
    temporary = Path(tempfile.mkdtemp(prefix=".upload-", dir=args.packed.absolute().parent))
    try:
        return _upload(args, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _upload(args: argparse.Namespace, folder: Path) -> str:
    from huggingface_hub.utils import disable_progress_bars

    from espnet_objsoup.zoo.archive import unpack
    from espnet_objsoup.zoo.upload import make_plan, push, show
    from espnet_objsoup.zoo.zoo_table import table_entry, table_lines

    unpack(args.packed, folder)
    plan = make_plan(folder, args.hf_repo, args.hf_private)
    print(show(plan))
    packed_for = plan.meta.facts.get("hf_repo")
    if packed_for != plan.repository:
        print(
            f"warning: the model card names {packed_for or 'no repository'}; pack with --hf_repo "
            f"{plan.repository} for one that tells how to get the model from there",
            file=sys.stderr,
        )
    entry = table_entry(plan.meta, plan.repository)
    if not entry["corpus"]:
        print(
            "warning: the model does not say what it was trained on, so that nobody finds it in "
            "the ESPnet model zoo by its corpus; pack with --corpus or --recipe",
            file=sys.stderr,
        )
    lines = table_lines(entry)
    table = args.packed.with_name(f"{args.packed.stem}.table.csv")
    write_bytes(table, lines.encode())
    print(f"line for the ESPnet model zoo's table.csv (also in {table}):\n{lines.splitlines()[1]}")
    if not args.hf_upload:
        return "nothing was sent; --hf_upload true sends it"
    if not sys.stderr.isatty():
        disable_progress_bars()
    pushed = push(plan, args.hf_replace)
    if not pushed.created:
        for path in pushed.sent:
            print(f"sent     {path}")
    for path in pushed.deleted:
        print(f"deleted  {path}")
    new = "new repository, " if pushed.created else ""
    others = "" if len(pushed.sent) == len(plan.files) else ", the others were there"
    sent = f"{len(pushed.sent)} of {len(plan.files)} files sent{others}"
    return f"{pushed.url}: {new}{sent}; commit {pushed.commit}"


if __name__ == "__main__":
    main_guard(main)
