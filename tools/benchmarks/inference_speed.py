#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Speed and memory of Speech2Text: this package against ESPnet's own, on equal models.

One encoder, decoder and (for recognition) CTC are built with random weights and stored twice, as
`decode.py` does for translation. Every system is a process of its own that loads a model and then
decodes the same utterances whenever its turn comes, so that the systems' runs are interleaved and
the peak memory of each is known:

    espnet, batch 1    Speech2Text of espnet2.bin.asr_inference or st_inference, one by one
    espnet, batch N    its batch_decode, which only asr_inference has
    objsoup, batch 1   Speech2Text of this package, one by one
    objsoup, batch N   Speech2Text of this package, given a list

Times are processor times, which other work on the machine disturbs less than a clock; on a GPU,
where they would say nothing, the clock's. The prompt, the beam, its weights and the number of steps
(`--maxlenratio`) are equal.

    tools/venv/bin/python tools/benchmarks/inference_speed.py --task asr
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Outputs = list[tuple[list[int], float]]
Decode = Callable[[Sequence[np.ndarray]], Outputs]
CTC_WEIGHT = 0.3


def get_parser() -> argparse.ArgumentParser:
    """Parser of this benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=("asr", "st"), default="asr")
    parser.add_argument("--data_dir", type=Path, help="dump directory; default: synthetic noise")
    parser.add_argument("--utterances", type=int, default=48, help="default %(default)s")
    parser.add_argument("--config", type=Path, help="training YAML with the sizes of the model")
    parser.add_argument("--vocabulary", type=int, default=250, help="tokens, default %(default)s")
    parser.add_argument("--beam_size", type=int, default=5, help="default %(default)s")
    parser.add_argument("--maxlenratio", type=float, default=0.3, help="default %(default)s")
    parser.add_argument("--batch_size", type=int, default=16, help="default %(default)s")
    parser.add_argument("--repetitions", type=int, default=5, help="default %(default)s")
    parser.add_argument("--device", default="cpu", help="default %(default)s")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--system", help=argparse.SUPPRESS)  # a process of its own
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    return parser


def write_asr_models(directory: Path, conf: dict[str, Any], vocabulary: int) -> None:
    """Store the same weights as `objsoup.pth` and `espnet.pth`, with their configurations."""
    import torch
    from decode import LANG, build, write_tokens
    from espnet2.tasks.asr import ASRTask

    from espnet_objsoup.tasks.objsoup import ObjSoupTask

    symbols = write_tokens(directory, vocabulary)
    ours = {k: v for k, v in conf.items() if not k.startswith("decoder")}
    ours |= {"asr_decoder": conf["decoder"], "asr_decoder_conf": conf["decoder_conf"]}
    ours |= {"objectives": [f"asr/{LANG}"], "model_conf": {"asr_ctc_weight": CTC_WEIGHT}}
    torch.manual_seed(1)
    model = build(ObjSoupTask, directory, "objsoup", ours)
    head = model.asr_head
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)  # so that hypotheses differ between utterances
        for bias in (head.decoder.output_layer.bias, head.ctc.ctc_lo.bias):
            bias[1 : len(symbols)] -= 100.0
            bias[-1] -= 100.0
        head.decoder.output_layer.bias[0] -= 100.0  # <blank>, which CTC needs
    state = model.state_dict()
    torch.save(state, directory / "objsoup.pth")
    equal = build(ASRTask, directory, "espnet", {**conf, "model_conf": {"ctc_weight": CTC_WEIGHT}})
    equal.load_state_dict({name.replace("asr_head.", ""): v for name, v in state.items()})
    torch.save(equal.state_dict(), directory / "espnet.pth")


def espnet_system(args: argparse.Namespace, batch_size: int) -> Decode:
    """ESPnet's Speech2Text with the prompt of this package."""
    from decode import LANG, espnet_decoder
    from espnet2.bin.asr_inference import Speech2Text

    if args.task == "st":
        return espnet_decoder(args.directory, args)
    speech2text = Speech2Text(
        args.directory / "espnet.yaml",
        args.directory / "espnet.pth",
        device=args.device,
        beam_size=args.beam_size,
        maxlenratio=args.maxlenratio,
        ctc_weight=CTC_WEIGHT,
        lm_weight=0.0,
    )
    tokens = speech2text.asr_model.token_list
    speech2text.beam_search.set_hyp_primer([len(tokens) - 1, tokens.index(f"<{LANG}>")])

    def decode(speeches: Sequence[np.ndarray]) -> Outputs:
        if batch_size == 1:
            found = [speech2text(speech)[0] for speech in speeches]
            return [(ids[1:], float(hyp.score)) for _, _, ids, hyp in found]
        order = sorted(range(len(speeches)), key=lambda i: -len(speeches[i]))
        outputs: dict[int, tuple[list[int], float]] = {}
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            for i, nbest in zip(
                rows, speech2text.batch_decode([speeches[i] for i in rows]), strict=True
            ):
                _, _, ids, hyp = nbest[0]
                outputs[i] = (ids[1:], float(hyp.score))
        return [outputs[i] for i in range(len(speeches))]

    return decode


