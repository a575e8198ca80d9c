#!/usr/bin/env bash
# Compares soups and fixed weights: trains, decodes and scores every (variant, arm, seed) of
# conf/compare.yaml that has no JSON in results/ yet, and writes results/RESULTS.md.
#   ./compare.sh --dry_run true          what would be run
#   ./compare.sh                         all main arms with seeds 1 2 3, two runs at a time
#   ./compare.sh --arms "static flat" --variants narrow --seeds 1
#   ./compare.sh --table true            only the table
# shellcheck disable=SC2154,SC2034  # `opt` sets the variables of options; it reads help_message
set -euo pipefail
set -f
cd "$(dirname "$0")"
export OBJSOUP_NEEDS=espeakng_loader # speaks the corpus

. ../TEMPLATE/objsoup1/parse_options.sh
help_message="
Trains, decodes and scores what has no result yet. docs/comparison.md says how to read the table.
"
opt arms main "arms of conf/compare.yaml: names, a group (main, ablation), or all"
opt seeds "1 2 3" "seeds of training"
opt variants balanced "variants of conf/compare.yaml: names, or all"
opt jobs 2 "runs at a time, a core and 2 GB each" count
opt equal_cost false "arms whose updates cost more get fewer of them" bool
opt keep false "keep the checkpoints of finished runs" bool
opt report true "also make a page about the runs of the first seed" bool
opt table false "only write the table, from the results that are there" bool
opt dry_run false "show the commands and end" bool
parse_options "$@"
. ../TEMPLATE/objsoup1/path.sh

exec "${python:-python}" -m espnet_objsoup.bin.compare --arms "${arms}" --seeds "${seeds}" \
    --variants "${variants}" --jobs "${jobs}" --equal_cost "${equal_cost}" --keep "${keep}" \
    --report "${report}" --table "${table}" --dry_run "${dry_run}"
