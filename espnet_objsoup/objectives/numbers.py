# SPDX-License-Identifier: Apache-2.0
"""What counts as a number in a configuration."""

import math
from typing import Any


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; true, and integers that no float holds, are not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
