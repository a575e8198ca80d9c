# SPDX-License-Identifier: Apache-2.0
"""Where the recipe has things, and how its stages are called."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from espnet_objsoup.bin.check_config import read_yaml
from espnet_objsoup.comparison.fingerprint import data_fingerprint
from espnet_objsoup.comparison.plan import PlanError, Variant
from espnet_objsoup.data.files import write_bytes

SIZE = "compare"
TEST_SET = "test"
# The last epoch's: a best or averaged epoch would be chosen by different losses, as those of some
# arms include self-supervision.
_MODEL = "latest.pth"


@dataclass(frozen=True)
class Place:
    """A variant's part of the recipe, whose directory is the working one.

    Attributes:
        variant: with the options of its data.
        run: the recipe's script.
        inference_config: options of decoding.
    """

    variant: Variant
    run: str
    inference_config: Path

    def _directory(self, kind: str) -> Path:
        # Variants with the same data share all of it, experiments have names of their own.
        own = f"_{self.variant.name}" if self.variant.data else ""
        return Path(f"{kind}_{SIZE}{own}")

    @property
    def exp(self) -> Path:
        """Directory of experiments."""
        return self._directory("exp")

    @property
    def decoding(self) -> dict[str, Any]:
        """Options of decoding."""
        return read_yaml(self.inference_config)

    def experiment(self, tag: str) -> Path:
        """Directory of an experiment."""
        return self.exp / tag

    def log(self, tag: str) -> Path:
        """Log of a run."""
        return self.exp / "logs" / f"{tag}.log"

    def config(self, tag: str) -> Path:
        """Configuration of a training."""
        return self.exp / "conf" / f"{tag}.yaml"

    def write_config(self, tag: str, conf: dict[str, Any]) -> None:
        """Write the configuration of a training."""
        path = self.config(tag)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, yaml.safe_dump(conf, sort_keys=False, allow_unicode=True).encode())

    def weights(self, tag: str, modules: str = "") -> str:
        """Weights of a training, as `--init_param` wants them."""
        return f"{self.experiment(tag) / _MODEL}{':' + modules if modules else ''}"

    def decode_dir(self, tag: str) -> Path:
        """Hypotheses of the test set."""
        name = f"decode_{self.inference_config.stem}_{_MODEL.removesuffix('.pth')}"
        return self.experiment(tag) / name / TEST_SET

    @property
    def dump_test(self) -> Path:
        """References of the test set."""
        return self._directory("dump") / "raw" / TEST_SET

    def command(self, stage: int, stop_stage: int, *more: str) -> list[str]:
        """Words that run stages of this variant."""
        data = self.variant.data
        words = [self.run, "--size", SIZE]
        for key in ("langs", "st_pairs", "nbpe"):
            words += [f"--{key}", data[key]] if key in data else []
        if "rare" in data:
            words += ["--local_data_opts", f"--size {SIZE} --rare {data['rare']}"]
        for kind in ("data", "dump", "exp"):
            words += [f"--{kind}dir", str(self._directory(kind))]
        words += ["--inference_model", _MODEL]
        return [*words, "--stage", str(stage), "--stop_stage", str(stop_stage), *more]

    def fingerprint(self) -> str:
        """Checksum of the prepared data.

        Raises:
            PlanError: if there are several token lists, or none.
            OSError: if the data are not prepared.
        """
        lists = sorted((self._directory("data") / "token_list").glob("*/tokens.txt"))
        if len(lists) != 1:
            raise PlanError(
                f"{self._directory('data')}/token_list: expected one token list, found "
                f"{', '.join(path.parent.name for path in lists) or 'none'}; remove those of "
                "other experiments"
            )
        dump = self._directory("dump") / "raw"
        return data_fingerprint([dump / name for name in ("train", "dev", TEST_SET)], lists[0])

    def clean(self, tag: str, keep_decoded: bool) -> None:
        """Remove an experiment's weights, but those that were decoded where that is wanted."""
        decoded = self.experiment(tag) / _MODEL
        kept = {decoded.name, decoded.resolve().name} if keep_decoded else set()
        for path in self.experiment(tag).glob("*.pth"):
            if path.name not in kept:
                path.unlink()

    def remove(self, tags: Sequence[str]) -> None:
        """Remove what unfinished runs have left: times are those of whole runs."""
        for tag in tags:
            shutil.rmtree(self.experiment(tag), ignore_errors=True)
        self.log(tags[-1]).unlink(missing_ok=True)
