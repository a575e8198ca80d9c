# SPDX-License-Identifier: Apache-2.0
"""Stage 12: recognise and translate the utterances of a data directory."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import soundfile
import yaml
from tqdm import tqdm

from espnet_objsoup.bin.cli import main_guard, make_parser, positive_int, run_command
from espnet_objsoup.data.datadir import NO_VALUE, DataDir, read, write_table

FILES = ("text", "token", "token_int", "score")


def get_parser() -> argparse.ArgumentParser:
    """Parser of this command."""
    parser = make_parser("decode", "Recognise and translate a data directory.")
    parser.add_argument("--train_config", type=Path, required=True, help="exp/T/config.yaml")
    parser.add_argument("--model_file", type=Path, required=True, help="exp/T/....pth")
    parser.add_argument("--data_dir", type=Path, required=True, help="dump directory")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--config", type=Path, help="YAML: options of the search; ctc_greedy")
    parser.add_argument("--batch_size", type=positive_int, default=20, help="utterances at once")
    parser.add_argument("--nj", type=positive_int, default=1, help="processes, 1 GB each")
    parser.add_argument("--ngpu", type=int, default=0, choices=(0, 1))
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--share", default=None, help=argparse.SUPPRESS)
    return parser


@dataclass
class Output:
    """Hypotheses by directory (`asr`, `st`, `asr_ctc`), file and utterance."""

    tables: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    audio_s: float = 0.0
    seconds: float = 0.0

    def add(self, directory: str, utterance: str, result: Any) -> None:
        """Add one hypothesis; an empty one is written as it is."""
        tables = self.tables.setdefault(directory, {name: {} for name in FILES})
        tables["text"][utterance] = result.text
        tables["token"][utterance] = " ".join(result.tokens)
        tables["token_int"][utterance] = " ".join(map(str, result.token_ids))
        tables["score"][utterance] = f"{result.score:.4f}"

    def merge(self, other: "Output") -> None:
        """Add all of another share; shares run side by side."""
        for directory, tables in other.tables.items():
            own = self.tables.setdefault(directory, {name: {} for name in FILES})
            for name, table in tables.items():
                own[name].update(table)
        self.audio_s += other.audio_s
        self.seconds = max(self.seconds, other.seconds)

    def write(self, directory: Path) -> None:
        """Write `<directory>/<task>/{text,token,token_int,score}`, whole or not at all."""
        temporary = directory.with_name(f".{directory.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        for task, tables in self.tables.items():
            (temporary / task).mkdir(parents=True)
            for name, table in tables.items():
                write_table(table, temporary / task / name)
        shutil.rmtree(directory, ignore_errors=True)
        os.replace(temporary, directory)


def labelled(data: DataDir, utterance: str, task: str) -> bool:
    """Whether the utterance has a reference for a task."""
    return data.columns["text" if task == "asr" else "st_text"][utterance] != NO_VALUE


def objective_of(data: DataDir, utterance: str, task: str) -> str:
    """Name of the objective that an utterance belongs to in a task."""
    lang = data.columns["utt2lang"][utterance]
    return f"asr/{lang}" if task == "asr" else f"st/{lang}-{data.columns['utt2tgt'][utterance]}"


def batches(data: DataDir, keys: Sequence[str], batch_size: int) -> Iterator[list[str]]:
    """Utterances of similar length together, longest first so that memory fails early."""
    samples = data.columns["utt2num_samples"]
    ordered = sorted(keys, key=lambda key: (-int(samples[key]), key))
    for i in range(0, len(ordered), batch_size):
        yield ordered[i : i + batch_size]


def decode(args: argparse.Namespace, data: DataDir, keys: Sequence[str]) -> Output:
    """Decode utterances in this process.

    Raises:
        ValueError: if the audio has another rate than the model's.
    """
    from espnet_objsoup.inference import SearchOptions, Speech2Text

    conf = read_config(args.config)
    ctc_greedy = conf.pop("ctc_greedy", False)
    speech2text = Speech2Text(
        args.train_config,
        args.model_file,
        device="cuda" if args.ngpu else "cpu",
        dtype=args.dtype,
        options=SearchOptions.from_dict(conf),
    )
    output = Output()
    start = time.monotonic()
    objectives = set(speech2text.model.objectives)
    with tqdm(total=len(keys), desc=f"decode {args.data_dir.name}", unit="utt") as progress:
        for batch in batches(data, keys, args.batch_size):
            speeches = []
            for key in batch:
                samples, rate = soundfile.read(data.columns["wav.scp"][key], dtype="float32")
                if rate != speech2text.sample_rate_hz:
                    raise ValueError(
                        f"{data.columns['wav.scp'][key]}: expected {speech2text.sample_rate_hz} "
                        f"Hz as in training, found {rate}; run stage 3 with the model's --fs"
                    )
                speeches.append(samples)
                output.audio_s += len(samples) / rate
            h, lengths = speech2text.encode(speeches)
            for task in speech2text.model.heads:
                rows = [
                    i
                    for i, key in enumerate(batch)
                    if labelled(data, key, task) and objective_of(data, key, task) in objectives
                ]
                if not rows:
                    continue
                langs = [data.columns["utt2lang"][batch[i]] for i in rows]
                targets = [data.columns["utt2tgt"][batch[i]] for i in rows]
                found = speech2text.search(h[rows], lengths[rows], task, langs, targets)
                for i, (best, *_) in zip(rows, found, strict=True):
                    output.add(task, batch[i], best)
                if ctc_greedy and speech2text.model.heads[task].ctc is not None:
                    greedy = speech2text.greedy_ctc(h[rows], lengths[rows], task)
                    for i, result in zip(rows, greedy, strict=True):
                        output.add(f"{task}_ctc", batch[i], result)
            progress.update(len(batch))
    output.seconds = time.monotonic() - start
    return output


def read_config(path: Path | None) -> dict[str, Any]:
    """Options of a YAML.

    Raises:
        ValueError: if it is not a mapping.
    """
    if path is None:
        return {}
    conf = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if not isinstance(conf, dict):
        raise ValueError(f"{path}: expected `option: value` lines, found {conf!r}")
    return conf


def decode_share(args: argparse.Namespace, data: DataDir) -> None:
    """Decode one share and leave it as JSON for the process that started this one."""
    share = Path(args.share)
    output = decode(args, data, json.loads(share.read_text(encoding="utf-8")))
    temporary = share.with_suffix(".tmp")
    temporary.write_text(json.dumps(vars(output)), encoding="utf-8")
    os.replace(temporary, share.with_suffix(".done"))


def decode_parallel(argv: Sequence[str], args: argparse.Namespace, keys: list[str]) -> Output:
    """Decode in `--nj` processes.

    Raises:
        RuntimeError: if one of them fails.
    """
    work = args.output_dir.with_name(f".{args.output_dir.name}.shares")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    processes = []
    for job in range(args.nj):
        share = work / f"{job}.json"
        share.write_text(json.dumps(keys[job :: args.nj]), encoding="utf-8")
        command = [sys.executable, "-m", "espnet_objsoup.bin.decode", *argv, "--share", str(share)]
        processes.append((share, subprocess.Popen(command, env=environment)))
    output = Output()
    failed = []
    for job, (share, process) in enumerate(processes):
        if process.wait() != 0:
            failed.append(f"{job} (exit status {process.returncode})")
        else:
            result = json.loads(share.with_suffix(".done").read_text(encoding="utf-8"))
            output.merge(Output(**result))
    if failed:
        raise RuntimeError(f"decoding processes failed: {', '.join(failed)}; see messages above")
    shutil.rmtree(work)
    return output


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    args = get_parser().parse_args(argv)

    def work() -> str:
        data = read(args.data_dir)
        if "utt2num_samples" not in data.columns:
            raise ValueError(f"{args.data_dir}: utt2num_samples not found; run stage 3 first")
        if args.share is not None:
            decode_share(args, data)
            return f"share {args.share}: done"
        keys = data.utterances
        args.nj = min(args.nj, len(keys))
        output = decode_parallel(argv, args, keys) if args.nj > 1 else decode(args, data, keys)
        if not output.tables:
            raise ValueError(
                f"{args.data_dir}: no utterance belongs to an objective of the model; check its "
                "languages and labels"
            )
        output.write(args.output_dir)
        counts = ", ".join(f"{task} {len(t['text'])}" for task, t in output.tables.items())
        factor = output.seconds / output.audio_s
        return f"{args.output_dir}: hypotheses {counts}; real-time factor {factor:.3f}"

    return run_command(work)


if __name__ == "__main__":
    main_guard(main)
