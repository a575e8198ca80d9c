# SPDX-License-Identifier: Apache-2.0
"""In what the configurations of several runs differ."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

# Where things lie and which machines took part does not change what is computed.
_IGNORED = {
    "config", "output_dir", "log_level", "dist_rank", "local_rank", "dist_master_addr",
    "dist_master_port", "dist_launcher", "dist_init_method", "dist_backend", "resume", "dry_run",
    "print_config",
}  # fmt: skip
_LONGEST = 100
ABSENT = "–"


def flatten(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested keys as `encoder_conf.num_blocks`, `levels[1].penalty`; other lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
        elif isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
            for i, element in enumerate(value, start=1):
                flat |= flatten(element, f"{name}[{i}].")
        else:
            flat[name] = value
    return flat


def settings(conf: Mapping[str, Any]) -> dict[str, Any]:
    """What is computed: flat keys, without where things lie."""
    return {key: value for key, value in flatten(conf).items() if key not in _IGNORED}


def configuration_differences(
    configurations: Sequence[Mapping[str, Any]],
) -> list[tuple[str, list[str]]]:
    """Keys with different values, and the values in words, in the order of the first run,
    the soup's first."""
    flat = [settings(conf) for conf in configurations]
    keys = dict.fromkeys(key for conf in flat for key in conf)
    missing = object()
    rows = []
    for key in keys:
        values = [conf.get(key, missing) for conf in flat]
        if any(value != values[0] for value in values[1:]):
            rows.append((key, [ABSENT if v is missing else _in_words(v) for v in values]))
    # What the soup is comes first.
    return sorted(rows, key=lambda row: not row[0].startswith("trainer"))


def _in_words(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    if len(text) <= _LONGEST:
        return text
    if isinstance(value, list):
        # Two long lists may differ anywhere.
        digest = hashlib.sha256(text.encode("utf-8")).hexdigest()[:8]
        return f"{len(value)} values (sha256 {digest}…), {text[:30]}…"
    return f"{text[:_LONGEST]}…"
