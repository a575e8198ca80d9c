# SPDX-License-Identifier: Apache-2.0
"""Copies of recipes, run as a user does."""

import os
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def copy_recipe(target: Path) -> Path:
    """A copy of the recipes beside links to the rest, so that nothing is written here."""
    shutil.copytree(
        ROOT / "egs2",
        target / "egs2",
        ignore=shutil.ignore_patterns("data*", "dump*", "exp*", "downloads"),
        dirs_exist_ok=True,
    )
    # `data*` above also leaves out local/data.sh.
    for recipe in (ROOT / "egs2").glob("*/local"):
        shutil.copytree(recipe, target / recipe.relative_to(ROOT), dirs_exist_ok=True)
    for name in ("espnet_objsoup", "tools"):
        (target / name).symlink_to(ROOT / name)
    return target / "egs2"


def run(recipe: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(recipe / "run.sh"), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": "", **environment},
        check=False,
    )


# One pass over the data and one beam: that scores are good is tested with mini_objsoup.
QUICK = [
    "--mini", "true", "--size", "tiny", "--nj", "1", "--inference_nj", "1",
    "--train_args", "--max_epoch 1 --keep_nbest_models 1", "--inference_config", "conf/quick.yaml",
]  # fmt: skip


def run_quick(root: Path, name: str, *arguments: str) -> tuple[Path, str]:
    """Run a copy of a recipe with a quick search; returns its directory and what it printed."""
    recipe = copy_recipe(root) / name
    decoding = (recipe / "conf" / "decode.yaml").read_text().replace("beam_size: 5", "beam_size: 1")
    (recipe / "conf" / "quick.yaml").write_text(decoding)
    done = run(recipe, *QUICK, *arguments)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return recipe, done.stdout + done.stderr


def check_all_stages(output: str) -> None:
    for stage in (1, 2, 3, 4, 5, 10, 11, 12, 13):
        assert re.search(rf"\[{stage}/13\] .*: done in \d+ s", output), stage


def check_refused(recipe: Path, message: str, *arguments: str, **environment: str) -> None:
    """That a run ends with a message, a pattern, before anything is written."""
    failed = run(recipe, *arguments, **environment)
    assert failed.returncode != 0
    assert re.search(message, failed.stderr)
    assert not list(recipe.glob("data*/train*"))
    assert not (recipe / "downloads").exists()
