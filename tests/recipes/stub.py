# SPDX-License-Identifier: Apache-2.0
"""A recipe whose commands do nothing but write what they are asked for.

The stage script is the real one; `--python` is a script that notes its arguments.
"""

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TEMPLATE = Path(__file__).parents[2] / "egs2" / "TEMPLATE" / "objsoup1"

# $STUB_WORK/slow/COMMAND holds the seconds of a command's pauses, before and after its files (the
# last number is that of all further ones), $STUB_WORK/fails/COMMAND the exit status that it fails
# with. $STUB_GPUS is how many GPUs there seem to be. With $STUB_LAUNCH the launcher is ESPnet's
# own, and what it starts is noted.
PAUSE = r"""pauses=0
pause() {
    [ -e "${STUB_WORK}/slow/$1" ] || return 0
    local seconds
    read -ra seconds <"${STUB_WORK}/slow/$1" || true
    # Nothing ever comes. No `sleep`, which would outlive this process with what it has open.
    read -rt "${seconds[pauses]:-${seconds[-1]}}" <> <(:) || true
    pauses=$((pauses + 1))
}"""

PYTHON = r"""#!/usr/bin/env bash
real={real} work=${{STUB_WORK}}
case "$1 ${{2:-}}" in
    "-c "*torch.cuda*) echo "${{STUB_GPUS:-0}}" && exit ;;
    "-m espnet2.bin.launch")
        if [ -n "${{STUB_LAUNCH:-}}" ]; then exec "${{real}}" "$@"; fi
        ;;
    "-c "* | *check_config | *bin.cluster) exec "${{real}}" "$@" ;;
esac
{pause}
# In one write: processes that train together note their words at the same time.
cat <<<"$(printf '%q ' "$@")" >>"${{work}}/calls"
command=${{2##*.}}
shift 2
echo $$ >>"${{work}}/processes"
pause "${{command}}"
[ -e "${{work}}/fails/${{command}}" ] && exit "$(cat "${{work}}/fails/${{command}}")"
value() {{ # of an option
    while [ $# -gt 1 ]; do
        [ "$2" = "$1" ] && echo "$3" && return
        set -- "$1" "${{@:3}}"
    done
}}
put() {{ mkdir -p "$(dirname "$1")" && echo "${{command}} $$" >"$1"; pause "${{command}}"; }}
case ${{command}} in
    perturb_speed | format_audio | filter_data_dir) put "${{!#}}/wav.scp" ;;
    make_token_list)
        out=$(value --out "$@")
        put "${{out}}/tokens.txt"
        put "${{out}}/bpe.model"
        ;;
    collect_stats)
        out=$(value --output_dir "$@")
        put "${{out}}/train/speech_shape"
        put "${{out}}/valid/speech_shape"
        ;;
    train | launch | run)
        [ "${{command}}" = launch ] && while [ "$1" != -- ]; do shift; done
        out=$(value --output_dir "$@")
        put "${{out}}/config.yaml"
        put "${{out}}/checkpoint.pth"
        ;;
    decode) put "$(value --output_dir "$@")/asr/text" ;;
    score) put "$(value --exp_dir "$@")/RESULTS.md" ;;
    pack) put "$(value --out "$@")" ;;
esac
"""

DATA = """#!/usr/bin/env bash
set -euo pipefail
. {template}/db.sh
echo "data $*" >>${{STUB_WORK}}/calls
echo $$ >>${{STUB_WORK}}/processes
{pause}
[ -e ${{STUB_WORK}}/needs_corpus ] && need_corpus COVOST2 index.tsv
for name in train dev test more; do
    mkdir -p data/${{name}}
    pause data
    echo "u path" >data/${{name}}/wav.scp
done
"""


@dataclass
class Recipe:
    """A recipe in a scratch directory.

    Attributes:
        path: its directory, the working one.
        work: notes of the stubs.
    """

    path: Path
    work: Path

    @classmethod
    def make(cls, root: Path) -> "Recipe":
        recipe = cls(root / "recipe", root / "work")
        (recipe.path / "local").mkdir(parents=True)
        (recipe.path / "conf").mkdir()
        for name in ("slow", "fails"):
            (recipe.work / name).mkdir(parents=True)
        recipe.write_script(recipe.python, PYTHON.format(real=sys.executable, pause=PAUSE))
        data = DATA.format(template=TEMPLATE, pause=PAUSE)
        recipe.write_script(recipe.path / "local" / "data.sh", data)
        (recipe.path / "conf" / "train.yaml").write_text("encoder: e_branchformer\nmax_epoch: 2\n")
        (recipe.path / "conf" / "decode.yaml").write_text("beam_size: 5\n")
        return recipe

    @property
    def python(self) -> Path:
        return self.work / "python"

    @staticmethod
    def write_script(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def command(self, *arguments: str) -> list[str]:
        return [str(TEMPLATE / "objsoup.sh"), "--python", str(self.python), *arguments]

    def environment(self, **more: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("OBJSOUP")}
        own = {"STUB_WORK": str(self.work), "OBJSOUP_COMMAND": "./run.sh", "OMP_NUM_THREADS": "1"}
        return {**kept, **own, **more}

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.path,
            capture_output=True,
            text=True,
            env=self.environment(**environment),
            check=False,
            timeout=600,
        )

    def calls(self, *arguments: str, **environment: str) -> list[list[str]]:
        """Commands that a successful run starts, as words."""
        (self.work / "calls").unlink(missing_ok=True)
        finished = self.run(*arguments, **environment)
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return self.noted()

    def noted(self) -> list[list[str]]:
        """Commands that the stubs noted, as words."""
        path = self.work / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [shlex.split(line) for line in lines]

    def ran(self, *arguments: str, **environment: str) -> list[str]:
        """Names of the commands that a successful run starts, each once."""
        names = []
        for call in self.calls(*arguments, **environment):
            name = "data" if call[0] == "data" else call[1].rpartition(".")[2]
            if name not in ("validate_data_dir", *names):
                names.append(name)
        return names
