# SPDX-License-Identifier: Apache-2.0
"""From ESPnet's options to the language sampler's batches."""

import argparse
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from espnet2.fileio.read_text import load_num_sequence_text, read_2columns_text
from espnet2.iterators.sequence_iter_factory import SequenceIterFactory
from espnet2.tasks.abs_task import IteratorOptions
from espnet2.train.dataset import AbsDataset
from torch.utils.data import DataLoader

from espnet_objsoup.objectives import ObjectiveSpec
from espnet_objsoup.train.preprocessor import NO_LABEL
from espnet_objsoup.train.random_state import seeded
from espnet_objsoup.train.sampler import (
    BatchLimit,
    LanguageSampler,
    SamplerError,
    SamplerOptions,
)


class LanguageIterFactory(SequenceIterFactory):
    """Iterators over a LanguageSampler's batches; augmentation follows from seed and epoch.

    Attributes:
        expected_counts: objective -> expected number of its utterances in a batch, over all
            processes; objectives that labels do not decide are missing.
    """

    def __init__(self, expected_counts: Mapping[str, float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.expected_counts = dict(expected_counts)

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> DataLoader:
        """Batches of an epoch, from 1, which can be entered anywhere."""
        return seeded(super().build_iter(epoch, shuffle), self.seed, epoch)


def batch_limit(batch_type: str, batch_bins: int, batch_size: int) -> BatchLimit:
    """Limit of a batch by ESPnet's options.

    Raises:
        SamplerError: for a batch type that the language sampler does not know.
    """
    if batch_type == "length":
        return BatchLimit(bins=batch_bins)
    if batch_type in ("sorted", "unsorted"):
        return BatchLimit(utterances=batch_size)
    raise SamplerError(
        f"batch_type: iterator_type task (language-stratified batches) takes length, with "
        f"batch_bins, or sorted, with batch_size; found {batch_type!r}. Choose one of them, or set "
        "iterator_type: sequence for ESPnet's own batches"
    )


def build_language_iter_factory(
    args: argparse.Namespace,
    iter_options: IteratorOptions,
    objectives: Iterable[str],
    dataset: AbsDataset,
) -> LanguageIterFactory:
    """The iterator factory of `iterator_type: task`.

    Args:
        args: of the task, with `sampler_conf`.
        iter_options: of the training data.
        objectives: names; their expected counts are worked out.
        dataset: of all utterances that `iter_options` names.

    Raises:
        SamplerError: if options and data do not fit together.
    """
    if not iter_options.shape_files:
        raise SamplerError(
            "train_shape_file: expected the speech_shape of stage 10, found none; the language "
            "sampler needs the lengths of utterances"
        )
    paths = {name: path for path, name, _ in iter_options.data_path_and_name_and_type}
    shapes = load_num_sequence_text(iter_options.shape_files[0], loader_type="csv_int")
    rank, world_size = 0, 1
    if iter_options.distributed:
        rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    languages = _language_of_utterances(paths)
    sampler = LanguageSampler(
        {key: shape[0] for key, shape in shapes.items()},
        languages,
        batch_limit(iter_options.batch_type, iter_options.batch_bins, iter_options.batch_size),
        SamplerOptions.from_dict(args.sampler_conf),
        rank,
        world_size,
        multiple=args.accum_grad,
    )
    logging.info("%s\n%s", sampler, sampler.summary())
    lonely = [lang for lang, rows in sampler.by_language.items() if len(rows) < 2]
    if lonely:
        logging.warning(
            "%s: only one utterance; it meets itself in its batch, so that nothing can be learnt "
            "about the gradient of its objectives. Add data, or leave the language out",
            ", ".join(lonely),
        )
    _warn_of_length(sampler)
    return LanguageIterFactory(
        expected_counts=_expected_counts(sampler, paths, languages, objectives),
        dataset=dataset,
        batches=sampler,
        seed=args.seed,
        num_iters_per_epoch=iter_options.num_iters_per_epoch,
        shuffle=True,
        num_workers=args.num_workers,
        collate_fn=iter_options.collate_fn,
        pin_memory=args.ngpu > 0,
    )


def _warn_of_length(sampler: LanguageSampler) -> None:
    """Say which utterances make batches that memory may not take."""
    oversized = sampler.oversized()
    if not oversized:
        return
    longest, length = next(iter(oversized.items()))
    logging.warning(
        "%d of %d utterances are so long that a batch exceeds batch_bins (%d), as the one of %s "
        "does (%d samples). Where memory does not take it, leave them out (stage 4, "
        "--max_wav_duration); where it does, raise batch_bins",
        *(len(oversized), len(sampler.keys), sampler.limit.bins, longest, length),
    )


def _language_of_utterances(paths: Mapping[str, str]) -> dict[str, str]:
    if "lang" not in paths:
        raise SamplerError(
            "training data: expected an input named lang (the file utt2lang), found "
            f"{', '.join(sorted(paths))}; add it, or set iterator_type: sequence"
        )
    return read_2columns_text(paths["lang"])


def _expected_counts(
    sampler: LanguageSampler,
    paths: Mapping[str, str],
    languages: Mapping[str, str],
    objectives: Iterable[str],
) -> dict[str, float]:
    columns = {
        name: read_2columns_text(paths[name])
        for name in ("text", "st_text", "tgt_lang")
        if name in paths
    }
    expected = {}
    for name in objectives:
        spec = ObjectiveSpec.parse(name)
        if spec.task == "ssl":  # which utterances can be used depends on their frames
            continue
        labels = columns["text" if spec.task == "asr" else "st_text"]
        expected[name] = sampler.per_batch(
            key
            for key, label in labels.items()
            if label != NO_LABEL
            and languages[key] == spec.lang
            and (spec.task == "asr" or columns["tgt_lang"][key] == spec.target_lang)
        )
    return expected
