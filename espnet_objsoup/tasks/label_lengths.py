# SPDX-License-Identifier: Apache-2.0
"""Labels that CTC cannot align: more tokens than the encoder has frames."""

import argparse
import logging
from pathlib import Path

import torch
from espnet2.fileio.read_text import load_num_sequence_text

from espnet_objsoup.models.feature_lengths import feature_lengths
from espnet_objsoup.models.objsoup_model import ESPnetObjSoupModel
from espnet_objsoup.models.ssl import Subsampling, measure_subsampling

# Above this share of the utterances the configuration is at fault, not the data.
MOST_INFEASIBLE = 0.1
_SHOWN = 5


def check_label_lengths(model: ESPnetObjSoupModel, args: argparse.Namespace) -> None:
    """Compare tokens with encoder frames in the training data, from the shapes of stage 10.

    A CTC loss without an alignment is counted as zero, so that such an utterance teaches nothing
    and nobody notices. An alignment needs another frame between equal neighbours, which shapes do
    not tell: what is found here is a lower bound of the share that is logged in training.

    Raises:
        ValueError: if more than MOST_INFEASIBLE of the utterances have more tokens than frames.
    """
    if not args.train_shape_file or model.frontend is None:
        return
    directory = Path(args.train_shape_file[0]).parent
    try:
        subsampling = measure_subsampling(
            model.encoder, model.preencoder, model.frontend.output_size()
        )
    except ValueError as err:
        logging.info("labels are not compared with encoder frames: %s", err)
        return
    samples = load_num_sequence_text(args.train_shape_file[0], loader_type="csv_int")
    for task, file in (("asr", "text_shape"), ("st", "st_text_shape")):
        if task in model.heads and model.heads[task].ctc is not None:
            _check_task(model, subsampling, samples, directory / file, task)


def _check_task(
    model: ESPnetObjSoupModel,
    subsampling: Subsampling,
    samples: dict[str, list[int]],
    path: Path,
    task: str,
) -> None:
    if not path.exists():
        return
    tokens = {
        key: shape[0]
        for key, shape in load_num_sequence_text(str(path), loader_type="csv_int").items()
        if shape[0] > 0 and key in samples
    }
    keys = list(tokens)
    lengths = torch.tensor([samples[key][0] for key in keys])
    frames = subsampling.length(feature_lengths(model.frontend, lengths[:, None], lengths))
    found = [
        f"{key} ({tokens[key]} tokens, {n} frames)"
        for key, n in zip(keys, frames.tolist(), strict=True)
        if tokens[key] > n
    ]
    if not found:
        return
    message = (
        f"{path}: expected at most as many tokens as encoder frames, which CTC needs, found more "
        f"in {len(found)} of {len(keys)} utterances of task {task}, such as "
        f"{', '.join(found[:_SHOWN])} (equal neighbours need a frame more)"
    )
    if len(found) > MOST_INFEASIBLE * len(keys):
        raise ValueError(
            f"{message}. Use an input_layer with less subsampling, a shorter hop_length, or longer "
            f"tokens (a larger --nbpe); or model_conf.{task}_ctc_weight: 0"
        )
    logging.warning("%s; their CTC loss is counted as zero", message)
