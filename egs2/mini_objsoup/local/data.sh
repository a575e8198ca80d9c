#!/usr/bin/env bash
# Stage 1: make the synthetic corpus in the layout of Common Voice and CoVoST 2, then prepare it as
# the real one.
# shellcheck disable=SC2154,SC2034  # `opt` sets the variables of options; it reads help_message
set -euo pipefail
. ../TEMPLATE/objsoup1/parse_options.sh

help_message="Makes downloads/mini_SIZE and the data directories train, dev and test."
opt size default "tiny, compare, default or large"
opt rare "" "languages of which training keeps a tenth, transcripts and translations"
opt langs "en fr de es" "languages of recognition"
opt st_pairs "fr-en de-en es-en" "translations"
opt datadir data "where data directories go"
opt asr_text_policy lc.rm "transcripts: tc, lc or lc.rm"
opt st_text_policy lc.rm "translations: tc, lc or lc.rm"
opt nj 2 "processes"
parse_options "$@"
. ../TEMPLATE/objsoup1/path.sh

raw=downloads/mini_${size}
py make_mini_corpus --size "${size}" --langs "${langs}" \
    --st_pairs "${st_pairs}" --layouts covost2 --out "${raw}" --nj "${nj}"
py prepare_corpus covost2 --commonvoice "${raw}/commonvoice" \
    --covost2 "${raw}/covost2" --langs "${langs}" --st_pairs "${st_pairs}" \
    --asr_text_policy "${asr_text_policy}" --st_text_policy "${st_text_policy}" --out "${datadir}"

# keep_a_tenth LANG    of its utterances, drawn once for all; the other languages keep theirs
keep_a_tenth() {
    local work="${datadir}/.rare_$1" count others
    count=$(awk -v lang="$1" '$2 == lang {n++} END {print int((n + 9) / 10)}' "${datadir}/train/utt2lang")
    if [ "${count}" -eq 0 ]; then
        echo "error: --rare: expected some of the languages '${langs}', found '$1'" >&2
        return 1
    fi
    others=$(awk -v lang="$1" '$2 != lang {print $2}' "${datadir}/train/utt2lang" | sort -u | xargs)
    rm -rf "${work}"
    py subset_data_dir --langs "${others}" "${datadir}/train" "${work}/others"
    py subset_data_dir --langs "$1" --number "${count}" "${datadir}/train" "${work}/rare"
    py combine_data_dirs "${work}/others" "${work}/rare" "${work}/train"
    rm -r "${datadir}/train"
    mv "${work}/train" "${datadir}/train"
    rm -r "${work}"
}
for lang in ${rare}; do keep_a_tenth "${lang}"; done
