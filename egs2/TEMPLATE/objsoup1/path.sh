# shellcheck shell=bash
# Makes `python` one that has espnet_objsoup: the active environment, tools/venv, or a new one.
# To be sourced; MAIN_ROOT is the repository. OBJSOUP_NEEDS names modules that a recipe needs besides.

MAIN_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)

# Exits with 0 if a Python can run the recipes, and prints where an installed espnet_objsoup lies;
# otherwise it prints what is wrong. Called outside the repository's root, so that "" on sys.path
# does not find the package there.
_inspect_python() {
    "$1" -c '
import os, sys
from importlib.util import find_spec
version = ".".join(map(str, sys.version_info[:3]))
if not (3, 12) <= sys.version_info[:2] <= (3, 13):
    sys.exit(print("Python " + version) or 1)
sys.path = [path for path in sys.path if path]
needed = "espnet2 torch soundfile soxr sentencepiece sacrebleu jiwer torchjd"
needed = needed.split() + os.environ.get("OBJSOUP_NEEDS", "").split()
missing = [name for name in needed if find_spec(name) is None]
if missing:
    sys.exit(print("Python " + version + " without " + ", ".join(missing)) or 1)
found = find_spec("espnet_objsoup")
print(os.path.dirname(found.origin) if found and found.origin else "")' 2>/dev/null
}

# An option --python of the calling script is taken at its word.
if [ "${python:-python}" != python ]; then
    if ! _found=$(_inspect_python "${python}"); then
        echo "error: --python: expected Python 3.12 or 3.13 with ESPnet and what tools/check_env.py" \
            "lists, found '${python}' (${_found:-it does not run}); leave --python out to use the" \
            "active environment or tools/venv" >&2
        exit 2
    fi
elif ! _found=$(_inspect_python python); then
    "${MAIN_ROOT}/tools/install.sh"
    # shellcheck source=/dev/null
    . "${MAIN_ROOT}/tools/venv/bin/activate"
    _found=$(_inspect_python python) || {
        echo "error: tools/venv: expected a Python that runs the recipes, found" \
            "${_found:-one that does not run}; remove tools/venv and run again" >&2
        exit 1
    }
fi
# A package that was installed by pip is used as it is; without one, the repository's.
if [ -z "${_found}" ]; then
    export PYTHONPATH="${MAIN_ROOT}${PYTHONPATH:+:${PYTHONPATH}}"
fi
export PYTHONUTF8=1 PYTHONUNBUFFERED=1
# Bytewise order everywhere, as Kaldi's tools want; Python reads UTF-8 all the same.
export LC_ALL=C
# One thread per job is set where jobs are parallel; elsewhere all cores are used.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(nproc)}"

# py COMMAND ARGUMENTS    a command of the package
py() { "${python:-python}" -m "espnet_objsoup.bin.$1" "${@:2}"; }
