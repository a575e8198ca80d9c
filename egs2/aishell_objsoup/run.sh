#!/usr/bin/env bash
# Recognition of Mandarin and self-supervision on AISHELL-1; with LibriSpeech one model for Mandarin
# and English.
#   AISHELL=/where/it/is ./run.sh
#   ./run.sh --aishell DIR --librispeech DIR --train_subset 100    and 100 hours of English
#   ./run.sh --mini true --size tiny                    the mini corpus in its place: a smoke test
# shellcheck disable=SC2154  # `opt` sets the variables of options
set -euo pipefail
cd "$(dirname "$0")"
export OBJSOUP_COMMAND="./run.sh${*:+ $*}" # as given, for RESULTS.md

. ../TEMPLATE/objsoup1/parse_options.sh
opt aishell "" "folder that contains data_aishell/; empty: AISHELL of db.sh"
opt librispeech "" "folder that contains LibriSpeech/: English too; with --mini true: mini"
opt train_subset 960 "hours of LibriSpeech to train with" "100|460|960"
opt max_lost 0.1 "share of the recordings and transcripts that may be unusable in a split" share
opt download false "fetch what is missing, in stage 1" bool
opt mini false "the synthetic mini corpus in the layout of the real one" bool
opt size default "of the mini corpus" "tiny|default"
take_options "$@"

langs=zh
test_sets="test dev"
suffix=
tokens=(--token_type char)
nbpe=5000
config=conf/train.yaml
if [ "${mini}" = true ]; then
    export OBJSOUP_NEEDS=espeakng_loader # speaks the corpus
    [ -z "${aishell}" ] || usage_error --aishell "nothing, with --mini true" "${aishell}"
    [ "${librispeech:-mini}" = mini ] ||
        usage_error --librispeech "mini, with --mini true" "${librispeech}"
    suffix=_mini_${size}
    case ${size} in
        tiny) config=conf/train_tiny.yaml nbpe=150 ;;
        default) config=conf/train_mini.yaml nbpe=180 ;;
    esac
fi
if [ -n "${librispeech}" ]; then
    langs="en zh"
    test_sets="aishell_test aishell_dev test_clean test_other dev_clean dev_other"
    [ "${mini}" = true ] || suffix=_${train_subset}
    suffix+=_librispeech
    # Pieces for English words, a token for each Chinese character.
    tokens=(--bpe_groups "en|zh" --nbpe "${nbpe}|char")
fi
# Told before anything is installed; a download makes them, the mini corpus needs none.
[ "${mini}" = true ] || [ "${download}" = true ] || need_folders aishell librispeech
[ -z "${aishell}" ] || export AISHELL="${aishell}"
[ -z "${librispeech}" ] || export LIBRISPEECH="${librispeech}"

# Each choice of data has directories of its own, so that one does not overwrite another.
exec ../TEMPLATE/objsoup1/objsoup.sh \
    --langs "${langs}" --test_sets "${test_sets}" --config "${config}" "${tokens[@]}" \
    --datadir "data${suffix}" --dumpdir "dump${suffix}" --expdir "exp${suffix}" \
    --local_data_opts "--max_lost ${max_lost} --train_subset ${train_subset} --download ${download}
        --bilingual $([ -n "${librispeech}" ] && echo true || echo false)
        --mini ${mini} --size ${size}" \
    --max_wav_duration 30 --nj "$(cores)" "${other_options[@]}"
