# SPDX-License-Identifier: Apache-2.0
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def run(script: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(script), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.fixture
def install(tmp_path: Path) -> Path:
    """install.sh in a tree without an environment."""
    (tmp_path / "tools").mkdir()
    for name in ("setup.py", "tools/install.sh", "tools/constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path / "tools" / "install.sh"


def test_usage(install: Path) -> None:
    assert run(install, "--help").returncode == 0
    wrong = run(install, "--nonsense")
    assert wrong.returncode == 2
    assert "unknown option --nonsense" in wrong.stderr


def test_without_a_suitable_python_it_says_how_to_get_one(install: Path, tmp_path: Path) -> None:
    # Commands that exist but are too old or do not run, as pyenv's shims for absent versions.
    fake = tmp_path / "bin"
    fake.mkdir()
    for name in ("python3.12", "python3.13", "python3", "python"):
        (fake / name).write_text("#!/bin/sh\nexit 127\n")
        (fake / name).chmod(0o755)
    path = f"{fake}:/usr/bin:/bin"
    failed = run(install, PATH=path, PYENV_ROOT=f"{tmp_path}/none", CONDA_PREFIX=f"{tmp_path}/none")
    assert failed.returncode == 1
    assert "uv python install 3.12" in failed.stderr
    assert not (install.parent / "venv").exists()


def test_unsuitable_choice_is_refused(install: Path, tmp_path: Path) -> None:
    failed = run(install, PYTHON=f"{tmp_path}/no-python")
    assert failed.returncode == 1
    assert "expected a working Python 3.12 or 3.13" in failed.stderr
    assert f"found {tmp_path}/no-python (" in failed.stderr


def test_a_python_that_is_too_old_is_named(install: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" && exit 0\nexit 1\n')
    old.chmod(0o755)
    failed = run(install, PYTHON=str(old))
    assert failed.returncode == 1
    assert f"found {old} (Python 3.9.2)" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


def test_environment_that_is_up_to_date_is_left_alone() -> None:
    if not (ROOT / "tools" / "venv" / ".installed").exists():
        pytest.skip("the tests run in another environment than tools/venv")
    again = run(ROOT / "tools" / "install.sh")
    assert again.returncode == 0
    assert "up to date" in again.stdout


def test_environment_that_was_killed_while_it_was_made_is_made_anew(
    install: Path, tmp_path: Path
) -> None:
    """It has an interpreter, and a stamp by a run after it, but neither pip nor `activate`."""
    binaries = tmp_path / "tools" / "venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "python").symlink_to(sys.executable)
    script = "cat setup.py tools/constraints.txt tools/install.sh | sha256sum | cut -d ' ' -f 1"
    stamp = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, check=True)
    (tmp_path / "tools" / "venv" / ".installed").write_bytes(stamp.stdout)
    # The choice of an interpreter is where making begins.
    again = run(install, PYTHON="/bin/false")
    assert "PYTHON: expected a working Python" in again.stderr
    (binaries / "activate").touch()
    assert "up to date" in run(install).stdout


def test_constraints_are_names_and_versions_only() -> None:
    lines = (ROOT / "tools" / "constraints.txt").read_text().splitlines()
    assert lines[0].startswith("#")
    assert len(lines) > 50
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.+!]*", line) for line in lines[1:])


def test_check_env_lists_versions() -> None:
    finished = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "check_env.py")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "python 3.1" in finished.stdout
    assert "cores" in finished.stdout or "error: missing espnet-objsoup" in finished.stderr
