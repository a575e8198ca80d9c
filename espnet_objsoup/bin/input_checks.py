# SPDX-License-Identifier: Apache-2.0
"""What training is given, checked before ESPnet is imported: rates, statistics, tokens."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from humanfriendly import InvalidSize, parse_size

from espnet_objsoup.data.audio_io import audio_info
from espnet_objsoup.data.datadir import NO_VALUE

_MAX_RATE_HZ = 1_000_000
# A share of unknown tokens in the training data that no rare name explains.
MAX_UNKNOWN = 0.1


def check_sample_rate(data_dir: Path, rate_hz: int, where: str) -> None:
    """Compare a model's sample rate with the first recording of a data directory.

    Args:
        data_dir: a dump directory; stage 3 gave all its audio one rate.
        rate_hz: what the model expects.
        where: the place that says so, for the message.

    Raises:
        ValueError: if they differ.
    """
    first = next(_lines(data_dir / "wav.scp"), None)
    if first is None:
        return
    utterance, location = first
    found = audio_info(location).sample_rate_hz
    if found != rate_hz:
        raise ValueError(
            f"{data_dir}/wav.scp: expected {rate_hz} Hz as {where} says, found {found} Hz in "
            f"{utterance}; run stage 3 with --fs {rate_hz}, or change frontend_conf.fs"
        )


def model_sample_rate(conf: Mapping[str, Any]) -> int | None:
    """Sample rate in Hz that a configuration gives its front end; None if it does not say.

    Raises:
        ValueError: for what is no rate.
    """
    if conf.get("input_size") is not None:
        return None  # features, not waveforms
    frontend = str(conf.get("frontend", "default")).lower()
    options = conf.get("frontend_conf") or {}
    value = options
    if isinstance(options, Mapping):
        value = options.get("fs", 16000 if frontend == "default" else None)
        if value is None:
            return None
    rate = value
    if isinstance(value, str):
        try:
            rate = parse_size(value)
        except InvalidSize:
            rate = None
    if not isinstance(rate, int) or isinstance(rate, bool) or not 0 < rate <= _MAX_RATE_HZ:
        raise ValueError(
            f"frontend_conf.fs: expected a sample rate such as 16000 or 16k, found {value!r}"
        )
    return rate


def check_statistics(stats_dir: Path, split: str, data_dir: Path) -> None:
    """Compare the lengths that statistics were made with to those of the data, for one utterance.

    Raises:
        ValueError: if they differ, or the utterance is not there.
    """
    shapes = dict(_lines(stats_dir / split / "speech_shape"))
    lengths = data_dir / "utt2num_samples"
    if not shapes or not lengths.exists():
        return
    n = 0
    for utterance, samples in _lines(lengths):
        n += 1
        known = shapes.get(utterance)
        if known is None or known.split(",")[0] != samples:
            raise ValueError(
                f"{stats_dir}/{split}/speech_shape: expected {samples} samples of {utterance} as "
                f"{lengths} says, found {known or 'no such utterance'}; the statistics are of "
                "other data: run stage 10 again (--stage 10 --force true)"
            )
    if n != len(shapes):
        raise ValueError(
            f"{stats_dir}/{split}/speech_shape: expected {n} utterances as {lengths} has, found "
            f"{len(shapes)}; run stage 10 again (--stage 10 --force true)"
        )


@dataclass
class Coverage:
    """How much of some texts a token list covers.

    Attributes:
        texts, tokens: how many there are.
        unknown: tokens outside the list and how often they occur.
        utterances: utterances with such a token, in order.
    """

    texts: int = 0
    tokens: int = 0
    unknown: Counter[str] = field(default_factory=Counter)
    utterances: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        texts: Iterable[tuple[str, str]],
        tokenize: Callable[[str, str], Sequence[str]],
        known: frozenset[str],
    ) -> "Coverage":
        """Count the tokens, `tokenize(utterance, text)`, of such pairs; `<na>` is no text."""
        result = cls()
        for utterance, text in texts:
            if text == NO_VALUE:
                continue
            tokens = tokenize(utterance, text)
            outside = [token for token in tokens if token not in known]
            result.texts += 1
            result.tokens += len(tokens)
            result.unknown.update(outside)
            if outside:
                result.utterances.append(utterance)
        return result

    def describe(self) -> str:
        """The unknown tokens in words."""
        worst = ", ".join(f"{token!r} ({n} times)" for token, n in self.unknown.most_common(5))
        more = len(self.unknown) - 5
        return (
            f"{self.unknown.total()} of {self.tokens} tokens, in {len(self.utterances)} of "
            f"{self.texts} texts (first: {self.utterances[0]}), are not in the token list: {worst}"
            + (f" and {more} more" if more > 0 else "")
        )


def check_tokens(data_dir: Path, token_dir: Path, strict: bool) -> str | None:
    """Look for text that a token list does not cover; training reads such tokens as `<unk>`.

    Args:
        data_dir: dump directory with `text` and `st_text`.
        token_dir: result of stage 5.
        strict: whether many unknown tokens are an error: the training data, which the list is
            made from.

    Returns:
        A warning, or None.

    Raises:
        ValueError: with `strict`, if more than a tenth of the tokens is unknown.
    """
    known = frozenset((token_dir / "tokens.txt").read_text(encoding="utf-8").split("\n"))
    warnings = []
    for name, languages in (("text", "utt2lang"), ("st_text", "utt2tgt")):
        path = data_dir / name
        if not path.exists():
            continue
        tokenize = _tokenizer(token_dir, data_dir / languages)
        coverage = Coverage.of(_lines(path), tokenize, known)
        if not coverage.unknown:
            continue
        message = f"{path}: {coverage.describe()}"
        if strict and coverage.unknown.total() > MAX_UNKNOWN * coverage.tokens:
            raise ValueError(
                f"{message}; expected a token list made from this text: run stage 5 again, or give "
                f"its --token_type and --nbpe (used: {token_dir})"
            )
        warnings.append(f"warning: {message}; they are read as <unk>")
    return "\n".join(warnings) or None


def _tokenizer(token_dir: Path, languages: Path) -> Callable[[str, str], Sequence[str]]:
    """As training tokenises with the files of stage 5: (utterance, text) -> tokens."""
    path = token_dir / "bpe.model"
    if not path.exists():
        return lambda _, text: ["<space>" if character == " " else character for character in text]
    from espnet_objsoup.data.bpe_model import BpeModel

    model = BpeModel.read(path)
    language_of = dict(_lines(languages)) if model.languages else {}

    def tokenize(utterance: str, text: str) -> list[str]:
        lang = language_of.get(utterance)
        if not model.knows(lang):
            return [f"a text in {lang}, which is in no group"]
        return model.encode(text, lang)

    return tokenize


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    with open(path, encoding="utf-8") as file:
        for line in file:
            key, _, value = line.rstrip("\n").partition(" ")
            if key:
                yield key, value.strip()
