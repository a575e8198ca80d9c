# SPDX-License-Identifier: Apache-2.0
"""A small untrained experiment on disk: config.yaml and weights, as stage 11 leaves them."""

from pathlib import Path

import torch
import yaml

from espnet_objsoup.tasks.objsoup import ObjSoupTask

TOKENS = ["<blank>", "<unk>", "<de>", "<en>", "<fr>", "<space>", *"abcdefghij", "<sos/eos>"]
OBJECTIVES = ["asr/en", "asr/fr", "st/fr-en"]
DECODER = {
    "attention_heads": 2,
    "linear_units": 32,
    "num_blocks": 1,
    "dropout_rate": 0.0,
    "positional_dropout_rate": 0.0,
    "self_attention_dropout_rate": 0.0,
    "src_attention_dropout_rate": 0.0,
}
CONFIG = {
    "objectives": OBJECTIVES,
    "token_type": "char",
    "frontend_conf": {
        "fs": "16k",
        "n_fft": 512,
        "win_length": 400,
        "hop_length": 160,
        "n_mels": 20,
    },
    "encoder_conf": {
        "output_size": 16,
        "attention_heads": 2,
        "cgmlp_linear_units": 32,
        "cgmlp_conv_kernel": 3,
        "linear_units": 32,
        "num_blocks": 1,
        "input_layer": "conv1d2",
        "rel_pos_type": "latest",
        "dropout_rate": 0.0,
        "positional_dropout_rate": 0.0,
        "attention_dropout_rate": 0.0,
    },
    "asr_decoder": "transformer",
    "asr_decoder_conf": DECODER,
    "st_decoder_conf": DECODER,
    "init": "xavier_uniform",
}


def parse(directory: Path, conf: dict, *arguments: str):
    """ESPnet's arguments of a YAML, as training parses them."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "train.yaml").write_text(yaml.safe_dump(conf))
    (directory / "tokens.txt").write_text("\n".join(TOKENS) + "\n")
    command = ["--config", f"{directory}/train.yaml", "--token_list", f"{directory}/tokens.txt"]
    command += ["--output_dir", str(directory), *arguments]
    return ObjSoupTask.get_parser().parse_args(command)


def make_experiment(directory: Path, **changes: object) -> Path:
    """Write an experiment with `CONFIG` and changes to it; returns its directory."""
    torch.manual_seed(1)
    args = parse(directory, {**CONFIG, **changes})
    model = ObjSoupTask.build_model(args)
    # Larger weights than at the start of training, so that hypotheses differ between utterances.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
    torch.save(model.state_dict(), directory / "model.pth")
    (directory / "config.yaml").write_text(yaml.safe_dump(vars(args)))
    return directory
