#!/usr/bin/env bash
# Stage 1: prepare AN4 from the archive inside ESPnet.
# shellcheck disable=SC2154,SC2034  # `opt` sets the variables of options; it reads help_message
set -euo pipefail
. ../TEMPLATE/objsoup1/parse_options.sh
opt langs en "languages"
opt st_pairs "" "translations: none"
opt datadir data "where data directories go"
opt asr_text_policy lc.rm "not used"
opt st_text_policy tc "not used"
opt nj 1 "not used"
parse_options "$@"
. ../TEMPLATE/objsoup1/path.sh

archive=$("${python:-python}" -c 'from importlib.resources import files
print(files("egs3") / "mini_an4" / "esp2_asr" / "downloads.tar.gz")')
py prepare_corpus an4 --archive "${archive}" --out "${datadir}"
