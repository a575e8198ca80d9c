# SPDX-License-Identifier: Apache-2.0
"""Source distribution and wheel, and the wheel in an environment that is not tools/venv."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from espnet_objsoup import __version__

ROOT = Path(__file__).parents[3]

# What `python -m build --no-isolation` runs, without that package and without network.
BUILD = """
import sys
from setuptools import build_meta
print(getattr(build_meta, "build_" + sys.argv[1])(sys.argv[2]))
"""


def build(kind: str, source: Path, target: Path) -> Path:
    command = [sys.executable, "-c", BUILD, kind, str(target)]
    finished = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return target / finished.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tracked files, with some that must not be distributed."""
    copy = tmp_path_factory.mktemp("source")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if names.returncode != 0:
        pytest.skip("the tests do not run in a checkout")
    for name in names.stdout.split("\0")[:-1]:
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    for name in ("data", "data_tiny", "dump", "dump_tiny", "exp", "exp_tiny", "downloads"):
        (copy / "egs2/mini_objsoup" / name).mkdir()
        (copy / "egs2/mini_objsoup" / name / "large.bin").touch()
    (copy / "tools/venv/bin").mkdir(parents=True)
    (copy / "tools/venv/bin/python").touch()
    return copy


@pytest.fixture(scope="module")
def sdist(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", source, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made from the source distribution, so that this has all that it needs."""
    work = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(work, filter="data")
    return build("wheel", work / sdist.name.removesuffix(".tar.gz"), work)


def test_source_distribution_holds_the_checkout(source: Path, sdist: Path) -> None:
    assert sdist.name == f"espnet_objsoup-{__version__}.tar.gz"
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in (
        *("LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "setup.py", "pyproject.toml"),
        *("egs2/TEMPLATE/objsoup1/objsoup.sh", "egs2/TEMPLATE/objsoup1/stages.sh"),
        *("egs2/mini_objsoup/run.sh", "egs2/mini_objsoup/local/data.sh"),
        *("egs2/mini_objsoup/conf/train.yaml", "tests/recipes/an4/local/data.sh"),
        *("tests/recipes/test_mini.py", "docs/data_format.md", "tools/constraints.txt"),
    ):
        assert name in names, name
    assert any(name.startswith("espnet_objsoup/data/synthesis/lexicon/") for name in names)
    unwanted = ("large.bin", "tools/venv", ".pyc", ".git")
    assert not [name for name in names if any(word in name for word in unwanted)]


def test_scripts_stay_executable(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        modes = {member.name.partition("/")[2]: member.mode for member in archive}
    for name in ("egs2/mini_objsoup/run.sh", "egs2/TEMPLATE/objsoup1/run_job.sh", "tools/test.sh"):
        assert modes[name] & 0o111, name


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    assert wheel.name == f"espnet_objsoup-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"espnet_objsoup"}
    lexicon = ROOT / "espnet_objsoup/data/synthesis/lexicon"
    wanted = {f"espnet_objsoup/data/synthesis/lexicon/{path.name}" for path in lexicon.iterdir()}
    assert wanted <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert f"Version: {__version__}\n" in text
    assert "Requires-Dist: espnet==202611" in text
    assert "# espnet_objsoup" in text  # README.md


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that sees the packages of this one, with the wheel installed."""
    path = tmp_path_factory.mktemp("environment") / "env"
    subprocess.run([sys.executable, "-m", "venv", str(path)], check=True)
    (site,) = path.glob("lib/python3*/site-packages")
    # Its own packages go before those of this environment, where the package is installed too.
    (site / "packages.pth").write_text(
        "\n".join(entry for entry in sys.path if entry.endswith("site-packages")) + "\n"
    )
    subprocess.run(
        [str(path / "bin/python"), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
         "--force-reinstall", "--ignore-installed", str(wheel)],
        check=True,
    )  # fmt: skip
    return path


def bare() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}


def test_console_command(environment: Path, tmp_path: Path) -> None:
    command = [str(environment / "bin/objsoup"), "--version"]
    finished = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=True, env=bare()
    )
    assert finished.stdout == f"objsoup {__version__}\n"


def test_the_installed_package_is_whole(environment: Path, tmp_path: Path) -> None:
    code = (
        "import espnet_objsoup; print(espnet_objsoup.__file__)\n"
        "from espnet_objsoup.data.synthesis import lexicon\n"
    )
    finished = subprocess.run(
        [str(environment / "bin/python"), "-c", code],
        cwd=tmp_path, capture_output=True, text=True, check=True, env=bare(),
    )  # fmt: skip
    assert Path(finished.stdout.strip()).is_relative_to(environment)


@pytest.mark.parametrize("checkout", [False, True], ids=["sdist", "checkout"])
def test_recipes_use_the_active_environment(
    environment: Path, source: Path, sdist: Path, tmp_path: Path, checkout: bool
) -> None:
    tree = source
    if not checkout:
        with tarfile.open(sdist) as archive:
            archive.extractall(tmp_path, filter="data")
        (tree,) = tmp_path.iterdir()
    code = "import espnet_objsoup; print(espnet_objsoup.__file__)"
    finished = subprocess.run(
        ["bash", "-c", f"set -eu; . TEMPLATE/objsoup1/path.sh; python -c '{code}'"],
        cwd=tree / "egs2",
        capture_output=True,
        text=True,
        check=True,
        env={**bare(), "PATH": f"{environment}/bin:/usr/bin:/bin"},
    )
    assert Path(finished.stdout.splitlines()[-1]).is_relative_to(environment)
    # Nothing was installed.
    assert not (tree / "tools/venv/.installed").exists()
