# SPDX-License-Identifier: Apache-2.0
"""Steps that could not be taken because a number was not finite, and the utterances of an error."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

# Utterances that a message names.
_SHOWN = 10


class NonFiniteTrainingError(RuntimeError):
    """Too many steps in a row had a NaN or an infinity."""


@contextmanager
def naming(utterances: Sequence[str]) -> Iterator[None]:
    """Any error in the block is told with the batch that it came with."""
    try:
        yield
    except Exception as err:
        shown = ", ".join(utterances[:_SHOWN])
        more = f" and {len(utterances) - _SHOWN} more" if len(utterances) > _SHOWN else ""
        err.add_note(f"In a batch of {len(utterances)} utterances: {shown}{more}")
        raise


class Faults:
    """Counts skipped steps by cause and stops training when there are too many in a row.

    Args:
        max_in_a_row: steps that are borne.

    Attributes:
        counts: cause (an objective, `gradient`, or `gramian <objective>`) -> skipped steps.
        skipped: skipped steps, whatever their causes.
        in_a_row: skipped steps since the last one taken.
        current: cause -> utterances, of the step being accumulated.
    """

    def __init__(self, max_in_a_row: int) -> None:
        self.max_in_a_row = max_in_a_row
        self.counts: dict[str, int] = {}
        self.skipped = self.in_a_row = 0
        self.current: dict[str, list[str]] = {}

    def note(self, cause: str, utterances: Sequence[str]) -> None:
        """Remember that the step being accumulated cannot be taken."""
        self.current.setdefault(cause, []).extend(utterances)

    def skip_step(self) -> None:
        """Count the step as skipped.

        Raises:
            NonFiniteTrainingError: if it is one too many.
        """
        for cause in self.current:
            self.counts[cause] = self.counts.get(cause, 0) + 1
        self.skipped += 1
        self.in_a_row += 1
        shown = "; ".join(
            f"{cause}: {', '.join(utterances[:_SHOWN]) or 'in another process'}"
            for cause, utterances in self.current.items()
        )
        self.current = {}
        logging.warning("step skipped, not finite: %s", shown)
        if self.in_a_row >= self.max_in_a_row:
            raise NonFiniteTrainingError(
                f"{self.in_a_row} steps in a row had a loss, gradient or Gramian that is not "
                f"finite (trainer_conf.max_nonfinite_steps). The last one, by cause and utterance: "
                f"{shown}. Look at these utterances, lower the learning rate, or resume from an "
                "earlier epoch"
            )

    def forget(self) -> None:
        """The step being accumulated will not be taken, for another reason."""
        self.current = {}

    def take_step(self) -> None:
        """A step was taken."""
        self.in_a_row = 0

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "counts": dict(self.counts),
            "skipped": self.skipped,
            "in_a_row": self.in_a_row,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.counts = dict(state["counts"])
        self.skipped = int(state["skipped"])
        self.in_a_row = int(state["in_a_row"])
