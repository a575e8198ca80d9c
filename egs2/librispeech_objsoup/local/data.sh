#!/usr/bin/env bash
# Stage 1: data directories of LibriSpeech and, if asked for, AISHELL-1.
# shellcheck disable=SC2154,SC2034  # `opt` sets the variables of options; it reads help_message
set -euo pipefail
. ../TEMPLATE/objsoup1/parse_options.sh

help_message="
Makes train, dev, dev_clean, dev_other, test_clean and test_other, with AISHELL-1 aishell_dev and
aishell_test too. LIBRISPEECH and AISHELL in the environment or in db.sh say where the corpora lie.
"
opt train_subset 960 "hours of training data" "100|460|960"
opt unlabelled_subset none "hours whose audio is added for self-supervision" "none|100|460|960"
opt bilingual false "AISHELL-1 too" bool
opt max_lost 0.1 "share of the recordings and transcripts that may be unusable in a split" share
opt download false "fetch what is missing" bool
opt mini false "the mini corpus in the layout of the real one" bool
opt size default "of the mini corpus" "tiny|default"
opt langs en "languages of recognition; they follow from --bilingual"
opt st_pairs "" "none: there are no translations"
opt datadir data "where data directories go"
opt asr_text_policy lc.rm "transcripts: tc, lc or lc.rm" "tc|lc|lc.rm"
opt st_text_policy tc "not used"
opt nj 2 "processes" count
parse_options "$@"

expected=en
[ "${bilingual}" = false ] || expected="en zh"
[ "${langs}" = "${expected}" ] || usage_error --langs "'${expected}' (--aishell adds zh)" "${langs}"
[ -z "${st_pairs}" ] || usage_error --st_pairs "nothing: the corpus has no translations" "${st_pairs}"

. ../TEMPLATE/objsoup1/path.sh
. ../TEMPLATE/objsoup1/db.sh

parts="dev-clean dev-other test-clean test-other train-clean-100"
for hours in "${train_subset}" "${unlabelled_subset}"; do
    case ${hours} in
        460) parts+=" train-clean-360" ;;
        960) parts+=" train-clean-360 train-other-500" ;;
    esac
done

if [ "${mini}" = true ]; then
    LIBRISPEECH=downloads/mini_${size} AISHELL=downloads/mini_${size} train_subset=100
    layouts=librispeech
    [ "${bilingual}" = false ] || layouts+=" aishell"
    py make_mini_corpus --size "${size}" --layouts "${layouts}" --out "${LIBRISPEECH}" --nj "${nj}"
elif [ "${download}" = true ]; then
    LIBRISPEECH=${LIBRISPEECH:-downloads/librispeech}
    py download_corpus librispeech --dir "${LIBRISPEECH}" --parts "${parts}"
    if [ "${bilingual}" = true ]; then
        AISHELL=${AISHELL:-downloads/aishell}
        py download_corpus aishell --dir "${AISHELL}"
    fi
fi

need_corpus LIBRISPEECH
corpora=(--librispeech "${LIBRISPEECH}")
if [ "${bilingual}" = true ]; then
    need_corpus AISHELL
    corpora+=(--aishell "${AISHELL}")
fi
[ "${unlabelled_subset}" = none ] || corpora+=(--unlabelled_subset "${unlabelled_subset}")
py prepare_corpus librispeech "${corpora[@]}" --train_subset "${train_subset}" \
    --asr_text_policy "${asr_text_policy}" --nj "${nj}" --max_lost "${max_lost}" \
    --out "${datadir}"
