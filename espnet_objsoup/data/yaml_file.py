# SPDX-License-Identifier: Apache-2.0
"""Reading YAML: data only, and one error for whatever is wrong with it."""

from typing import Any

import yaml

# PyYAML's own, and what its constructors raise for `2001-99-99`, `!!bool x`, `!!timestamp x`, a
# number of thousands of digits, or lists within lists without end.
_FAULTS = (ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError)


class YamlError(ValueError):
    """Content that is not YAML.

    Attributes:
        line: from 1; None if it is not known.
        problem: in words.
    """

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.problem, self.line = problem, line

    @property
    def message(self) -> str:
        """What was expected and found, and in which line."""
        where = f"line {self.line}: " if self.line else ""
        return f"{where}expected YAML, found {self.problem}"


def load_yaml(content: bytes) -> Any:
    """Values of a file; no objects are made but those of YAML itself.

    Raises:
        YamlError: if it is anything else.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as err:
        line = content.count(b"\n", 0, err.start) + 1
        raise YamlError(f"byte {content[err.start]:#x}, which is no UTF-8", line) from err
    try:
        values = _load(text)
        _refuse_cycles(values, {})
        return values
    except yaml.YAMLError as err:
        mark = getattr(err, "problem_mark", None) or getattr(err, "context_mark", None)
        problem = " ".join(str(getattr(err, "problem", None) or err).split())
        raise YamlError(problem, None if mark is None else mark.line + 1) from err
    except _FAULTS as err:
        words = " ".join(str(err).split())[:200]
        raise YamlError(f"a value that cannot be read ({type(err).__name__}: {words})") from err


class _Loader(yaml.SafeLoader):
    """PyYAML's own, but for keys that are given twice: it would take the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key.value[:100]} for the second time",
                    problem_mark=key.start_mark,
                )
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def _load(text: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _refuse_cycles(value: Any, finished: dict[int, bool]) -> None:
    """No value may hold itself, which an alias can bring about.

    Args:
        value: to walk through.
        finished: values that were seen -> whether all that they hold was.

    Raises:
        ValueError: if one does.
    """
    if not isinstance(value, dict | list) or finished.get(id(value)):
        return
    if id(value) in finished:
        raise ValueError("an alias within what it stands for")
    finished[id(value)] = False
    for item in value.values() if isinstance(value, dict) else value:
        _refuse_cycles(item, finished)
    finished[id(value)] = True
