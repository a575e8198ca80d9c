# SPDX-License-Identifier: Apache-2.0
"""Decode utterances in this process."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_objsoup.data.audio_io import read_audio
from espnet_objsoup.data.datadir import NO_VALUE, DataDir
from espnet_objsoup.decoding.options import DecodeOptions, SearchOptions
from espnet_objsoup.decoding.output import Output

if TYPE_CHECKING:
    import numpy as np

    from espnet_objsoup.inference import Hypothesis, Speech2Text

TASKS = ("asr", "st")


@dataclass(frozen=True)
class Request:
    """What to decode with what.

    Attributes:
        train_config, model_file: of the experiment.
        data_dir: dump directory.
        options: of the decoding YAML.
        batch_size: utterances at once.
        device, dtype: as torch names them.
    """

    train_config: Path
    model_file: Path
    data_dir: Path
    options: DecodeOptions = field(default_factory=DecodeOptions)
    batch_size: int = 20
    device: str = "cpu"
    dtype: str = "float32"

    def to_json(self) -> dict[str, Any]:
        """The request as JSON can hold it."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Request":
        """The inverse of `to_json`."""
        values = dict(content)
        options = dict(values.pop("options"))
        search = SearchOptions(**options.pop("search"))
        paths = {
            name: Path(values.pop(name)) for name in ("train_config", "model_file", "data_dir")
        }
        return cls(**paths, options=DecodeOptions(search, **options), **values)


def tasks_of(data: DataDir, utterance: str, objectives: Sequence[str]) -> list[str]:
    """Tasks in which an utterance has a reference and belongs to an objective of the model."""
    columns = data.columns
    lang, target = columns["utt2lang"][utterance], columns["utt2tgt"][utterance]
    found = []
    if columns["text"][utterance] != NO_VALUE and f"asr/{lang}" in objectives:
        found.append("asr")
    if columns["st_text"][utterance] != NO_VALUE and f"st/{lang}-{target}" in objectives:
        found.append("st")
    return found


def batches(data: DataDir, keys: Sequence[str], batch_size: int) -> Iterator[list[str]]:
    """Utterances of similar length together, longest first so that memory fails early."""
    samples = data.columns["utt2num_samples"]
    ordered = sorted(keys, key=lambda key: (-int(samples[key]), key))
    for i in range(0, len(ordered), batch_size):
        yield ordered[i : i + batch_size]


def decode(
    request: Request,
    data: DataDir,
    keys: Sequence[str],
    on_progress: Callable[[int], None] = lambda _: None,
) -> Output:
    """Decode utterances.

    Args:
        request: model and options.
        data: the data directory of the request.
        keys: utterances, all with a task in `tasks_of`.
        on_progress: told the number of utterances after every batch.

    Raises:
        ValueError: if the model or the audio is not what it should be.
    """
    from espnet_objsoup.inference import Speech2Text

    speech2text = Speech2Text(
        request.train_config,
        request.model_file,
        device=request.device,
        dtype=request.dtype,
        options=request.options.search,
    )
    session = _Session(speech2text, request.options, data)
    output = session.output
    start = time.monotonic()
    for batch in batches(data, keys, request.batch_size):
        session.decode(batch)
        on_progress(len(batch))
    output.seconds = output.wall_s = time.monotonic() - start
    logging.info(
        "%d utterances, %.1f s of audio in %.1f s: real-time factor %.4f",
        *(output.utterances, output.audio_s, output.seconds, output.seconds / output.audio_s),
    )
    return output


