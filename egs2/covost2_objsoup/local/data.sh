#!/usr/bin/env bash
# Stage 1: data directories of CoVoST 2 and Common Voice.
# shellcheck disable=SC2154,SC2034  # `opt` sets the variables of options; it reads help_message
set -euo pipefail
. ../TEMPLATE/objsoup1/parse_options.sh

help_message="
Makes train, dev and test. COMMONVOICE and COVOST2 in the environment or in db.sh say where the
corpora lie; without translations COVOST2 may be empty.
"
opt langs "en fr de es ca" "languages of recognition"
opt st_pairs "fr-en de-en es-en ca-en" "translations"
opt max_lost 0.1 "share of the clips or texts that may be unusable in a split of a language" share
opt forbid_leak none "what may not be in two splits" "none|speakers|sentences|both"
opt download false "fetch what may be fetched" bool
opt mini false "the mini corpus in the layout of the real one" bool
opt size default "of the mini corpus" "tiny|default"
opt datadir data "where data directories go"
opt asr_text_policy lc.rm "transcripts: tc, lc or lc.rm" "tc|lc|lc.rm"
opt st_text_policy tc "translations: tc, lc or lc.rm" "tc|lc|lc.rm"
opt nj 2 "processes" count
parse_options "$@"
. ../TEMPLATE/objsoup1/path.sh
. ../TEMPLATE/objsoup1/db.sh

pairs=${st_pairs//,/ }
if [ "${mini}" = true ]; then
    raw=downloads/mini_${size}
    COMMONVOICE=${raw}/commonvoice COVOST2=${raw}/covost2
    py make_mini_corpus --size "${size}" --langs "${langs}" --st_pairs "${st_pairs}" \
        --layouts covost2 --out "${raw}" --nj "${nj}"
elif [ "${download}" = true ]; then
    COMMONVOICE=${COMMONVOICE:-downloads/commonvoice} COVOST2=${COVOST2:-downloads/covost2}
    sources=${langs//,/ }
    # Without regions: zh of zh-CN-en, en of en-zh-CN.
    for pair in ${pairs}; do sources+=" ${pair%%-*}"; done
    sources=$(tr ' ' '\n' <<<"${sources}" | awk 'NF && !seen[$0]++' | tr '\n' ' ')
    parts=${pairs}
    # English without translations shall have the splits that CoVoST 2 gives it.
    if [[ " ${sources}" == *" en "* && " ${pairs}" != *" en-"* ]]; then parts+=" en-de"; fi
    py download_corpus covost2 --dir "${COVOST2}" --parts "${parts}" \
        --commonvoice "${COMMONVOICE}" --langs "${sources}"
fi

need_corpus COMMONVOICE
corpora=(--commonvoice "${COMMONVOICE}")
if [ -n "${pairs// /}" ]; then need_corpus COVOST2; fi
[ -z "${COVOST2}" ] || corpora+=(--covost2 "${COVOST2}")
forbidden=${forbid_leak/none/}
py prepare_corpus covost2 "${corpora[@]}" --langs "${langs}" --st_pairs "${st_pairs}" \
    --asr_text_policy "${asr_text_policy}" --st_text_policy "${st_text_policy}" \
    --max_lost "${max_lost}" --forbid_leak "${forbidden/both/speakers sentences}" \
    --nj "${nj}" --out "${datadir}"
