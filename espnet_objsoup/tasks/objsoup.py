# SPDX-License-Identifier: Apache-2.0
"""ObjSoupTask: multilingual recognition and translation with a choice of trainer."""

import argparse
import logging
from collections.abc import Callable, Collection
from typing import ClassVar

import numpy as np
import torch
from espnet2.asr.ctc import CTC
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.tasks.abs_task import IteratorOptions
from espnet2.torch_utils.initialize import initialize
from espnet2.train.class_choices import ClassChoices
from espnet2.train.collate_fn import CommonCollateFn
from espnet2.train.preprocessor import AbsPreprocessor
from espnet2.train.trainer import Trainer
from espnet2.utils.get_default_kwargs import get_default_kwargs
from espnet2.utils.nested_dict_action import NestedDictAction
from espnet2.utils.types import int_or_none, str2bool, str_or_none

from espnet_objsoup.models.objsoup_model import ESPnetObjSoupModel
from espnet_objsoup.objectives import soup_table, waiting_note
from espnet_objsoup.tasks.choose_trainer import ChoosesTrainer
from espnet_objsoup.tasks.components import (
    asr_decoder_choices,
    build,
    build_frontend,
    build_heads,
    build_ssl_head,
    check_encoder_conf,
    encoder_choices,
    frontend_choices,
    normalize_choices,
    preencoder_choices,
    specaug_choices,
    ssl_choices,
    st_decoder_choices,
)
from espnet_objsoup.tasks.label_lengths import check_label_lengths
from espnet_objsoup.tasks.model_options import ModelOptions
from espnet_objsoup.tasks.objective_discovery import (
    discover_objectives,
    languages_of,
    with_self_supervision,
)
from espnet_objsoup.train.archives import run_nothing
from espnet_objsoup.train.iterators import build_language_iter_factory
from espnet_objsoup.train.objsoup_trainer import ObjSoupTrainer
from espnet_objsoup.train.options import SoupConf, check_trainer_conf
from espnet_objsoup.train.preprocessor import ObjSoupPreprocessor
from espnet_objsoup.train.sampler import SamplerOptions

preprocessor_choices = ClassChoices(
    "preprocessor",
    classes={"objsoup": ObjSoupPreprocessor},
    type_check=AbsPreprocessor,
    default="objsoup",
)
trainer_choices = ClassChoices(
    "trainer",
    classes={"default": Trainer, "objsoup": ObjSoupTrainer},
    type_check=Trainer,
    default="default",
)


