#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Speed of translation: this package against ESPnet's own st_inference, on an equal model.

One encoder and one decoder are built with random weights and stored twice, as a model of this
package and as an ESPnetSTModel. Both decode the same utterances with the same beam:

    espnet            Speech2Text of espnet2.bin.st_inference, one utterance at a time, which is all
                      that it can do
    objsoup, batch 1  the search of this package, one utterance at a time
    objsoup, batch N  the search of this package, N at a time, its default

The runs are interleaved; the table has medians, also of the ratio within a repetition. What makes
the outputs comparable: ESPnet's search is given the prompt that this package uses
(`<sos/eos> <lang> <tgt>`, by its own `set_hyp_primer`); special symbols, which only this package
rules out, and the end of the sentence are made improbable in the common weights, so that both
always search the same number of steps, `--maxlenratio` tokens per frame.

    tools/venv/bin/python tools/benchmarks/decode.py --json decode.json
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import yaml
from espnet2.bin.st_inference import Speech2Text as ESPnetSpeech2Text
from espnet2.tasks.st import STTask

from espnet_objsoup.data import datadir
from espnet_objsoup.data.audio_io import read_audio
from espnet_objsoup.data.corpora.rows import Utterance, to_data_dir
from espnet_objsoup.evaluation.results import commit, machine
from espnet_objsoup.inference import SearchOptions, Speech2Text
from espnet_objsoup.tasks.objsoup import ObjSoupTask

LANG, TARGET = "fr", "en"
RATE_HZ = 16000
Outputs = list[tuple[list[int], float]]


def get_parser() -> argparse.ArgumentParser:
    """Parser of this benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", type=Path, help="dump directory; default: synthetic noise")
    parser.add_argument("--utterances", type=int, default=60, help="default %(default)s")
    parser.add_argument("--config", type=Path, help="training YAML with the sizes of the model")
    parser.add_argument("--vocabulary", type=int, default=250, help="tokens, default %(default)s")
    parser.add_argument("--beam_size", type=int, default=5, help="default %(default)s")
    parser.add_argument("--maxlenratio", type=float, default=0.3, help="default %(default)s")
    parser.add_argument("--batch_size", type=int, default=20, help="default %(default)s")
    parser.add_argument("--repetitions", type=int, default=3, help="default %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="of torch, default %(default)s")
    parser.add_argument("--device", default="cpu", help="default %(default)s")
    parser.add_argument(
        "--command_repetitions",
        type=int,
        default=0,
        help="also time both commands, imports included, so often; default %(default)s",
    )
    parser.add_argument("--json", type=Path, help="write all figures there")
    return parser


def sizes(path: Path | None) -> dict[str, Any]:
    """Frontend, encoder and decoder of a training YAML; default: the mini recipe's."""
    root = Path(__file__).parents[2]
    path = path or root / "egs2" / "mini_objsoup" / "conf" / "train.yaml"
    conf = yaml.safe_load(path.read_text(encoding="utf-8"))
    names = ("frontend", "frontend_conf", "encoder", "encoder_conf")
    return {
        **{name: conf[name] for name in names},
        "decoder": conf["st_decoder"],
        "decoder_conf": conf["st_decoder_conf"],
        "init": "xavier_uniform",
        "normalize": "utterance_mvn",
        "specaug": None,
        "token_type": "char",
    }


def write_models(directory: Path, conf: dict[str, Any], vocabulary: int) -> None:
    """Store the same weights as `objsoup.pth` and `espnet.pth`, with their configurations."""
    symbols = write_tokens(directory, vocabulary)
    ours = {k: v for k, v in conf.items() if not k.startswith("decoder")}
    ours |= {"st_decoder": conf["decoder"], "st_decoder_conf": conf["decoder_conf"]}
    ours |= {"objectives": [f"st/{LANG}-{TARGET}"]}
    theirs = {**conf, "src_token_type": "char", "model_conf": {"asr_weight": 0.0}}
    torch.manual_seed(1)
    model = build(ObjSoupTask, directory, "objsoup", ours)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)  # so that hypotheses differ between utterances
        bias = model.st_head.decoder.output_layer.bias
        bias[: len(symbols)] -= 100.0
        bias[-1] -= 100.0
    state = model.state_dict()
    torch.save(state, directory / "objsoup.pth")
    equal = build(STTask, directory, "espnet", theirs)
    renamed = {name.replace("st_head.decoder.", "decoder."): v for name, v in state.items()}
    loaded = equal.load_state_dict(renamed, strict=False)
    rest = [name for name in loaded.missing_keys if not name.startswith(("ctc.", "st_ctc."))]
    if rest or loaded.unexpected_keys:
        raise RuntimeError(f"the models differ: {rest}, {loaded.unexpected_keys}")
    torch.save(equal.state_dict(), directory / "espnet.pth")