def objsoup_system(args: argparse.Namespace, batch_size: int) -> Decode:
    """This package's Speech2Text as its users call it."""
    from decode import LANG, TARGET

    from espnet_objsoup.inference import SearchOptions, Speech2Text

    options = SearchOptions(
        beam_size=args.beam_size, maxlenratio=args.maxlenratio, ctc_weight=CTC_WEIGHT
    )
    speech2text = Speech2Text(
        args.directory / "objsoup.yaml", args.directory / "objsoup.pth", args.device,
        options=options,
    )  # fmt: skip
    request = {"task": args.task, "lang": LANG, "target_lang": TARGET}

    def decode(speeches: Sequence[np.ndarray]) -> Outputs:
        if batch_size == 1:
            found = [speech2text(speech, **request) for speech in speeches]
        else:
            found = speech2text(list(speeches), **request, batch_size=batch_size)
        return [(results[0].token_ids, results[0].score) for results in found]

    return decode


def serve(args: argparse.Namespace) -> int:
    """Decode at every line of standard input; print seconds, memory and hypotheses."""
    package, _, batch = args.system.partition(", batch ")
    answers = os.fdopen(os.dup(1), "w")  # ESPnet prints, too
    os.dup2(2, 1)
    import torch

    from espnet_objsoup.data import datadir
    from espnet_objsoup.data.audio_io import read_audio

    torch.set_num_threads(1)
    data = datadir.read(args.directory / "selected")
    speeches = [read_audio(data.columns["wav.scp"][key])[0] for key in data.utterances]
    make = {"espnet": espnet_system, "objsoup": objsoup_system}[package]
    decode = make(args, int(batch))
    decode(speeches[:4])  # warm up
    clock = time.process_time if args.device == "cpu" else time.perf_counter
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"audio_s": sum(map(len, speeches)) / 16000}), file=answers, flush=True)
    for _ in sys.stdin:
        start = clock()
        outputs = decode(speeches)
        answer = {
            "seconds": clock() - start,
            "loaded_mib": loaded / 1024,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "outputs": outputs,
        }
        if args.device != "cpu":
            answer["gpu_mib"] = torch.cuda.max_memory_allocated() / 2**20
        print(json.dumps(answer), file=answers, flush=True)
    return 0


def measure(systems: Sequence[str], arguments: list[str], repetitions: int) -> dict[str, Any]:
    """All answers of every system, in turns, and the duration of the audio."""
    command = [sys.executable, __file__, *arguments, "--system"]
    processes = {}
    audio_s = 0.0
    for name in systems:  # one after the other, as each needs much memory to import espnet2
        processes[name] = subprocess.Popen(
            [*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        audio_s = json.loads(processes[name].stdout.readline())["audio_s"]
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in systems}
    for repetition in range(repetitions):
        for name, process in processes.items():
            process.stdin.write("go\n")
            process.stdin.flush()
            answers[name].append(json.loads(process.stdout.readline()))
            seconds = answers[name][-1]["seconds"]
            print(f"{repetition + 1}/{repetitions} {name}: {seconds:.2f} s", flush=True)
    for process in processes.values():
        process.stdin.close()
        process.wait()
    return {"audio_s": audio_s, "answers": answers}


def table(answers: dict[str, list[dict[str, Any]]], audio_s: float) -> str:
    """Markdown; each system is compared to ESPnet's with batch 1."""
    lines = [
        "|system|median s|real-time factor|espnet, batch 1 / this|peak MiB|equal hypotheses|",
        "|---|---|---|---|---|---|",
    ]
    base = answers["espnet, batch 1"]
    for name, runs in answers.items():
        median = statistics.median(run["seconds"] for run in runs)
        ratio = statistics.median(
            b["seconds"] / run["seconds"] for b, run in zip(base, runs, strict=True)
        )
        same = [a[0] == b[0] for a, b in zip(runs[-1]["outputs"], base[-1]["outputs"], strict=True)]
        peak = max(run.get("gpu_mib", run["peak_mib"]) for run in runs)
        lines.append(
            f"|{name}|{median:.2f}|{median / audio_s:.4f}|{ratio:.2f}|{peak:.0f}|"
            f"{100 * sum(same) / len(same):.0f} %|"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    args = get_parser().parse_args(argv)
    if args.system:
        return serve(args)
    from decode import select, sizes, write_models, write_noise

    from espnet_objsoup.evaluation.results import commit, machine

    systems = ["espnet, batch 1", f"espnet, batch {args.batch_size}"]
    if args.task == "st":
        systems.pop()
    systems += ["objsoup, batch 1", f"objsoup, batch {args.batch_size}"]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write = write_asr_models if args.task == "asr" else write_models
        write(directory, sizes(args.config), args.vocabulary)
        source = args.data_dir or write_noise(directory, args.utterances)
        select(source, args.utterances, directory / "selected")
        passed = ("task", "beam_size", "maxlenratio", "device")
        arguments = [f"--{key}={getattr(args, key)}" for key in passed]
        found = measure(systems, [*arguments, f"--directory={directory}"], args.repetitions)
    setting = {
        "machine": machine(),
        "device": args.device,
        "commit": commit(Path(__file__).parent),
        "task": args.task,
        "utterances": args.utterances,
        "audio_seconds": round(found["audio_s"], 1),
        "beam_size": args.beam_size,
    }
    print("\n".join(f"{key}: {value}" for key, value in setting.items()))
    print(table(found["answers"], found["audio_s"]))
    if args.json is not None:
        args.json.write_text(json.dumps({**setting, **found}, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
