#!/usr/bin/env bash
# Stage 1: data directories of AISHELL-1 and, if asked for, LibriSpeech.
# shellcheck disable=SC2154,SC2034  # `opt` sets the variables of options; it reads help_message
set -euo pipefail
. ../TEMPLATE/objsoup1/parse_options.sh

help_message="
Makes train, dev and test; with LibriSpeech train, dev, aishell_dev, aishell_test, dev_clean,
dev_other, test_clean and test_other. AISHELL and LIBRISPEECH in the environment or in db.sh say
where the corpora lie.
"
opt bilingual false "LibriSpeech too" bool
opt train_subset 960 "hours of LibriSpeech to train with" "100|460|960"
opt max_lost 0.1 "share of the recordings and transcripts that may be unusable in a split" share
opt download false "fetch what is missing" bool
opt mini false "the mini corpus in the layout of the real one" bool
opt size default "of the mini corpus" "tiny|default"
opt langs zh "languages of recognition; they follow from --bilingual"
opt st_pairs "" "none: there are no translations"
opt datadir data "where data directories go"
opt asr_text_policy lc.rm "transcripts: tc, lc or lc.rm" "tc|lc|lc.rm"
opt st_text_policy tc "not used"
opt nj 2 "processes" count
parse_options "$@"

expected=zh
[ "${bilingual}" = false ] || expected="en zh"
[ "${langs}" = "${expected}" ] ||
    usage_error --langs "'${expected}' (--librispeech adds en)" "${langs}"
[ -z "${st_pairs}" ] || usage_error --st_pairs "nothing: the corpus has no translations" "${st_pairs}"

. ../TEMPLATE/objsoup1/path.sh
. ../TEMPLATE/objsoup1/db.sh

parts="dev-clean dev-other test-clean test-other train-clean-100"
case ${train_subset} in
    460) parts+=" train-clean-360" ;;
    960) parts+=" train-clean-360 train-other-500" ;;
esac

if [ "${mini}" = true ]; then
    AISHELL=downloads/mini_${size} LIBRISPEECH=downloads/mini_${size} train_subset=100
    layouts=aishell
    [ "${bilingual}" = false ] || layouts+=" librispeech"
    py make_mini_corpus --size "${size}" --layouts "${layouts}" --out "${AISHELL}" --nj "${nj}"
elif [ "${download}" = true ]; then
    AISHELL=${AISHELL:-downloads/aishell}
    py download_corpus aishell --dir "${AISHELL}"
    if [ "${bilingual}" = true ]; then
        LIBRISPEECH=${LIBRISPEECH:-downloads/librispeech}
        py download_corpus librispeech --dir "${LIBRISPEECH}" --parts "${parts}"
    fi
fi

need_corpus AISHELL
corpora=(--aishell "${AISHELL}")
if [ "${bilingual}" = true ]; then
    need_corpus LIBRISPEECH
    corpora+=(--librispeech "${LIBRISPEECH}" --train_subset "${train_subset}")
fi
py prepare_corpus aishell "${corpora[@]}" --asr_text_policy "${asr_text_policy}" --nj "${nj}" \
    --max_lost "${max_lost}" --out "${datadir}"
