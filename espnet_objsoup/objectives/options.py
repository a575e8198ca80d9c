# SPDX-License-Identifier: Apache-2.0
"""Options of weightings and penalties: defaults, bounds and the messages when they are violated."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from espnet_objsoup.objectives.numbers import is_number
from espnet_objsoup.objectives.spec import ObjectiveError


class SoupConfError(ObjectiveError):
    """The levels, weightings or penalties of `trainer_conf` cannot be used as they stand."""


@dataclass(frozen=True)
class Option:
    """One option with its default and what it may be.

    Attributes:
        default: value where none is given; None where it depends on the level or means "off".
        low: smallest number.
        high: largest number.
        open_low: `low` itself is refused.
        integer: only whole numbers.
        choices: allowed words, for an option that is not a number.
        boolean: only true and false.
        per_objective: a mapping of objectives or globs to numbers.
        optional: null is a value.
    """

    default: Any
    low: float = 0.0
    high: float = math.inf
    open_low: bool = False
    integer: bool = False
    choices: tuple[str, ...] = ()
    boolean: bool = False
    per_objective: bool = False
    optional: bool = False

    def check(self, value: Any, key: str) -> None:
        """Refuse a value that makes no sense.

        Raises:
            SoupConfError: naming the key, what is expected and what was found.
        """
        if value is None and self.optional:
            return
        if self.per_objective:
            valid = isinstance(value, Mapping)
        elif self.choices:
            valid = value in self.choices
        elif self.boolean:
            valid = isinstance(value, bool)
        else:
            valid = self._is_number_in_range(value)
        if not valid:
            raise SoupConfError(f"{key}: expected {self._expectation()}, found {value!r}")

    def _is_number_in_range(self, value: Any) -> bool:
        if not is_number(value) or (self.integer and not isinstance(value, int)):
            return False
        above = value > self.low if self.open_low else value >= self.low
        return above and value <= self.high

    def _expectation(self) -> str:
        if self.per_objective:
            return "a mapping of objectives or globs to numbers"
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.boolean:
            return "true or false"
        text = "a whole number" if self.integer else "a number"
        if self.low > -math.inf:
            text += f" {'>' if self.open_low else '>='} {self.low:g}"
        if self.high < math.inf:
            text += f" and <= {self.high:g}"
        return text + (" or null" if self.optional else "")


def resolve_options(
    conf: Mapping[str, Any], options: Mapping[str, Option], key: str, owner: str
) -> dict[str, Any]:
    """Check a block of options and fill in defaults.

    Args:
        conf: what the configuration says.
        options: what is known.
        key: where the block stands, for messages.
        owner: name of the weighting or penalty, for messages.

    Returns:
        option -> value, for all known options.

    Raises:
        SoupConfError: for an unknown option or a value out of bounds.
    """
    unknown = sorted(str(name) for name in conf if name not in options)
    if unknown:
        known = f"known options: {', '.join(options)}" if options else "it takes none"
        raise SoupConfError(f"{key}: unknown option {', '.join(unknown)} of {owner}; {known}")
    for name, value in conf.items():
        options[name].check(value, f"{key}.{name}")
    return {name: conf.get(name, option.default) for name, option in options.items()}
