#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How well a model's Speech2Text guesses languages, cuts long audio and times words.

Languages: every clip of a data directory is decoded without telling its language.

Long audio: the clips of a language, joined with pauses of low noise, are decoded as one recording;
its text is compared to the texts of the clips by word error rate, and to the references.

Times: clips are decoded with silence before them, which makes long audio of them and is cut off.
The words should be later by as much.

    cd egs2/mini_objsoup
    python ../../tools/benchmarks/inference_quality.py --model exp/<tag> --data_dir dump/raw/test
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import jiwer
import numpy as np

from espnet_objsoup.data import datadir
from espnet_objsoup.data.audio_io import read_audio
from espnet_objsoup.inference import Speech2Text

_NOISE = 1e-3  # -60 dB of full scale
_PAD_S = 6.0


def get_parser() -> argparse.ArgumentParser:
    """Parser of this benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="as Speech2Text.from_pretrained takes it")
    parser.add_argument("--data_dir", type=Path, required=True, help="dump directory")
    parser.add_argument("--clips", type=int, default=20, help="joined, default %(default)s")
    parser.add_argument(
        "--pauses", type=float, nargs="+", default=[1.0, 0.5, 0.25, 0.0], help="in seconds"
    )
    return parser


def noise(seconds: float, rate_hz: int) -> np.ndarray:
    """Samples (N,) of near silence."""
    draw = np.random.default_rng(1)
    return (_NOISE * draw.standard_normal(round(seconds * rate_hz))).astype(np.float32)


def by_language(data: datadir.DataDir) -> dict[str, list[str]]:
    """Utterances with a transcript, by language."""
    found: dict[str, list[str]] = {}
    for key in data.utterances:
        if data.columns["text"][key] != datadir.NO_VALUE:
            found.setdefault(data.columns["utt2lang"][key], []).append(key)
    return found


def guess_languages(model: Speech2Text, data: datadir.DataDir) -> None:
    """Print how often each language is taken for which."""
    columns = data.columns
    print("|spoken|clips|right|taken for|", "|---|---|---|---|", sep="\n")
    right = total = 0
    for lang, keys in by_language(data).items():
        guesses = [results[0].lang for results in model([columns["wav.scp"][k] for k in keys])]
        wrong = {guess: guesses.count(guess) for guess in sorted(set(guesses) - {lang})}
        listed = ", ".join(f"{name} {count}" for name, count in wrong.items())
        right, total = right + guesses.count(lang), total + len(guesses)
        share = 100 * guesses.count(lang) / len(guesses)
        print(f"|{lang}|{len(guesses)}|{share:.1f} %|{listed}|", flush=True)
    print(f"|all|{total}|{100 * right / total:.1f} %||", flush=True)


def join_clips(
    model: Speech2Text, data: datadir.DataDir, clips: int, pauses: Sequence[float]
) -> None:
    """Print word error rates of recordings made of clips."""
    columns = data.columns
    groups = {lang: keys[:clips] for lang, keys in by_language(data).items()}
    alone, references = {}, {}
    for lang, keys in groups.items():
        found = model([columns["wav.scp"][key] for key in keys], lang=lang)
        alone[lang] = " ".join(results[0].text for results in found)
        references[lang] = " ".join(columns["text"][key] for key in keys)
    rates = [jiwer.wer(references[lang], alone[lang]) for lang in groups]
    print("|pause|segments|against clips alone|against references|", "|---" * 4 + "|", sep="\n")
    print(f"|clips alone|||{100 * np.mean(rates):.1f} %|")
    for pause_s in pauses:
        segments, against_alone, against_reference = 0, [], []
        for lang, keys in groups.items():
            parts = [read_audio(columns["wav.scp"][key])[0] for key in keys]
            gap = noise(pause_s, model.sample_rate_hz)
            joined = np.concatenate([samples for part in parts for samples in (part, gap)])
            (result,) = model(joined, lang=lang)
            segments += len(result.segments)
            against_alone.append(jiwer.wer(alone[lang], result.text))
            against_reference.append(jiwer.wer(references[lang], result.text))
        rates = [f"{100 * np.mean(values):.1f} %" for values in (against_alone, against_reference)]
        print(f"|{pause_s} s|{segments}|{'|'.join(rates)}|", flush=True)


def time_words(model: Speech2Text, data: datadir.DataDir, clips: int) -> None:
    """Print how far words are from where they should be after a pause."""
    columns = data.columns
    errors, same, total = [], 0, 0
    for lang, keys in by_language(data).items():
        for key in keys[:clips]:
            samples, rate_hz = read_audio(columns["wav.scp"][key])
            padded = np.concatenate([noise(_PAD_S, rate_hz), samples])
            before, after = (
                results[0].words for results in model([samples, padded], lang=lang, word_times=True)
            )
            total += len(before)
            if [word.text for word in before] == [word.text for word in after]:
                same += len(before)
                errors += [
                    abs(b.start_s - a.start_s - _PAD_S) for a, b in zip(before, after, strict=True)
                ]
    print(
        f"{same} of {total} words in clips with the same text after {_PAD_S} s of silence; their "
        f"beginnings differ from where they should be by {np.median(errors):.3f} s (median), "
        f"{np.percentile(errors, 95):.3f} s (95 %), {max(errors):.3f} s (largest)"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    args = get_parser().parse_args(argv)
    data = datadir.read(args.data_dir)
    model = Speech2Text.from_pretrained(args.model)
    guess_languages(model, data)
    join_clips(model, data, args.clips, args.pauses)
    time_words(model, data, args.clips)
    return 0


if __name__ == "__main__":
    sys.exit(main())
