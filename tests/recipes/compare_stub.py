# SPDX-License-Identifier: Apache-2.0
"""Stands in for run.sh in tests of compare.sh: no model is trained, scoring is the real one.

How good an experiment is depends on its arm and seed; a file `fail` in the working directory names
experiments whose training fails and directories of data whose preparation does, a file `slow` holds
seconds that a training takes.
"""

import json
import random
import sys
import time
from pathlib import Path

import yaml

N_TEST = 30
# Share of words that are wrong.
ERRORS = {"static": 0.3, "flat": 0.1, "monitor": 0.3}


def main() -> None:
    words = sys.argv[1:]
    options = dict(zip(words[::2], words[1::2], strict=True))
    with open("calls", "a") as calls:
        calls.write(" ".join(words) + "\n")
    stages = range(int(options["--stage"]), int(options["--stop_stage"]) + 1)
    if 10 in stages:
        prepare(options)
    if 11 in stages:
        train(options)
    if 13 in stages:
        decode(options)


# Imports of a part are its own: a stand-in is started dozens of times.
def prepare(options: dict[str, str]) -> None:
    from espnet_objsoup.data.synthesis.lexicon import load_lexicon
    from espnet_objsoup.data.synthesis.linearise import linearise
    from espnet_objsoup.data.synthesis.sentences import SentenceSampler

    fail_if_asked(options["--datadir"])
    sampler = SentenceSampler(load_lexicon("small"), 1)
    for split in ("train", "dev", "test"):
        path = Path(options["--dumpdir"]) / "raw" / split
        path.mkdir(parents=True, exist_ok=True)
        rows = []
        for lang in ("en", "fr"):
            for i in range(N_TEST):
                meaning = next(iter(sampler))
                text = linearise(meaning, lang).lower().strip(".")
                other = "<na>" if lang == "en" else linearise(meaning, "en").lower().strip(".")
                rows.append((f"{lang}-{split}-{i:03}", text, other, lang))
        files: dict[str, list[str]] = {
            "wav.scp": [f"{key} {key}.flac" for key, *_ in rows],
            "text": [f"{key} {text}" for key, text, _, _ in rows],
            "st_text": [f"{key} {other}" for key, _, other, _ in rows],
            "utt2lang": [f"{key} {lang}" for key, _, _, lang in rows],
            "utt2tgt": [f"{key} {'<na>' if lang == 'en' else 'en'}" for key, *_, lang in rows],
            "utt2spk": [f"{key} {key}" for key, *_ in rows],
            "spk2utt": [f"{key} {key}" for key, *_ in rows],
            "utt2num_samples": [f"{key} {32000 + i}" for i, (key, *_) in enumerate(rows)],
        }
        for name, lines in files.items():
            (path / name).write_text("".join(f"{line}\n" for line in sorted(lines)))
    tokens = Path(options["--datadir"]) / "token_list" / "bpe_unigram150" / "tokens.txt"
    tokens.parent.mkdir(parents=True, exist_ok=True)
    tokens.write_text("<blank>\n<unk>\na\n<sos/eos>\n")


def fail_if_asked(name: str) -> None:
    if Path("fail").exists() and name in Path("fail").read_text().split():
        print("the last words of", name)
        sys.exit(3)


def train(options: dict[str, str]) -> None:
    tag = options["--tag"]
    exp = Path(options["--expdir"]) / tag
    conf = yaml.safe_load(Path(options["--config"]).read_text())
    exp.mkdir(parents=True)  # fails where an earlier attempt was not removed
    (exp / "config.yaml").write_text(yaml.safe_dump(conf))
    if Path("slow").exists():
        time.sleep(float(Path("slow").read_text()))
    fail_if_asked(tag)
    if "--init_param" in options:
        assert Path(options["--init_param"].split(":")[0]).exists(), options["--init_param"]
    epochs = conf["max_epoch"]
    busy = 0.02 * epochs * (2 if conf.get("ssl") else 1)
    # Where costs are compared, all of this process is to have its share of them: how long Python
    # takes to start differs more than that.
    busy = 2 + 10 * busy if "_calibrate_" in tag else busy + time.process_time()
    while time.process_time() < busy:
        pass
    weights = conf["trainer_conf"].get("weighting_conf", {}).get("weights", {})
    loss = 2.0 if weights.get("st/*", 1.0) > 1 else 3.0
    lines = []
    for epoch in range(1, epochs + 1):
        lines.append(f"INFO: epoch {epoch}/{epochs}, batch 5/10: loss=3.0, to go: soon")
        lines.append(
            f"INFO: {epoch}epoch results: [train] loss=9.0, loss_asr_fr=9.0, [valid] loss=3.0, "
            f"loss_asr=3.0, loss_asr_en={loss}, loss_asr_fr={loss}, loss_st_fr_en={loss}, time=1 s"
        )
        (exp / f"{epoch}epoch.pth").write_text("weights")
    (exp / "train.log").write_text("\n".join(lines) + "\n")
    for name in ("checkpoint.pth", "valid.loss.ave_1best.pth", "valid.loss.ave.pth"):
        (exp / name).write_text("weights")
    (exp / "latest.pth").symlink_to(f"{epochs}epoch.pth")
    if conf["trainer_conf"].get("monitor"):
        (exp / "soup.jsonl").write_text(json.dumps(SCAN) + "\n" + json.dumps(REFRESH) + "\n")


REFRESH = {
    "kind": "refresh", "step": 20, "epoch": 2, "soup_conflict/all": 0.25,
    "soup_coefficient/asr/en": 1.0, "soup_grad_norm/asr/en": 1.0,
}  # fmt: skip
SCAN = {
    "kind": "scan", "step": 10, "epoch": 1,
    "objectives": ["asr/en", "asr/fr", "st/fr-en"], "layers": ["encoder.encoders.0"],
    "scores": [-0.1], "errors": [0.01], "worst": [-0.5], "selected": [],
    "cosines": [[[1.0, 0.2, -0.5], [0.2, 1.0, 0.0], [-0.5, 0.0, 1.0]]],
    "counted": [[[0, 1, 1], [1, 0, 0], [1, 0, 0]]],
}  # fmt: skip


def decode(options: dict[str, str]) -> None:
    from espnet_objsoup.bin.score import main as score

    exp = Path(options["--expdir"]) / options["--tag"]
    raw = Path(options["--dumpdir"]) / "raw"
    conf = yaml.safe_load((exp / "config.yaml").read_text())
    rate = next((r for arm, r in ERRORS.items() if f"_{arm}_seed" in exp.name), 0.2)
    assert (exp / options["--inference_model"]).exists()
    decoding = exp / f"decode_decode_{options['--inference_model'].removesuffix('.pth')}"
    for task, column in (("asr", "text"), ("st", "st_text")):
        lines = []
        for line in (raw / "test" / column).read_text().splitlines():
            key, _, text = line.partition(" ")
            if text != "<na>":
                draw = random.Random(f"{conf['seed']} {key} {rate}")
                words = [w if draw.random() > rate else "wrong" for w in text.split()]
                lines.append(f"{key} {' '.join(words)}\n")
        (decoding / "test" / task).mkdir(parents=True)
        (decoding / "test" / task / "text").write_text("".join(lines))
    status = score(
        ["--decode_dir", str(decoding), "--dump_dir", str(raw), "--test_sets", "test",
         "--exp_dir", str(exp), "--st_text_policy", "lc.rm", "--cross_check", "false"]
    )  # fmt: skip
    sys.exit(status)


if __name__ == "__main__":
    main()
