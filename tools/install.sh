#!/usr/bin/env bash
# Installs espnet_objsoup and all it needs into tools/venv. Safe to run again.
set -euo pipefail

usage() {
    cat <<USAGE
Usage: tools/install.sh [--help]

Makes tools/venv with Python 3.12 or 3.13 and installs espnet_objsoup into it (editable, with the
extras test and mini), at the versions of tools/constraints.txt.

Environment:
  PYTHON    interpreter to use; default: the first suitable one of python3.12, python3.13, python3,
            python, and pyenv's and conda's installations
USAGE
}

log() { echo "install.sh: $*"; }

# A command may exist and still not run (pyenv's shims), so every candidate is executed.
is_suitable() {
    "$1" -c 'import sys, venv; sys.exit(sys.version_info[:2] not in ((3, 12), (3, 13)))' 2>/dev/null
}

find_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        if is_suitable "${PYTHON}"; then
            command -v "${PYTHON}"
            return 0
        fi
        candidate=$("${PYTHON}" --version 2>&1) || candidate="it does not run"
        log "error: PYTHON: expected a working Python 3.12 or 3.13 with venv, found ${PYTHON}" \
            "(${candidate}); set it to another one, or leave it out" >&2
        return 1
    fi
    for candidate in python3.12 python3.13 python3 python \
        "${PYENV_ROOT:-${HOME}/.pyenv}"/versions/3.1[23].*/bin/python \
        "${CONDA_PREFIX:-/nonexistent}"/bin/python; do
        if command -v "${candidate}" >/dev/null 2>&1 && is_suitable "${candidate}"; then
            command -v "${candidate}"
            return 0
        fi
    done
    cat >&2 <<HELP
install.sh: no Python 3.12 or 3.13 found. Get one, for example by
  uv python install 3.12        (https://docs.astral.sh/uv)
  conda create -n objsoup python=3.12 && conda activate objsoup
  sudo apt install python3.12 python3.12-venv
and run again, with PYTHON=/path/to/python3.12 if it is not on PATH.
HELP
    return 1
}

for argument in "$@"; do
    case "${argument}" in
        -h | --help) usage; exit 0 ;;
        *) log "unknown option ${argument}" >&2; usage >&2; exit 2 ;;
    esac
done

cd "$(dirname "$0")/.."
venv=tools/venv
stamp="${venv}/.installed"
wanted=$(cat setup.py tools/constraints.txt tools/install.sh | sha256sum | cut -d ' ' -f 1)
# A venv that was killed while it was made has an interpreter, and neither pip nor `activate`, which
# comes last.
is_whole() { [ -f "${venv}/bin/activate" ] && is_suitable "${venv}/bin/python"; }
is_current() { [ -f "${stamp}" ] && [ "$(cat "${stamp}")" = "${wanted}" ] && is_whole; }
if is_current; then
    log "${venv} is up to date"
    exit 0
fi

# Two recipes that are started at once do not both install; the directory itself is the lock.
if command -v flock >/dev/null 2>&1; then
    exec 9<tools
    flock 9
    if is_current; then
        log "${venv} is up to date"
        exit 0
    fi
fi

start=${SECONDS}
if ! is_whole; then
    python=$(find_python)
    log "making ${venv} with ${python} ($("${python}" --version))"
    rm -rf "${venv}"
    "${python}" -m venv "${venv}"
fi
if command -v uv >/dev/null 2>&1; then
    uv=uv
else
    log "installing uv into ${venv}"
    "${venv}/bin/python" -m pip install --quiet --disable-pip-version-check uv
    uv="${venv}/bin/uv"
fi
log "installing packages (a few GB with PyTorch; the first time takes a minute or more)"
"${uv}" pip install --python "${venv}/bin/python" --constraint tools/constraints.txt \
    --editable ".[test,mini]"
echo "${wanted}" >"${stamp}"
log "done in $((SECONDS - start)) s; activate it by: . ${venv}/bin/activate"
