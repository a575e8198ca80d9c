# SPDX-License-Identifier: Apache-2.0
"""RESULTS.md in ESPnet's manner: environment, then tables per split."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from espnet_objsoup.evaluation.scores import Scores

_PACKAGES = (
    "espnet-objsoup",
    "espnet",
    "torch",
    "torchaudio",
    "sentencepiece",
    "sacrebleu",
    "jiwer",
)


@dataclass(frozen=True)
class RunInfo:
    """What a reader needs to run the experiment again.

    Attributes:
        experiment: name of the experiment.
        command: command line.
        seed: of training, as text.
        model_file: averaged weights that were decoded.
        decoding: name of the decoding directory.
    """

    experiment: str
    command: str
    seed: str
    model_file: str
    decoding: str


def environment(repository: Path) -> dict[str, str]:
    """Date, versions, commit and machine, as name -> value."""
    rows = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            rows[package] = version(package)
        except PackageNotFoundError:
            rows[package] = "not installed as a package"
    rows["commit"] = commit(repository)
    rows["machine"] = machine()
    return rows


def commit(repository: Path) -> str:
    """Commit of the working tree, with `(modified)` if files differ from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(repository), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + (" (modified)" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown (not a git checkout)"


def machine() -> str:
    """Processor and memory in words, without any name of the host."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if sys.platform == "linux" and cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB"


def render(info: RunInfo, rows: Mapping[str, str], scores: Mapping[str, Scores]) -> str:
    """The whole file.

    Args:
        info: the run.
        rows: from `environment`.
        scores: split -> scores.
    """
    lines = ["# RESULTS", "", "## Environments", ""]
    lines += [f"- {name}: `{value}`" for name, value in rows.items()]
    lines += [
        f"- command: `{info.command}`",
        f"- seed: `{info.seed}`",
        "",
        f"## {info.experiment}",
        "",
        f"Model `{info.model_file}`, decoded as `{info.decoding}`.",
    ]
    for split, of_split in scores.items():
        lines += ["", f"### {split}", *_recognition_table(of_split), *_translation_table(of_split)]
    return "\n".join(lines) + "\n"


def _recognition_table(scores: Scores) -> list[str]:
    names = [name for name in scores if name.startswith("asr")]
    if not names:
        return []
    lines = [
        "",
        "|objective|Snt|Wrd|Sub|Del|Ins|WER|CER|S.Err|",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    unspaced = []
    for name in names:
        s = scores[name]
        wer = "-" if s.get("measure", "wer") == "cer" or "wer" not in s else f"{s['wer']:.1f}"
        if name.endswith("/mean"):
            lines.append(f"|{name}||||||{wer}|{s['cer']:.1f}||")
            continue
        tokens, prefix = "words", ""
        if wer == "-":
            tokens, prefix = "characters", "character_"
            unspaced.append(name)
        counts = [s[prefix + kind] for kind in ("substitutions", "deletions", "insertions")]
        rates = "|".join(f"{100.0 * count / s[tokens]:.1f}" for count in counts)
        wrong = 100.0 * s["wrong_sentences"] / s["sentences"]
        lines.append(
            f"|{name}|{s['sentences']}|{s[tokens]}|{rates}|{wer}|{s['cer']:.1f}|{wrong:.1f}|"
        )
    if unspaced:
        lines += ["", f"{', '.join(unspaced)}: Wrd, Sub, Del and Ins are of characters."]
    return lines


def _translation_table(scores: Scores) -> list[str]:
    names = [name for name in scores if name.startswith("st")]
    if not names:
        return []
    measures = {"bleu": "BLEU", "bleu_lc": "BLEU (lower case)", "chrf": "chrF2"}
    if any("bleu_char" in scores[name] for name in names):
        measures["bleu_char"] = "BLEU (characters)"
    titles = ["objective", "Snt", *measures.values()]
    lines = ["", f"|{'|'.join(titles)}|", "|---" * len(titles) + "|"]
    signatures: dict[str, list[str]] = {}
    for name in names:
        s = scores[name]
        cells = "|".join(f"{s[key]:.1f}" if key in s else "" for key in measures)
        lines.append(f"|{name}|{s.get('sentences', '')}|{cells}|")
        if "signature" in s:
            signatures.setdefault(_signatures(s), []).append(name)
    lines.append("")
    lines += [f"{', '.join(of)}: {signature}." for signature, of in signatures.items()]
    return lines


def _signatures(score: dict[str, Any]) -> str:
    """Sacrebleu's signatures of a score, in words."""
    kinds = {
        "BLEU": "signature",
        "BLEU (lower case)": "lc_signature",
        "BLEU (characters)": "char_signature",
        "chrF2": "chrf_signature",
    }
    return ", ".join(f"{kind} `{score[key]}`" for kind, key in kinds.items() if key in score)
