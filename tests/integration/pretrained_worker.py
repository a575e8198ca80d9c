# SPDX-License-Identifier: Apache-2.0
"""Decode a set with a packed model, from anywhere, and compare with what stage 12 wrote.

    python tests/integration/pretrained_worker.py exp/T.zip dump/raw/test exp/T/decode_X/test

prints, for each way to load the model, how many texts of each task are the same, and exits with 1
unless all are. Paths in wav.scp are relative to --root.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from espnet_objsoup.data.datadir import read
from espnet_objsoup.data.tables import read_table
from espnet_objsoup.decoding.worker import tasks_of
from espnet_objsoup.inference import Speech2Text


def by_this_package(archive: Path) -> Speech2Text:
    return Speech2Text.from_pretrained(archive)


def by_espnet_model_zoo(archive: Path) -> Speech2Text:
    from espnet_model_zoo.downloader import ModelDownloader

    return Speech2Text(**ModelDownloader().download_and_unpack(str(archive)))


def by_default_options(archive: Path) -> Speech2Text:
    """The same weights without the options that they were scored with: other texts."""
    return Speech2Text.from_pretrained(archive, objsoup_inference_config=None)


WAYS: dict[str, Callable[[Path], Speech2Text]] = {
    "from_pretrained": by_this_package,
    "ModelDownloader": by_espnet_model_zoo,
    "default options": by_default_options,
}


def texts(
    speech2text: Speech2Text, data_dir: Path, root: Path, limit: int | None = None
) -> dict[str, dict[str, str]]:
    """Task -> utterance -> text."""
    data = read(data_dir)
    groups = defaultdict(list)
    for key in data.utterances[:limit]:
        lang, target = data.columns["utt2lang"][key], data.columns["utt2tgt"][key]
        for task in tasks_of(data, key, speech2text.objectives):
            groups[task, lang, target if task == "st" else None].append(key)
    found: dict[str, dict[str, str]] = {"asr": {}, "st": {}}
    for (task, lang, target), keys in groups.items():
        paths = [root / data.columns["wav.scp"][key] for key in keys]
        results = speech2text(paths, task=task, lang=lang, target_lang=target)
        for key, (best, *_) in zip(keys, results, strict=True):
            found[task][key] = best.text
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("decode_dir", type=Path)
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--ways", nargs="+", default=list(WAYS)[:2], choices=WAYS)
    parser.add_argument("--limit", type=int, help="utterances, from the first")
    args = parser.parse_args()
    report = {}
    for way in args.ways:
        found = texts(WAYS[way](args.archive), args.data_dir, args.root, args.limit)
        for task, of_task in found.items():
            expected = read_table(args.decode_dir / task / "text")
            same = [key for key, text in of_task.items() if text == expected[key]]
            report[f"{way} {task}"] = [len(same), len(of_task)]
    print(json.dumps(report))
    return 0 if all(same == count > 0 for same, count in report.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
