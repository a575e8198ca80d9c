# SPDX-License-Identifier: Apache-2.0
"""One line about where training stands: losses per objective, speed, time to go."""

import math
import time
from collections.abc import Iterable, Mapping

from espnet2.train.trainer import TrainerOptions
from humanfriendly import format_timespan
from torch import Tensor


class Progress:
    """Counts utterances and averages statistics between two lines.

    Attributes:
        first: micro-batches done before this process began.

    Args:
        epoch: current epoch, from 1.
        max_epoch: last epoch.
        iterations: micro-batches of an epoch, None if unknown.
        log_interval: micro-batches between two lines.
    """

    def __init__(
        self, epoch: int, max_epoch: int, iterations: int | None, log_interval: int
    ) -> None:
        self.epoch = epoch
        self.max_epoch = max_epoch
        self.iterations = iterations
        self.log_interval = log_interval
        self.grad_norm = math.nan
        self.learning_rate: float | None = None
        self.first = 0
        self._started = time.monotonic()
        self._since_line = self._started
        self._utterances = 0
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    @classmethod
    def of(cls, iterator: Iterable, epoch: int, options: TrainerOptions) -> "Progress":
        """Progress of an epoch, with ESPnet's default for `log_interval`."""
        iterations = len(iterator) if hasattr(iterator, "__len__") else None
        interval = options.log_interval
        if interval is None:
            interval = 100 if iterations is None else max(iterations // 20, 10)
        return cls(epoch, options.max_epoch, iterations, interval)

    def add(self, stats: Mapping[str, Tensor], utterances: int) -> None:
        """Add one micro-batch: its `loss*` statistics (NaN where absent) and its size."""
        self._utterances += utterances
        for name, value in stats.items():
            if name.startswith("loss") and math.isfinite(value := float(value)):
                self._sums[name] = self._sums.get(name, 0.0) + value
                self._counts[name] = self._counts.get(name, 0) + 1

    def line(self, iteration: int) -> str:
        """The line for `iteration` finished micro-batches; starts a new interval."""
        now = time.monotonic()
        total = "?" if self.iterations is None else str(self.iterations)
        losses = " ".join(
            f"{name}={total_loss / self._counts[name]:.3f}"
            for name, total_loss in sorted(self._sums.items())
        )
        speed = self._utterances / max(now - self._since_line, 1e-9)
        rate = "" if self.learning_rate is None else f", lr {self.learning_rate:.2e}"
        text = (
            f"epoch {self.epoch}/{self.max_epoch}, batch {iteration}/{total}: {losses}, "
            f"grad norm {self.grad_norm:.2f}{rate}, "
            f"{speed:.1f} utterances/s{self._to_go(iteration, now)}"
        )
        self._since_line = now
        self._utterances = 0
        self._sums, self._counts = {}, {}
        return text

    def _to_go(self, iteration: int, now: float) -> str:
        if self.iterations is None:
            return ""
        per_batch = (now - self._started) / max(iteration - self.first, 1)
        epoch = per_batch * max(self.iterations - iteration, 0)
        training = epoch + per_batch * self.iterations * (self.max_epoch - self.epoch)
        return (
            f", to go: epoch {format_timespan(round(epoch))}, "
            f"training {format_timespan(round(training))}"
        )
