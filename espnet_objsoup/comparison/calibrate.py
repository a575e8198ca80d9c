# SPDX-License-Identifier: Apache-2.0
"""Equal cost: what an epoch of every arm takes, and how many are as long as a reference run."""

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_objsoup.comparison.fingerprint import config_fingerprint
from espnet_objsoup.comparison.plan import EQUAL_COST, Arm, Comparison
from espnet_objsoup.comparison.process import Commands
from espnet_objsoup.comparison.recipe import Place
from espnet_objsoup.comparison.trainings import Training, configuration, trainings_of
from espnet_objsoup.data.files import write_bytes
from espnet_objsoup.objectives.trainer_conf import SoupConf

# A short training and a longer one: the start (imports, statistics) is the same in both and cancels
# out. The longer one has so many epochs more at least, and whole intervals between scans.
_SHORT, _MORE = 1, 2
_SEED = 1


class Calibration:
    """Processor time of an epoch by kind of training, measured once and kept.

    Args:
        comparison: the file.
        place: the variant.
        results: directory of results.
        data: fingerprint of the data.
    """

    def __init__(self, comparison: Comparison, place: Place, results: Path, data: str) -> None:
        self.comparison, self.place, self.data = comparison, place, data
        self.path = results / (place.variant.name + EQUAL_COST) / "calibration.json"
        self._lock = threading.Lock()

    def kinds(self, arms: Sequence[Arm]) -> dict[str, Training]:
        """A training of every kind that the arms, and the reference, consist of."""
        found: dict[str, Training] = {}
        reference = self.comparison.arms[self.comparison.reference]
        for arm in [reference, *arms]:
            for training in trainings_of(self.comparison, self.place.variant, arm, _SEED):
                # Arms whose cost is another's come with that one.
                if training.kind in self.comparison.arms:
                    own = self.comparison.arms[training.kind]
                    training = trainings_of(self.comparison, self.place.variant, own, _SEED)[-1]
                found.setdefault(training.kind, training)
        return found

    def missing(self, arms: Sequence[Arm]) -> dict[str, Training]:
        """Kinds that have not been measured with these configurations and data."""
        known = self._read()
        return {
            kind: training
            for kind, training in self.kinds(arms).items()
            if known.get(kind, {}).get("fingerprint") != self._fingerprint(training)
        }

    def measure(self, kind: str, training: Training, commands: Commands) -> float:
        """Seconds of the processor that an epoch takes."""
        seconds = []
        more = _epochs_more(training)
        for epochs in (_SHORT, _SHORT + more):
            tag = f"{self.place.variant.name}_calibrate_{kind}_{epochs}"
            self.place.remove([tag])
            self.place.write_config(tag, {**training.conf, "max_epoch": epochs})
            options = ("--config", str(self.place.config(tag)), "--tag", tag)
            used = commands.run(self.place.command(11, 11, *options), self.place.log(tag))
            seconds.append(used.cpu_seconds)
            self.place.clean(tag, keep_decoded=False)
        return (seconds[1] - seconds[0]) / more

    def keep(self, kind: str, training: Training, seconds: float) -> None:
        """Note a measurement.

        Raises:
            ValueError: if it cannot be one.
        """
        if seconds <= 0:
            raise ValueError(
                f"{kind}: expected the longer training to take longer than that of {_SHORT} epoch, "
                f"found {seconds:.2f} s per epoch; run again on a machine that is less busy"
            )
        entry = {"seconds_per_epoch": round(seconds, 3), "fingerprint": self._fingerprint(training)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            content = json.dumps({**self._read(), kind: entry}, indent=1, sort_keys=True)
            write_bytes(self.path, content.encode() + b"\n")

    def epochs(self, arm: Arm) -> int:
        """Epochs of an arm's run that take as long as the reference's run.

        Raises:
            KeyError: if a kind has not been measured.
        """
        known = self._read()
        total = configuration(self.comparison, self.place.variant, {}, _SEED)["max_epoch"]
        trainings = trainings_of(self.comparison, self.place.variant, arm, _SEED)
        cost = sum(t.epochs * known[t.kind]["seconds_per_epoch"] for t in trainings)
        reference = total * known[self.comparison.reference]["seconds_per_epoch"]
        return max(round(total * reference / cost), 1)

    def _fingerprint(self, training: Training) -> str:
        return config_fingerprint([training], {"data": self.data})

    def _read(self) -> Mapping[str, Any]:
        if not self.path.exists():
            return {}
        try:
            return dict(json.loads(self.path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as err:
            raise ValueError(f"{self.path}: expected JSON, found {err}; remove it") from err


def _epochs_more(training: Training) -> int:
    """At least `_MORE`, and a multiple of the interval between scans, which are dear."""
    soup = SoupConf.from_dict(training.conf.get("trainer_conf") or {})
    scans = soup.monitor or soup.layers.policy == "conflict"
    interval = max(soup.layers.scan_interval, 1) if scans else 1
    return -(-_MORE // interval) * interval
