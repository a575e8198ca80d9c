# SPDX-License-Identifier: Apache-2.0
"""Stage 12: recognise and translate the utterances of a data directory."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from espnet_objsoup.bin.cli import main_guard, make_parser, positive_int, run_command
from espnet_objsoup.bin.data_options import add_cluster
from espnet_objsoup.data.cluster import read_cluster
from espnet_objsoup.data.cluster_jobs import client_starter
from espnet_objsoup.data.datadir import DataDir, read
from espnet_objsoup.decoding.jobs import decode_here, decode_in_jobs, visible_devices
from espnet_objsoup.decoding.options import DecodeOptions, InferenceError, read_train_config
from espnet_objsoup.decoding.output import LOGS
from espnet_objsoup.decoding.worker import Request, tasks_of

DTYPES = ("float32", "float64", "bfloat16", "float16")


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command."""
    parser = make_parser("decode", "Recognise and translate a data directory.")
    parser.add_argument("--train_config", type=Path, required=True, help="exp/T/config.yaml")
    parser.add_argument("--model_file", type=Path, required=True, help="exp/T/....pth")
    parser.add_argument("--data_dir", type=Path, required=True, help="dump directory")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument(
        "--config", type=Path, help="YAML: options of the search; nbest; ctc_greedy"
    )
    parser.add_argument(
        "--nbest", type=positive_int, help="hypotheses written per utterance; wins over the YAML"
    )
    parser.add_argument("--batch_size", type=positive_int, default=20, help="utterances at once")
    parser.add_argument("--nj", type=positive_int, default=1, help="processes, 1 GB each")
    parser.add_argument(
        "--ngpu", type=int, default=0, choices=(0, 1), help="GPUs per process; jobs take turns"
    )
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    add_cluster(parser)
    return parser


def selected(data: DataDir, train_config: Path, data_dir: Path) -> list[str]:
    """Utterances that belong to an objective of the model.

    Raises:
        InferenceError: if the data are not formatted, or there is none.
    """
    if "utt2num_samples" not in data.columns or "segments" in data.columns:
        raise InferenceError(
            f"{data_dir}: expected formatted audio, found "
            f"{'segments' if 'segments' in data.columns else 'no utt2num_samples'}; run stage 3"
        )
    objectives = read_train_config(train_config)["objectives"]
    keys = [key for key in data.utterances if tasks_of(data, key, objectives)]
    if not keys:
        languages = sorted(set(data.columns["utt2lang"].values()))
        raise InferenceError(
            f"{data_dir}: expected utterances of {', '.join(objectives)}, found none with a "
            f"reference (spoken languages: {', '.join(languages)}); check --data_dir and the model"
        )
    return keys


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = get_parser().parse_args(argv)

    def work() -> str:
        options = DecodeOptions.from_yaml(args.config, args.nbest)
        start_client = client_starter(args.cluster, args.output_dir / LOGS)
        data = read(args.data_dir)
        keys = selected(data, args.train_config, args.data_dir)
        if not args.model_file.is_file():
            raise InferenceError(
                f"{args.model_file}: expected weights, found no file; train first (stage 11) or "
                "correct --model_file"
            )
        # On a cluster it is the batch system that gives GPUs to jobs.
        devices = visible_devices() if args.ngpu and start_client is None else []
        request = Request(
            args.train_config, args.model_file, args.data_dir,
            options, args.batch_size, "cuda" if args.ngpu else "cpu", args.dtype,
        )  # fmt: skip
        n_jobs = min(args.nj, len(keys))
        if n_jobs == 1 and start_client is None:
            output = decode_here(request, data, keys, args.output_dir)
        else:
            output = decode_in_jobs(
                request, data, keys, args.output_dir, n_jobs, devices,
                start_client=start_client,
                threads=read_cluster(args.cluster).threads if args.cluster else None,
            )  # fmt: skip
        report = {
            "model_file": str(args.model_file),
            "nj": n_jobs,
            "device": request.device,
            "dtype": args.dtype,
            "batch_size": args.batch_size,
            "nbest": options.nbest,
            "ctc_greedy": options.ctc_greedy,
            **asdict(options.search),
        }
        output.write(args.output_dir, report)
        counts = ", ".join(f"{task} {count}" for task, count in output.counts.items())
        return (
            f"{args.output_dir}: hypotheses {counts}; real-time factor "
            f"{output.speed['rtf']:.4f}, {output.speed['utterances_per_second']:.1f} utterances/s"
        )

    return run_command(work)


if __name__ == "__main__":
    main_guard(main)
