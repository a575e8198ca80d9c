#!/usr/bin/env bash
# One model for recognition and translation on CoVoST 2 and Common Voice. By default the setting of
# the paper: recognition of en fr de es ca, translation of fr de es ca into en, self-supervision.
#   COMMONVOICE=/where/it/is COVOST2=/where/it/is ./run.sh
#   ./run.sh --langs "en zh" --st_pairs "zh-en en-zh"    any of the corpus' 36 directions
#   ./run.sh --mini true --size tiny                     the mini corpus in its place: a smoke test
# shellcheck disable=SC2154  # `opt` sets the variables of options
set -euo pipefail
cd "$(dirname "$0")"
export OBJSOUP_COMMAND="./run.sh${*:+ $*}" # as given, for RESULTS.md

. ../TEMPLATE/objsoup1/parse_options.sh
opt commonvoice "" "folder of languages or releases; empty: COMMONVOICE of db.sh"
opt covost2 "" "folder with covost_v2.*.tsv; empty: COVOST2 of db.sh"
opt max_lost 0.1 "share of the clips or texts that may be unusable in a split of a language" share
opt forbid_leak none "what may not be in two splits: none, speakers, sentences or both" \
    "none|speakers|sentences|both"
opt download false "fetch CoVoST 2 in stage 1; Common Voice has to be fetched by hand" bool
opt mini false "the synthetic mini corpus in the layout of the real one" bool
opt size default "of the mini corpus" "tiny|default"
take_options "$@"

langs="en fr de es ca"
st_pairs="fr-en de-en es-en ca-en"
nbpe=5000
config=conf/train.yaml
suffix=
extra=()
if [ "${mini}" = true ]; then
    export OBJSOUP_NEEDS=espeakng_loader # speaks the corpus
    for name in commonvoice covost2; do
        [ -z "${!name}" ] || usage_error "--${name}" "nothing, with --mini true" "${!name}"
    done
    # As in mini_objsoup, so that scores can be compared.
    suffix=_mini_${size}
    extra=(--st_text_policy lc.rm --max_wav_duration 10 --inference_nj 2)
    case ${size} in
        tiny) langs="en fr de" st_pairs="fr-en de-en" nbpe=150 config=conf/train_tiny.yaml ;;
        default)
            langs="en fr de es" st_pairs="fr-en de-en es-en" nbpe=250 config=conf/train_mini.yaml
            ;;
    esac
fi
# Told before anything is installed; a download makes them, the mini corpus needs none.
[ "${mini}" = true ] || [ "${download}" = true ] || need_folders commonvoice covost2
[ -z "${commonvoice}" ] || export COMMONVOICE="${commonvoice}"
[ -z "${covost2}" ] || export COVOST2="${covost2}"

# The mini corpus has directories of its own, so that it does not replace the real one.
exec ../TEMPLATE/objsoup1/objsoup.sh \
    --langs "${langs}" --st_pairs "${st_pairs}" --config "${config}" --nbpe "${nbpe}" \
    --datadir "data${suffix}" --dumpdir "dump${suffix}" --expdir "exp${suffix}" \
    --local_data_opts "--max_lost ${max_lost} --forbid_leak ${forbid_leak} --download ${download}
        --mini ${mini} --size ${size}" \
    --nj "$(cores)" "${extra[@]}" "${other_options[@]}"
