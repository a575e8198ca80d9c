# SPDX-License-Identifier: Apache-2.0
"""Stage 13: scores.json and RESULTS.md."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from espnet_objsoup.bin.cli import main_guard, make_parser, run_command, string_list
from espnet_objsoup.bin.data_options import true_or_false
from espnet_objsoup.data.files import write_bytes
from espnet_objsoup.data.text import POLICIES
from espnet_objsoup.evaluation.results import RunInfo, environment, render
from espnet_objsoup.evaluation.scores import score_split


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command."""
    parser = make_parser(
        "score", "Score the hypotheses of stage 12; write scores.json, RESULTS.md."
    )
    parser.add_argument("--decode_dir", type=Path, required=True, help="exp/T/decode_X")
    parser.add_argument("--dump_dir", type=Path, required=True, help="parent of the test sets")
    parser.add_argument("--test_sets", type=string_list, required=True, help='such as "test"')
    parser.add_argument("--exp_dir", type=Path, required=True, help="exp/T")
    parser.add_argument("--asr_text_policy", choices=POLICIES, default="lc.rm")
    parser.add_argument("--st_text_policy", choices=POLICIES, default="tc")
    parser.add_argument(
        "--cross_check",
        type=true_or_false,
        default=True,
        help="compare WER and CER with ESPnet's splet-measure (1 ms per utterance)",
    )
    parser.add_argument("--model_file", default="", help="for RESULTS.md")
    parser.add_argument("--command", default="", help="for RESULTS.md")
    parser.add_argument("--results_file", type=Path, help="also write RESULTS.md there")
    return parser


def seed_of(exp_dir: Path) -> str:
    """Seed of training, as config.yaml has it."""
    path = exp_dir / "config.yaml"
    if not path.exists():
        return "unknown"
    return str(yaml.safe_load(path.read_text(encoding="utf-8")).get("seed", "unknown"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = get_parser().parse_args(argv)

    def work() -> str:
        scores = {
            name: score_split(
                args.dump_dir / name,
                args.decode_dir / name,
                args.asr_text_policy,
                args.st_text_policy,
                args.cross_check,
            )
            for name in args.test_sets
        }
        info = RunInfo(
            experiment=args.exp_dir.name,
            command=args.command or "unknown",
            seed=seed_of(args.exp_dir),
            model_file=args.model_file or "unknown",
            decoding=args.decode_dir.name,
        )
        results = render(info, environment(Path(__file__).parent), scores)
        numbers = json.dumps(scores, indent=2, sort_keys=True) + "\n"
        write_bytes(args.exp_dir / "scores.json", numbers.encode())
        write_bytes(args.exp_dir / "RESULTS.md", results.encode())
        if args.results_file is not None:
            write_bytes(args.results_file, results.encode())
        print(results[results.index("\n## ", 12) :].strip())
        checked = "; error rates equal splet-measure's" if args.cross_check else ""
        return f"{args.exp_dir}: scores.json and RESULTS.md of {', '.join(args.test_sets)}{checked}"

    return run_command(work)


if __name__ == "__main__":
    main_guard(main)
