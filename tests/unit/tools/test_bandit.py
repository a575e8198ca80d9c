# SPDX-License-Identifier: Apache-2.0
"""bandit looks for what must not be there, and every exception has a reason."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCES = [
    path
    for folder in ("espnet_objsoup", "tools")
    for path in (ROOT / folder).rglob("*.py")
    if "venv" not in path.relative_to(ROOT).parts
]


def bandit(*paths: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bandit", "--quiet", "--configfile", "pyproject.toml"]
    return subprocess.run(
        [*command, *paths], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )


@pytest.mark.parametrize(
    ("found", "line"),
    [
        ("B602", "import subprocess\nsubprocess.run(x, shell=True)"),
        ("B605", "import os\nos.system(x)"),
        ("B301", "import pickle\npickle.load(x)"),
        ("B506", "import yaml\nyaml.load(x)"),
        ("B614", "import torch\ntorch.load(x)"),
        ("B202", "import tarfile\ntarfile.open(x).extractall()"),
        ("B307", "eval(x)"),
        ("B102", "exec(x)"),
        ("B306", "import tempfile\ntempfile.mktemp()"),
        ("B501", "import requests\nrequests.get(x, verify=False, timeout=1)"),
    ],
)
def test_it_finds(tmp_path: Path, found: str, line: str) -> None:
    (tmp_path / "sample.py").write_text(line + "\n")
    finished = bandit(f"{tmp_path}/sample.py")
    assert finished.returncode == 1
    assert f"[{found}:" in finished.stdout


def test_ignored_checks_have_reasons() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    block = re.search(r"\[tool\.bandit\].*?skips = \[\n(.*?)\n\]", text, re.DOTALL).group(1)
    for line in block.splitlines():
        assert re.fullmatch(r' +"B\d{3}",  # .{20,}', line), line


def test_excused_places_have_reasons() -> None:
    excused = [
        (path, line)
        for path in SOURCES
        for line in path.read_text(encoding="utf-8").splitlines()
        if "nosec" in line
    ]
    assert excused, "no file was read"
    for path, line in excused:
        assert re.search(r"# nosec B\d{3}(,B\d{3})*  # \S.{5,}", line), f"{path}: {line}"


def test_no_script_evaluates_words() -> None:
    scripts = [path for path in ROOT.rglob("*.sh") if "venv" not in path.parts]
    assert len(scripts) > 10
    for path in scripts:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            code = line.split("#")[0]
            assert not re.search(r"(^|[;&|(]\s*|\s)eval\s", code), f"{path}:{number}: {line}"
