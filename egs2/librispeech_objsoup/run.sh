#!/usr/bin/env bash
# Recognition of English and self-supervision on LibriSpeech; with AISHELL-1 one model for English
# and Mandarin.
#   LIBRISPEECH=/where/it/is ./run.sh                   960 hours
#   ./run.sh --train_subset 100 --librispeech DIR --aishell DIR    100 hours, and Mandarin
#   ./run.sh --mini true --size tiny                    the mini corpus in its place: a smoke test
# shellcheck disable=SC2154  # `opt` sets the variables of options
set -euo pipefail
cd "$(dirname "$0")"
export OBJSOUP_COMMAND="./run.sh${*:+ $*}" # as given, for RESULTS.md

. ../TEMPLATE/objsoup1/parse_options.sh
opt train_subset 960 "hours of training data" "100|460|960"
opt unlabelled_subset none "hours whose audio is added for self-supervision" "none|100|460|960"
opt librispeech "" "folder that contains LibriSpeech/; empty: LIBRISPEECH of db.sh"
opt aishell "" "folder that contains data_aishell/: Mandarin too; with --mini true: mini"
opt max_lost 0.1 "share of the recordings and transcripts that may be unusable in a split" share
opt download false "fetch what is missing, in stage 1" bool
opt mini false "the synthetic mini corpus in the layout of the real one" bool
opt size default "of the mini corpus" "tiny|default"
take_options "$@"

langs=en
test_sets="test_clean test_other dev_clean dev_other"
suffix=
[ "${train_subset}" = 960 ] || suffix=_${train_subset}
[ "${unlabelled_subset}" = none ] || suffix+=_unlabelled${unlabelled_subset}
tokens=(--nbpe 5000)
config=conf/train.yaml
if [ "${mini}" = true ]; then
    export OBJSOUP_NEEDS=espeakng_loader # speaks the corpus
    [ "${aishell:-mini}" = mini ] || usage_error --aishell "mini, with --mini true" "${aishell}"
    [ -z "${librispeech}" ] || usage_error --librispeech "nothing, with --mini true" "${librispeech}"
    suffix=_mini_${size}
    case ${size} in
        tiny) config=conf/train_tiny.yaml tokens=(--nbpe 150) ;;
        default) config=conf/train_mini.yaml tokens=(--nbpe 180) ;;
    esac
fi
if [ -n "${aishell}" ]; then
    langs="en zh"
    test_sets+=" aishell_test aishell_dev"
    suffix+=_aishell
    # Pieces for English words, a token for each Chinese character.
    tokens=(--bpe_groups "en|zh" --nbpe "${tokens[1]}|char")
fi
# Told before anything is installed; a download makes them, the mini corpus needs none.
[ "${mini}" = true ] || [ "${download}" = true ] || need_folders librispeech aishell
[ -z "${librispeech}" ] || export LIBRISPEECH="${librispeech}"
[ -z "${aishell}" ] || export AISHELL="${aishell}"
[ "${unlabelled_subset}" = none ] || other_options=(--keep_unlabelled true "${other_options[@]}")

# Each choice of data has directories of its own, so that one does not overwrite another.
exec ../TEMPLATE/objsoup1/objsoup.sh \
    --langs "${langs}" --test_sets "${test_sets}" --config "${config}" "${tokens[@]}" \
    --datadir "data${suffix}" --dumpdir "dump${suffix}" --expdir "exp${suffix}" \
    --local_data_opts "--max_lost ${max_lost} --train_subset ${train_subset} --unlabelled_subset ${unlabelled_subset}
        --bilingual $([ -n "${aishell}" ] && echo true || echo false) --download ${download}
        --mini ${mini} --size ${size}" \
    --max_wav_duration 30 --nj "$(cores)" "${other_options[@]}"
