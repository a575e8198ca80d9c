# shellcheck shell=bash
# Makes `python` one that has espnet_objsoup: the active environment, tools/venv, or a new one.
# To be sourced; MAIN_ROOT is the repository.

MAIN_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)

_has_packages() {
    "$1" -c 'import sys
from importlib.util import find_spec
needed = ("espnet2", "torch", "soundfile", "soxr", "sacrebleu", "jiwer", "espeakng_loader")
sys.exit(not ((3, 12) <= sys.version_info[:2] <= (3, 13) and all(map(find_spec, needed))))' \
        2>/dev/null
}

if ! _has_packages python; then
    "${MAIN_ROOT}/tools/install.sh"
    # shellcheck source=/dev/null
    . "${MAIN_ROOT}/tools/venv/bin/activate"
fi
export PYTHONPATH="${MAIN_ROOT}${PYTHONPATH:+:${PYTHONPATH}}"
export PYTHONUTF8=1 PYTHONUNBUFFERED=1
# Bytewise order everywhere, as Kaldi's tools want; Python reads UTF-8 all the same.
export LC_ALL=C
# One thread per physical job is set where jobs are parallel; elsewhere all cores are used.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(nproc)}"