class ObjSoupTask(ChoosesTrainer):
    """ESPnet task for ASR and ST in several languages with one shared encoder.

    `trainer: default` is ESPnet's own trainer on a fixed weighted sum of the losses;
    `trainer: objsoup` with `trainer_conf` optimises the objectives as a soup.
    """

    num_optimizers: int = 1
    trainer = Trainer
    trainer_choices = trainer_choices
    check_trainer_conf = staticmethod(check_trainer_conf)
    # Whether a model is built to be trained, and not to be loaded.
    is_training = False
    class_choices_list: ClassVar[list[ClassChoices]] = [
        frontend_choices,
        specaug_choices,
        normalize_choices,
        preencoder_choices,
        encoder_choices,
        asr_decoder_choices,
        st_decoder_choices,
        ssl_choices,
        preprocessor_choices,
        trainer_choices,
    ]

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """Check the soup against the data before anything is built, then run ESPnet's worker.

        Raises:
            ValueError: for options that cannot be used.
        """
        run_nothing()
        name, conf = getattr(args, "trainer", "default"), getattr(args, "trainer_conf", {})
        check_trainer_conf(name, conf)
        SamplerOptions.from_dict(getattr(args, "sampler_conf", {}))
        if getattr(args, "print_soup", False) and name != "objsoup":
            raise ValueError(
                f"print_soup: expected trainer: objsoup, found {name}: no soup to print"
            )
        if name == "objsoup" and not args.collect_stats:
            soup = SoupConf.from_dict(conf)
            levels = soup.resolve(_objectives(args))
            if args.print_soup:
                note = waiting_note(levels, soup.weights_interval)
                print(soup_table(levels) + (f"\n{note}" if note else ""))
                return
        cls.is_training = not args.collect_stats
        try:
            super().main_worker(args)
        finally:
            cls.is_training = False

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options of the model, the preprocessor and the trainer."""
        parser.get_default("required").append("token_list")
        group = parser.add_argument_group("Task related")
        group.add_argument(
            "--token_list",
            type=str_or_none,
            default=None,
            help="tokens.txt of stage 5: <blank>, <unk>, a symbol per language, ..., <sos/eos>",
        )
        group.add_argument(
            "--objectives",
            type=str,
            nargs="*",
            default=None,
            help="Objectives such as asr/fr st/fr-en. Default: all that the training data holds",
        )
        group.add_argument(
            "--init",
            type=lambda x: str_or_none(x.lower()),
            default=None,
            choices=["xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal", None],
            help="Initialisation of the parameters",
        )
        group.add_argument(
            "--input_size",
            type=int_or_none,
            default=None,
            help="Feature dimension if the data are features; None: waveforms, with --frontend",
        )
        group.add_argument(
            "--ctc_conf",
            action=NestedDictAction,
            default={
                k: v for k, v in get_default_kwargs(CTC).items() if k not in ("reduce", "ctc_type")
            },
            help="Options of ESPnet's CTC",
        )
        group.add_argument(
            "--model_conf",
            action=NestedDictAction,
            default=get_default_kwargs(ModelOptions),
            help="Options of the model: " + ModelOptions.help(),
        )
        group = parser.add_argument_group("Preprocess related")
        group.add_argument("--use_preprocessor", type=str2bool, default=True)
        group.add_argument("--token_type", type=str, default="bpe", choices=["bpe", "char", "word"])
        group.add_argument(
            "--bpemodel", type=str_or_none, default=None, help="bpe.model of stage 5"
        )
        group.add_argument("--cleaner", type=str_or_none, default=None, help="ESPnet text cleaner")
        for choices in cls.class_choices_list:
            choices.add_arguments(group)
        group.add_argument(
            "--print_soup",
            type=str2bool,
            default=False,
            help="Print the resolved soup (levels, objectives, weightings, coefficients) and stop",
        )
        # Batches of all languages; `iterator_type: sequence` gives ESPnet's own.
        parser.set_defaults(iterator_type="task", batch_type="length")
        group.add_argument(
            "--sampler_conf",
            action=NestedDictAction,
            default=get_default_kwargs(SamplerOptions),
            help="Options of iterator_type task, batches of all languages",
        )

    @classmethod
    def build_task_iter_factory(
        cls, args: argparse.Namespace, iter_options: IteratorOptions, mode: str
    ) -> AbsIterFactory:
        """Language-stratified batches for training; validation takes every utterance once."""
        if mode != "train":
            return cls.build_sequence_iter_factory(args, iter_options, mode)
        dataset = cls.build_dataset(args, iter_options)
        return build_language_iter_factory(args, iter_options, _objectives(args), dataset)

    @classmethod
    def build_collate_fn(
        cls, args: argparse.Namespace, train: bool
    ) -> Callable[
        [Collection[tuple[str, dict[str, np.ndarray]]]], tuple[list[str], dict[str, torch.Tensor]]
    ]:
        """Pad speech with 0 and tokens with -1; language indices have no lengths."""
        return CommonCollateFn(
            float_pad_value=0.0, int_pad_value=-1, not_sequence=["lang", "tgt_lang"]
        )

    @classmethod
    def build_preprocess_fn(
        cls, args: argparse.Namespace, train: bool
    ) -> Callable[[str, dict[str, np.ndarray]], dict[str, np.ndarray]] | None:
        """The preprocessor, or None with `--use_preprocessor false`."""
        if not args.use_preprocessor:
            return None
        return preprocessor_choices.get_class(args.preprocessor)(
            train=train,
            languages=languages_of(_objectives(args)),
            token_type=args.token_type,
            token_list=args.token_list,
            bpemodel=args.bpemodel,
            text_cleaner=args.cleaner,
            **{k: v for k, v in args.preprocessor_conf.items() if k != "languages"},
        )

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Inputs that every run needs."""
        return ("speech",) if inference else ("speech", "lang")

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Inputs that depend on the tasks at hand."""
        return ("text", "st_text", "tgt_lang", "lang")

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ESPnetObjSoupModel:
        """Build the model; the token list and the objectives are written into `args`.

        Raises:
            ValueError: for options that contradict each other or the data.
        """
        args.token_list = _token_list(args.token_list)
        objectives = _objectives(args)
        # Not where they are found: that is before ESPnet sets up logging, which the module's
        # functions would do in another way.
        logging.info("Objectives: %s", ", ".join(objectives))
        options = ModelOptions.from_dict(args.model_conf)
        frontend, feature_size = build_frontend(args)
        specaug = build(specaug_choices, args.specaug, args.specaug_conf)
        normalize = build(normalize_choices, args.normalize, args.normalize_conf)
        preencoder = build(preencoder_choices, args.preencoder, args.preencoder_conf)
        input_size = feature_size if preencoder is None else preencoder.output_size()
        check_encoder_conf(args.encoder_conf)
        encoder = encoder_choices.get_class(args.encoder)(
            input_size=input_size, **args.encoder_conf
        )
        asr_head, st_head = build_heads(args, options, objectives, encoder.output_size())
        ssl_head = build_ssl_head(args, feature_size, preencoder, encoder)
        model = ESPnetObjSoupModel(
            token_list=args.token_list,
            languages=languages_of(objectives),
            objectives=objectives,
            frontend=frontend,
            specaug=specaug,
            normalize=normalize,
            preencoder=preencoder,
            encoder=encoder,
            asr_head=asr_head,
            st_head=st_head,
            objective_weights=options.resolve_weights(objectives),
            ssl_head=ssl_head,
        )
        if args.init is not None:
            initialize(model, args.init)
        if cls.is_training:
            check_label_lengths(model, args)
        return model


def _token_list(value: str | list[str] | None) -> list[str]:
    if isinstance(value, str):
        with open(value, encoding="utf-8") as file:
            value = [line.rstrip("\n") for line in file]
    if not value or value[0] != "<blank>" or value[-1] != "<sos/eos>":
        raise ValueError(
            "token_list: expected <blank> as the first and <sos/eos> as the last token, found "
            f"{value[0] if value else 'nothing'} and {value[-1] if value else 'nothing'}; "
            "make it by stage 5 (espnet_objsoup.bin.make_token_list)"
        )
    return list(value)


def _objectives(args: argparse.Namespace) -> list[str]:
    """Objectives of the options, else of the training data; kept in `args` for config.yaml."""
    ssl = getattr(args, "ssl", None)  # not in configurations of earlier versions
    args.objectives = with_self_supervision(args.objectives, ssl)
    if not args.objectives:
        args.objectives = discover_objectives(args.train_data_path_and_name_and_type, ssl)
    return list(args.objectives)