class _Session:
    """A loaded model that decodes batches into one output."""

    def __init__(self, speech2text: "Speech2Text", options: DecodeOptions, data: DataDir) -> None:
        self.speech2text = speech2text
        self.options = options
        self.data = data
        self.output = Output()

    def decode(self, batch: Sequence[str]) -> None:
        """Decode a batch; in halves where it does not fit into memory.

        Raises:
            RuntimeError: if an utterance alone does not, with its name.
        """
        import torch

        try:
            self._decode(batch, self._read(batch))
        except RuntimeError as err:
            # The CPU's allocator has no type of its own.
            if not isinstance(err, torch.OutOfMemoryError) and "CPUAllocator" not in str(err):
                raise
            if len(batch) == 1:
                samples = int(self.data.columns["utt2num_samples"][batch[0]])
                seconds = samples / self.speech2text.sample_rate_hz
                raise RuntimeError(
                    f"utterance {batch[0]} of {seconds:.0f} s does not fit into memory by itself; "
                    "leave it out, or transcribe it in pieces (docs/inference.md)"
                ) from err
            logging.warning("out of memory with %d utterances at once: in halves", len(batch))
            torch.cuda.empty_cache()
            middle = len(batch) // 2
            self.decode(batch[:middle])
            self.decode(batch[middle:])

    def _read(self, batch: Sequence[str]) -> dict[str, "np.ndarray"]:
        """Samples by location: rows of one clip, with different targets, share them."""
        locations = self.data.columns["wav.scp"]
        return {
            location: _read_at(location, self.speech2text.sample_rate_hz)
            for location in dict.fromkeys(locations[key] for key in batch)
        }

    def _decode(self, batch: Sequence[str], speeches: Mapping[str, "np.ndarray"]) -> None:
        columns = self.data.columns
        index = {location: i for i, location in enumerate(speeches)}
        clip = [index[columns["wav.scp"][key]] for key in batch]
        encoded = self._encode(list(speeches.values()))
        found: list[tuple[str, str, list[Hypothesis], int]] = []
        for task in self.speech2text.model.heads:
            objectives = self.speech2text.model.objectives
            rows = [i for i, k in enumerate(batch) if task in tasks_of(self.data, k, objectives)]
            if not rows:
                continue
            keys = [batch[i] for i in rows]
            found += self._search(task, keys, [clip[i] for i in rows], encoded)
        for directory, key, results, nbest in found:
            self.output.add(directory, key, results, nbest)
            logging.info("%s %s: %s (%.4f)", key, directory, results[0].text, results[0].score)
        rate = self.speech2text.sample_rate_hz
        durations = [len(samples) / rate for samples in speeches.values()]
        self.output.audio_s += sum(durations[i] for i in clip)
        self.output.utterances += len(batch)

    def _encode(self, speeches: list["np.ndarray"]) -> Any:
        """Encoder output and lengths, or None if all utterances are too short for the encoder."""
        from espnet2.legacy.nets.pytorch_backend.transformer.subsampling import TooShortUttError

        try:
            return self.speech2text.encode(speeches)
        except TooShortUttError as err:
            logging.warning("hypotheses of %d utterances are empty: %s", len(speeches), err)
            return None

    def _search(
        self, task: str, keys: list[str], rows: list[int], encoded: Any
    ) -> list[tuple[str, str, list["Hypothesis"], int]]:
        from espnet_objsoup.inference import Hypothesis

        speech2text, nbest = self.speech2text, self.options.nbest
        greedy = self.options.ctc_greedy and speech2text.model.heads[task].ctc is not None
        if encoded is None:
            empty = [[Hypothesis("", [], [], 0.0)] for _ in keys]
            searches = {task: empty, **({f"{task}_ctc": empty} if greedy else {})}
        else:
            h, lengths = encoded[0][rows], encoded[1][rows]
            langs = [self.data.columns["utt2lang"][key] for key in keys]
            targets = [self.data.columns["utt2tgt"][key] for key in keys]
            searches = {task: speech2text.search(h, lengths, task, langs, targets, nbest)}
            if greedy:
                paths = speech2text.greedy_ctc(h, lengths, task)
                searches[f"{task}_ctc"] = [[path] for path in paths]
        return [
            (directory, key, results, nbest if directory == task else 1)
            for directory, of_keys in searches.items()
            for key, results in zip(keys, of_keys, strict=True)
        ]


def _read_at(location: str, rate_hz: int) -> "np.ndarray":
    """Samples of a clip.

    Raises:
        ValueError: if it cannot be read or has another sampling rate than the model.
    """
    try:
        samples, rate = read_audio(location)
    except (ValueError, OSError) as err:
        raise ValueError(f"{location}: {err}") from err
    if rate != rate_hz:
        raise ValueError(
            f"{location}: expected {rate_hz} Hz as in training, found {rate}; run stage 3 with "
            "the model's --fs"
        )
    return samples
