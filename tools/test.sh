#!/usr/bin/env bash
# Lint and all tests; see --help.
set -euo pipefail

if [[ "${1:-}" =~ ^(-h|--help)$ ]]; then
    cat <<'USAGE'
Usage: tools/test.sh [ARGUMENT OF PYTEST ...]

All tests: sets up tools/venv, then ruff, bandit, shellcheck and pytest.
  tools/test.sh                      everything
  tools/test.sh tests/unit/data      a part
Pages are tested in Chromium if there is one (Debian: apt-get install chromium).
USAGE
    exit 0
fi
cd "$(dirname "$0")/.."
tools/install.sh
# shellcheck source=/dev/null
. tools/venv/bin/activate
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" PYTHONUTF8=1
ruff check .
bandit --quiet --configfile pyproject.toml --recursive espnet_objsoup tools
git ls-files -z '*.sh' .ci/run | xargs -0 shellcheck --severity=warning
exec python -m pytest "$@"
