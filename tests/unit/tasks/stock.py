# SPDX-License-Identifier: Apache-2.0
"""Tiny data and configurations for ESPnet's own ST, ASR and S2T tasks."""

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import yaml
from espnet2.tasks.abs_task import AbsTask
from espnet2.tasks.asr import ASRTask
from espnet2.tasks.s2t import S2TTask
from espnet2.tasks.st import STTask

from espnet_objsoup.tasks.stock import SoupASRTask, SoupS2TTask, SoupSTTask

OURS = {"asr": SoupASRTask, "st": SoupSTTask, "s2t": SoupS2TTask}
THEIRS = {"asr": ASRTask, "st": STTask, "s2t": S2TTask}
INPUTS = {
    "asr": ("speech", "text"),
    "st": ("speech", "text", "src_text"),
    "s2t": ("speech", "text", "text_prev", "text_ctc"),
}
SPECIAL = "<na> <xx> <asr> <notimestamps> <0.00> <30.00> <sop> <sos> <eos>".split()
TOKENS = ["<blank>", "<unk>", "<space>", *"abcdefgh", "<sos/eos>"]
S2T_TOKENS = [*TOKENS[:-1], *SPECIAL]
BLOCKS = {
    "attention_heads": 2,
    "linear_units": 16,
    "num_blocks": 1,
    "dropout_rate": 0.1,
    "positional_dropout_rate": 0.1,
}
DECODER = {**BLOCKS, "self_attention_dropout_rate": 0.1, "src_attention_dropout_rate": 0.1}
CONFIG: dict[str, Any] = {
    "frontend_conf": {"n_fft": 256, "win_length": 256, "hop_length": 128, "n_mels": 20},
    "specaug": "specaug",
    "specaug_conf": {
        "apply_time_warp": False,
        "apply_time_mask": False,
        "apply_freq_mask": True,
        "freq_mask_width_range": [0, 3],
        "num_freq_mask": 1,
    },
    "normalize": "utterance_mvn",
    "encoder": "transformer",
    "encoder_conf": {
        **BLOCKS,
        "output_size": 16,
        "num_blocks": 2,
        "input_layer": "conv2d",
        "attention_dropout_rate": 0.1,
    },
    "decoder": "transformer",
    "decoder_conf": DECODER,
    "token_type": "char",
    "optim": "adam",
    "optim_conf": {"lr": 0.002},
    "train_dtype": "float64",
    "batch_type": "unsorted",
    "batch_size": 4,
    "num_workers": 0,
    "max_epoch": 2,
    "use_tensorboard": False,
    "use_matplotlib": False,
    "num_att_plot": 0,
    "ngpu": 0,
}
OF_TASK: dict[str, dict[str, Any]] = {
    "asr": {"model_conf": {"ctc_weight": 0.3, "lsm_weight": 0.1}},
    "st": {
        "src_token_type": "char",
        "extra_asr_decoder": "transformer",
        "extra_asr_decoder_conf": DECODER,
        "model_conf": {
            "asr_weight": 0.4, "mtlalpha": 0.3, "st_mtlalpha": 0.2, "lsm_weight": 0.1,
            "report_bleu": False, "report_cer": False, "report_wer": False,
        },
    },
    "s2t": {
        "model_conf": {"ctc_weight": 0.3},
        "preprocessor_conf": {
            "speech_length": 0.6,
            "speech_init_silence": 0.1,
            # Defaults, which s2t_inference reads from the configuration.
            "notime_symbol": "<notimestamps>",
            "first_time_symbol": "<0.00>",
            "last_time_symbol": "<30.00>",
            "fs": 16000, "na_symbol": "<na>", "speech_resolution": 0.02,
        },
    },
}  # fmt: skip
OF_TASK["asr"]["model_conf"] |= {"report_cer": False, "report_wer": False}
OF_TASK["s2t"]["model_conf"] |= {"report_cer": False, "report_wer": False}


def make_data(directory: Path) -> Path:
    """Sixteen utterances of noise with letters, for training and validation alike."""
    generator = np.random.default_rng(5)
    files: dict[str, list[str]] = {}
    for i in range(16):
        samples = int(generator.integers(5000, 9000))
        path = directory / f"u{i}.wav"
        soundfile.write(path, 0.1 * generator.standard_normal(samples), 16000)
        source, target = (
            "".join(generator.choice(list("abcdefgh"), generator.integers(2, 6))) for _ in "st"
        )
        rows = {
            "speech": str(path),
            "shape": str(samples),
            "text": target,
            "src_text": source,
            # S2T drops the first piece and reads language and task from the text.
            "s2t_text": f"a<xx><asr>{target}",
            "text_prev": source if i % 2 else "<na>",
            # One batch of four has no text for CTC at all, another three of four.
            "text_ctc": "<na>" if i in (0, 4, 5, 6, 7) else target,
        }
        for name, value in rows.items():
            files.setdefault(name, []).append(f"u{i} {value}\n")
    for name, lines in files.items():
        (directory / name).write_text("".join(lines))
    (directory / "tokens.txt").write_text("\n".join(TOKENS) + "\n")
    (directory / "s2t_tokens.txt").write_text("\n".join(S2T_TOKENS) + "\n")
    (directory / "nlsyms.txt").write_text("\n".join(SPECIAL) + "\n")
    return directory


def config(task: str, **changes: Any) -> dict[str, Any]:
    """Options of a tiny model; mappings in `changes` are merged."""
    conf = {**CONFIG, **OF_TASK[task]}
    for name, value in changes.items():
        merge = isinstance(value, dict) and isinstance(conf.get(name), dict)
        conf[name] = {**conf[name], **value} if merge else value
    return conf


def command(task: str, data: Path, directory: Path, **changes: Any) -> list[str]:
    """Command line of a training run, as the stage scripts write it."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "train.yaml").write_text(yaml.safe_dump(config(task, **changes)))
    tokens = data / ("s2t_tokens.txt" if task == "s2t" else "tokens.txt")
    words = ["--config", f"{directory}/train.yaml", "--token_list", str(tokens)]
    words += ["--output_dir", f"{directory}/exp"]
    if task == "st":
        words += ["--src_token_list", str(tokens)]
    if task == "s2t":
        words += ["--non_linguistic_symbols", f"{data}/nlsyms.txt"]
    for split in ("train", "valid"):
        for name in INPUTS[task]:
            file = f"s2t_{name}" if (task, name) == ("s2t", "text") else name
            kind = "sound" if name == "speech" else "text"
            option = f"--{split}_data_path_and_name_and_type"
            words += [option, f"{data / file},{name},{kind}"]
        words += [f"--{split}_shape_file", f"{data}/shape"]
    return words


def train(
    task_class: type[AbsTask], task: str, data: Path, directory: Path, **changes: Any
) -> dict[str, torch.Tensor]:
    """Train in this process; returns the parameters of the last epoch."""
    task_class.main(cmd=command(task, data, directory, **changes))
    return torch.load(directory / "exp" / "latest.pth", weights_only=True)


def build(task: str, data: Path, directory: Path, **changes: Any) -> Any:
    """An untrained model in double precision."""
    cls = OURS[task]
    torch.manual_seed(1)
    args = cls.get_parser().parse_args(command(task, data, directory, **changes))
    return cls.build_model(args).double()
