#!/usr/bin/env bash
# All tests: sets up tools/venv, then lint, bandit, shellcheck and pytest. Arguments go to pytest.
#   tools/test.sh                      everything
#   tools/test.sh tests/unit/data      a part
# The page of `objsoup demo` is tested in Chromium if there is one (Debian: apt-get install chromium).
set -euo pipefail
cd "$(dirname "$0")/.."
tools/install.sh
# shellcheck source=/dev/null
. tools/venv/bin/activate
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" PYTHONUTF8=1
ruff check .
bandit --quiet --configfile pyproject.toml --recursive espnet_objsoup tools
git ls-files -z '*.sh' .ci/run | xargs -0 shellcheck --severity=warning
exec python -m pytest "$@"
