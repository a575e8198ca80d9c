# SPDX-License-Identifier: Apache-2.0
"""Results that belong into one table: of the configurations as they stand, and of the same data."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_objsoup.comparison.fingerprint import config_fingerprint
from espnet_objsoup.comparison.plan import EQUAL_COST, Comparison
from espnet_objsoup.comparison.result import Result, ResultError, load_all
from espnet_objsoup.comparison.trainings import trainings_of


@dataclass(frozen=True)
class VariantResults:
    """Results of a variant.

    Attributes:
        name: of the variant, with `_equal_cost` for such runs.
        by_arm: arm -> results by seed, the reference first.
        other_data: results of these configurations, but other data.
        outdated: results of other configurations.
    """

    name: str
    by_arm: Mapping[str, Sequence[Result]]
    other_data: Sequence[Result]
    outdated: Sequence[Result]

    @property
    def current(self) -> list[Result]:
        """All that belong into the table."""
        return [result for results in self.by_arm.values() for result in results]


def read_variants(
    results: Path, comparison: Comparison, decoding: Mapping[str, Any]
) -> Iterator[VariantResults]:
    """Variants that have results, in the file's order.

    Args:
        results: directory with a directory per variant.
        comparison: says what is current, and in which order.
        decoding: options of decoding.

    Raises:
        ResultError: if a file is no result, or two are not of the same test utterances.
    """
    for name in comparison.variants:
        for variant in (name, name + EQUAL_COST):
            found = load_all(results, variant)
            if found:
                yield _sorted(variant, found, comparison, decoding)


def _sorted(
    variant: str, found: Sequence[Result], comparison: Comparison, decoding: Mapping[str, Any]
) -> VariantResults:
    current = [result for result in found if _is_current(result, comparison, decoding)]
    data = _common_data(current, comparison.reference)
    order = [comparison.reference, *comparison.arms]
    by_arm: dict[str, list[Result]] = {}
    for result in sorted(current, key=lambda r: (order.index(r.arm), r.seed)):
        if result.data == data:
            by_arm.setdefault(result.arm, []).append(result)
    _check_test_sets([result for results in by_arm.values() for result in results])
    return VariantResults(
        variant,
        by_arm,
        [result for result in current if result.data != data],
        [result for result in found if result not in current],
    )


def _is_current(result: Result, comparison: Comparison, decoding: Mapping[str, Any]) -> bool:
    equal_cost = result.variant.endswith(EQUAL_COST)
    variant = comparison.variants[result.variant.removesuffix(EQUAL_COST)]
    arm = comparison.arms.get(result.arm)
    if arm is None:
        return False
    epochs = result.epochs if equal_cost else None
    trainings = trainings_of(comparison, variant, arm, result.seed, epochs)
    return config_fingerprint(trainings, decoding) == result.config


def _common_data(found: Sequence[Result], reference: str) -> str:
    """Data of the reference; without one, those of most results."""
    data = [r.data for r in found if r.arm == reference] or [r.data for r in found]
    return max(sorted(set(data)), key=data.count) if data else ""


def _check_test_sets(results: Sequence[Result]) -> None:
    first: dict[str, tuple[str, str]] = {}
    for result in results:
        for name, of_objective in result.utterances.items():
            known, checksum = first.setdefault(name, (result.name, of_objective["test"]))
            if checksum != of_objective["test"]:
                raise ResultError(
                    f"{result.variant}: {name}: expected the same test utterances in all results, "
                    f"found others in {result.name} than in {known}; remove one and run it again"
                )