def write_tokens(directory: Path, vocabulary: int) -> list[str]:
    """Write `tokens.txt`; returns those that stand in no text, which are its first ones."""
    symbols = ["<blank>", "<unk>", f"<{TARGET}>", f"<{LANG}>"]
    tokens = [*symbols, *(chr(0x4E00 + i) for i in range(vocabulary - 5)), "<sos/eos>"]
    (directory / "tokens.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    return symbols


def build(task: Any, directory: Path, name: str, conf: dict[str, Any]) -> torch.nn.Module:
    """A model of an ESPnet task; leaves `<name>.yaml`, as training leaves config.yaml."""
    (directory / "train.yaml").write_text(yaml.safe_dump(conf), encoding="utf-8")
    command = ["--config", f"{directory}/train.yaml", "--output_dir", str(directory)]
    command += ["--token_list", f"{directory}/tokens.txt"]
    if task is STTask:
        command += ["--src_token_list", f"{directory}/tokens.txt"]
    args = task.get_parser().parse_args(command)
    model = task.build_model(args)
    (directory / f"{name}.yaml").write_text(yaml.safe_dump(vars(args)), encoding="utf-8")
    return model


def write_noise(directory: Path, count: int) -> Path:
    """A data directory with noise of 2 to 4 seconds."""
    draw = np.random.default_rng(0)
    rows = []
    for i in range(count):
        samples = 0.1 * draw.standard_normal(int(RATE_HZ * draw.uniform(2, 4)))
        soundfile.write(directory / f"{i:03d}.wav", samples, RATE_HZ)
        wav = str(directory / f"{i:03d}.wav")
        rows.append(Utterance(f"u{i:03d}", "s", wav, LANG, "x", {TARGET: "x"}))
    data = to_data_dir(rows)
    lengths = {k: str(soundfile.info(v).frames) for k, v in data.columns["wav.scp"].items()}
    data.columns["utt2num_samples"] = lengths
    datadir.write(data, directory / "data")
    return directory / "data"


def select(source: Path, count: int, target: Path) -> datadir.DataDir:
    """The first utterances of a data directory, all relabelled as translations of one pair."""
    data = datadir.read(source)
    kept = set(data.utterances[:count])
    data = data.subset(kept.__contains__)
    constants = {"utt2lang": LANG, "utt2tgt": TARGET, "st_text": "x", "text": datadir.NO_VALUE}
    for name, value in constants.items():
        data.columns[name] = dict.fromkeys(data.columns[name], value)
    datadir.write(data, target)
    return data


def espnet_decoder(directory: Path, args: argparse.Namespace) -> Callable[[Sequence], Outputs]:
    """ESPnet's Speech2Text with the prompt of this package, utterance by utterance."""
    speech2text = ESPnetSpeech2Text(
        directory / "espnet.yaml",
        directory / "espnet.pth",
        device=args.device,
        beam_size=args.beam_size,
        maxlenratio=args.maxlenratio,
    )
    tokens = speech2text.st_model.token_list
    prompt = [len(tokens) - 1, tokens.index(f"<{LANG}>"), tokens.index(f"<{TARGET}>")]
    speech2text.beam_search.set_hyp_primer(prompt)

    def decode(speeches: Sequence[np.ndarray]) -> Outputs:
        found = [speech2text(speech)[0] for speech in speeches]
        return [(ids[len(prompt) - 1 :], float(hyp.score)) for _, _, ids, hyp in found]

    return decode


def objsoup_decoder(
    directory: Path, args: argparse.Namespace, batch_size: int
) -> Callable[[Sequence], Outputs]:
    """This package's Speech2Text on batches of similar length."""
    options = SearchOptions(beam_size=args.beam_size, maxlenratio=args.maxlenratio)
    speech2text = Speech2Text(
        directory / "objsoup.yaml", directory / "objsoup.pth", args.device, options=options
    )

    def decode(speeches: Sequence[np.ndarray]) -> Outputs:
        order = sorted(range(len(speeches)), key=lambda i: -len(speeches[i]))
        outputs: dict[int, tuple[list[int], float]] = {}
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            h, lengths = speech2text.encode([speeches[i] for i in rows])
            size = len(rows)
            found = speech2text.search(h, lengths, "st", [LANG] * size, [TARGET] * size)
            for i, results in zip(rows, found, strict=True):
                outputs[i] = (results[0].token_ids, results[0].score)
        return [outputs[i] for i in range(len(speeches))]

    return decode


def measure(
    decoders: dict[str, Callable[[Sequence], Outputs]],
    speeches: Sequence[np.ndarray],
    repetitions: int,
) -> tuple[dict[str, list[float]], dict[str, Outputs]]:
    """Seconds of every repetition, interleaved, and the outputs; a first round warms up."""
    outputs = {name: decode(speeches[:4]) for name, decode in decoders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in decoders}
    for repetition in range(repetitions):
        for name, decode in decoders.items():
            start = time.perf_counter()
            outputs[name] = decode(speeches)
            seconds[name].append(time.perf_counter() - start)
            print(f"{repetition + 1}/{repetitions} {name}: {seconds[name][-1]:.2f} s", flush=True)
    return seconds, outputs


def time_commands(directory: Path, args: argparse.Namespace) -> dict[str, list[float]]:
    """Wall time of both commands, from start to written hypotheses."""
    data = directory / "selected"
    conf = {"beam_size": args.beam_size, "maxlenratio": args.maxlenratio}
    (directory / "decode.yaml").write_text(yaml.safe_dump(conf), encoding="utf-8")
    common = ["--config", f"{directory}/decode.yaml"]
    theirs = ["espnet2.bin.st_inference", *common, "--output_dir", f"{directory}/out_espnet"]
    theirs += ["--data_path_and_name_and_type", f"{data}/wav.scp,speech,sound"]
    theirs += ["--st_train_config", f"{directory}/espnet.yaml"]
    theirs += ["--st_model_file", f"{directory}/espnet.pth"]
    ours = ["espnet_objsoup.bin.decode", *common, "--output_dir", f"{directory}/out_objsoup"]
    ours += ["--train_config", f"{directory}/objsoup.yaml", "--data_dir", str(data)]
    ours += ["--model_file", f"{directory}/objsoup.pth", "--batch_size", str(args.batch_size)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
    seconds: dict[str, list[float]] = {"espnet command": [], "objsoup command": []}
    for _ in range(args.command_repetitions):
        for name, command in zip(seconds, (theirs, ours), strict=True):
            start = time.perf_counter()
            finished = subprocess.run(
                [sys.executable, "-m", *command], capture_output=True, text=True, env=environment
            )
            if finished.returncode:
                raise RuntimeError(f"{' '.join(command)}\nfailed:\n{finished.stderr[-2000:]}")
            seconds[name].append(time.perf_counter() - start)
            print(f"{name}: {seconds[name][-1]:.1f} s", flush=True)
    return seconds


def agreement(outputs: dict[str, Outputs]) -> dict[str, dict[str, float]]:
    """Hypotheses equal to ESPnet's, and the largest difference of their scores."""
    reference = outputs["espnet"]
    result = {}
    for name, found in outputs.items():
        same = [a for a, b in zip(found, reference, strict=True) if a[0] == b[0]]
        gaps = [abs(a[1] - b[1]) for a, b in zip(found, reference, strict=True) if a[0] == b[0]]
        result[name] = {"equal": len(same) / len(found), "largest_score_gap": max(gaps, default=0)}
    return result


def table(
    seconds: dict[str, list[float]], agreements: dict[str, dict[str, float]], audio_s: float
) -> str:
    """Markdown."""
    lines = ["|system|median s|all s|real-time factor|ESPnet / this|equal hypotheses|", "|---" * 6]
    lines[1] += "|"
    for name, values in seconds.items():
        median = statistics.median(values)
        base = seconds["espnet command" if "command" in name else "espnet"]
        # Of neighbours in time, since other work on the machine comes and goes.
        ratio = statistics.median(b / v for b, v in zip(base, values, strict=True))
        equal = f"{100 * agreements[name]['equal']:.0f} %" if name in agreements else ""
        every = " ".join(f"{value:.2f}" for value in values)
        lines.append(f"|{name}|{median:.2f}|{every}|{median / audio_s:.4f}|{ratio:.2f}|{equal}|")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    args = get_parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_models(directory, sizes(args.config), args.vocabulary)
        source = args.data_dir or write_noise(directory, args.utterances)
        data = select(source, args.utterances, directory / "selected")
        locations = data.columns["wav.scp"]
        speeches = [read_audio(locations[key])[0] for key in data.utterances]
        decoders = {
            "espnet": espnet_decoder(directory, args),
            "objsoup, batch 1": objsoup_decoder(directory, args, 1),
            f"objsoup, batch {args.batch_size}": objsoup_decoder(directory, args, args.batch_size),
        }
        seconds, outputs = measure(decoders, speeches, args.repetitions)
        if args.command_repetitions:
            seconds |= time_commands(directory, args)
    audio_s = sum(map(len, speeches)) / RATE_HZ
    agreements = agreement(outputs)
    tokens = statistics.fmean(len(ids) for ids, _ in outputs["espnet"])
    setting = {
        "machine": machine(),
        "threads": args.threads,
        "device": args.device,
        "commit": commit(Path(__file__).parent),
        "utterances": len(speeches),
        "audio_seconds": round(audio_s, 1),
        "beam_size": args.beam_size,
        "tokens_per_utterance": round(tokens, 1),
    }
    print("\n".join(f"{key}: {value}" for key, value in setting.items()))
    print(table(seconds, agreements, audio_s))
    if args.json is not None:
        content = {**setting, "seconds": seconds, "agreement": agreements}
        args.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
