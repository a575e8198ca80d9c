# SPDX-License-Identifier: Apache-2.0
"""Stages 1 to 4 give the same tables every time, whatever the number of workers."""

from pathlib import Path

import pytest

from .golden.make import KEPT, TABLES, make_corpus, run_stages, tables


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Number of workers -> the corpus and all that was made of it."""
    made = {}
    for n_jobs in (1, 2):
        made[n_jobs] = tmp_path_factory.mktemp(f"nj{n_jobs}")
        make_corpus(made[n_jobs])
        run_stages(made[n_jobs], n_jobs)
    return made


def audio(root: Path) -> dict[str, bytes]:
    files = root.glob("dump/org/*/audio/*/*")
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_tables_are_the_stored_ones(roots: dict[int, Path]) -> None:
    made = {name: text for name, text in tables(roots[1]).items() if name.startswith(KEPT)}
    stored = {
        str(path.relative_to(TABLES)): path.read_text("utf-8")
        for path in TABLES.rglob("*")
        if path.is_file()
    }
    assert made.keys() == stored.keys()
    for name, text in made.items():
        assert text == stored[name], name


def test_tables_and_audio_do_not_depend_on_workers(roots: dict[int, Path]) -> None:
    assert tables(roots[1]) == tables(roots[2])
    assert len({Path(name).parent for name in audio(roots[1])}) > 4  # more than a shard per split
    assert audio(roots[1]) == audio(roots[2])


def test_second_run_changes_nothing(roots: dict[int, Path]) -> None:
    before = tables(roots[1]), audio(roots[1])
    times = {p: p.stat().st_mtime_ns for p in roots[1].glob("dump/org/*/audio/*/*")}
    run_stages(roots[1], 1)
    assert (tables(roots[1]), audio(roots[1])) == before
    assert {p: p.stat().st_mtime_ns for p in times} == times
