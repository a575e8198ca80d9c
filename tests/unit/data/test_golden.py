# SPDX-License-Identifier: Apache-2.0
"""Stages 1 to 4 give the same tables every time, whatever the number of workers."""

from pathlib import Path

import pytest

from espnet_objsoup.data.corpora import speakers

from .golden.make import CASES, TABLES, tables


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def roots(case: str, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Number of workers -> the corpus and all that was made of it."""
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        # So few speakers would be read by one process.
        patch.setattr(speakers, "_SPEAKERS_PER_PROCESS", 1)
        for n_jobs in (1, 2):
            made[n_jobs] = tmp_path_factory.mktemp(f"nj{n_jobs}")
            CASES[case].make(made[n_jobs])
            CASES[case].run(made[n_jobs], n_jobs)
    return made


def audio(root: Path) -> dict[str, bytes]:
    files = root.glob("dump/org/*/audio/*/*")
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_tables_are_the_stored_ones(case: str, roots: dict[int, Path]) -> None:
    kept = CASES[case].kept
    made = {name: text for name, text in tables(roots[1]).items() if name.startswith(kept)}
    stored = {
        str(path.relative_to(TABLES / case)): path.read_text("utf-8")
        for path in (TABLES / case).rglob("*")
        if path.is_file()
    }
    assert made.keys() == stored.keys()
    for name, text in made.items():
        assert text == stored[name], name


def test_tables_and_audio_do_not_depend_on_workers(roots: dict[int, Path]) -> None:
    assert tables(roots[1]) == tables(roots[2])
    assert len({Path(name).parent for name in audio(roots[1])}) >= 3  # shards
    assert audio(roots[1]) == audio(roots[2])


def test_second_run_changes_nothing(case: str, roots: dict[int, Path]) -> None:
    before = tables(roots[1]), audio(roots[1])
    times = {p: p.stat().st_mtime_ns for p in roots[1].glob("dump/org/*/audio/*/*")}
    CASES[case].run(roots[1], 1)
    assert (tables(roots[1]), audio(roots[1])) == before
    assert {p: p.stat().st_mtime_ns for p in times} == times
