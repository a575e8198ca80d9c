# SPDX-License-Identifier: Apache-2.0
"""Parts of the model that a YAML names, and how they are built."""

import argparse

import torch
from espnet2.asr.ctc import CTC
from espnet2.asr.decoder.abs_decoder import AbsDecoder
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from espnet2.tasks import asr as espnet_asr
from espnet2.train.class_choices import ClassChoices
from espnet2.utils.get_default_kwargs import get_default_kwargs

from espnet_objsoup.models.ssl import CPC, AbsSSLHead, BestRQ, measure_subsampling
from espnet_objsoup.models.task_head import TaskHead
from espnet_objsoup.tasks.model_options import ModelOptions

frontend_choices = espnet_asr.frontend_choices
specaug_choices = espnet_asr.specaug_choices
normalize_choices = espnet_asr.normalize_choices
preencoder_choices = espnet_asr.preencoder_choices
encoder_choices = ClassChoices(
    "encoder",
    classes=dict(espnet_asr.encoder_choices.classes),
    type_check=AbsEncoder,
    default="e_branchformer",
)
# Decoders that take a prompt and return one distribution per target position.
_decoders = {
    name: espnet_asr.decoder_choices.classes[name]
    for name in ("transformer", "lightweight_conv", "dynamic_conv", "rnn")
}
asr_decoder_choices = ClassChoices(
    "asr_decoder", classes=dict(_decoders), type_check=AbsDecoder, default=None, optional=True
)
st_decoder_choices = ClassChoices(
    "st_decoder", classes=dict(_decoders), type_check=AbsDecoder, default="transformer"
)
ssl_choices = ClassChoices(
    "ssl",
    classes={"cpc": CPC, "best_rq": BestRQ},
    type_check=AbsSSLHead,
    default=None,
    optional=True,
)


def build(choices: ClassChoices, name: str | None, conf: dict) -> torch.nn.Module | None:
    """A component by its name, None for none."""
    return None if name is None else choices.get_class(name)(**conf)


def build_frontend(args: argparse.Namespace) -> tuple[torch.nn.Module | None, int]:
    """The front end (None if the data are features) and the dimension of features."""
    if args.input_size is not None:
        args.frontend, args.frontend_conf = None, {}
        return None, args.input_size
    frontend = frontend_choices.get_class(args.frontend)(**args.frontend_conf)
    return frontend, frontend.output_size()


def build_ssl_head(
    args: argparse.Namespace,
    feature_size: int,
    preencoder: torch.nn.Module | None,
    encoder: AbsEncoder,
) -> AbsSSLHead | None:
    """The head of `ssl`, None without it.

    Raises:
        ValueError: for options that do not exist or do not belong to it.
    """
    name = getattr(args, "ssl", None)
    if name is None:
        if getattr(args, "ssl_conf", None):
            raise ValueError(
                f"ssl_conf: expected it empty with ssl: none, found {', '.join(args.ssl_conf)}; "
                "set ssl: cpc or ssl: best_rq"
            )
        return None
    head_class = ssl_choices.get_class(name)
    known = get_default_kwargs(head_class)
    unknown = sorted(set(args.ssl_conf) - set(known))
    if unknown:
        raise ValueError(
            f"ssl_conf: unknown key {', '.join(unknown)} for ssl: {name}; known keys: "
            f"{', '.join(known)}"
        )
    subsampling = measure_subsampling(encoder, preencoder, feature_size)
    return head_class(feature_size, encoder.output_size(), subsampling, **args.ssl_conf)


def check_encoder_conf(conf: dict) -> None:
    """Refuse options that would put head parameters inside the shared encoder.

    Raises:
        ValueError: naming the option.
    """
    for key in ("interctc_layer_idx", "interctc_use_conditioning"):
        if conf.get(key):
            raise ValueError(
                f"encoder_conf.{key}: expected it unset, found {conf[key]}; intermediate CTC would "
                "put head parameters inside the shared encoder"
            )


def build_heads(
    args: argparse.Namespace, options: ModelOptions, objectives: list[str], size: int
) -> tuple[TaskHead | None, TaskHead | None]:
    """Heads for the tasks that the objectives need."""
    tasks = {name.split("/")[0] for name in objectives}
    vocabulary = len(args.token_list)

    def decoder(choices: ClassChoices, name: str | None, conf: dict) -> AbsDecoder | None:
        if name is None:
            return None
        return choices.get_class(name)(vocab_size=vocabulary, encoder_output_size=size, **conf)

    def ctc(weight: float) -> CTC | None:
        if weight == 0.0:
            return None
        return CTC(odim=vocabulary, encoder_output_size=size, reduce=False, **args.ctc_conf)

    st_decoder = None
    if "st" in tasks or options.shared_decoder:
        st_decoder = decoder(st_decoder_choices, args.st_decoder, args.st_decoder_conf)
    if options.shared_decoder:
        if args.asr_decoder is not None:
            raise ValueError(
                "model_conf.shared_decoder is true: the decoder of both tasks is st_decoder; "
                f"remove asr_decoder (found {args.asr_decoder})"
            )
        asr_decoder = st_decoder
    else:
        asr_decoder = decoder(asr_decoder_choices, args.asr_decoder, args.asr_decoder_conf)
    loss = {"label_smoothing": options.label_smoothing, "loss_mode": options.loss_mode}
    asr_head = st_head = None
    if "asr" in tasks:
        asr_head = TaskHead(
            asr_decoder, ctc(options.asr_ctc_weight), options.asr_ctc_weight, **loss
        )
    if "st" in tasks:
        st_head = TaskHead(st_decoder, ctc(options.st_ctc_weight), options.st_ctc_weight, **loss)
    return asr_head, st_head
