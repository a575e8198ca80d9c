#!/usr/bin/env bash
# The stages of every recipe; run it through a recipe's run.sh, whose directory is the working one.
# Stage numbers are those of ESPnet's asr.sh and st.sh.
# shellcheck disable=SC2154,SC2034  # `opt` sets the variables of options; it reads help_message
set -euo pipefail

template=$(cd "$(dirname "$0")" && pwd)
. "${template}/parse_options.sh"

help_message="
Stages
   1 corpus preparation      2 speed perturbation      3 format audio into dump
   4 drop utterances that are too short, too long or without label    5 token list
   6-9 reserved (ESPnet's language model and n-gram stages)
  10 collect statistics     11 train                  12 decode          13 score
  14 pack, 15 upload: not available in this version

A finished stage is not repeated unless one of its options, or a stage before it, has changed.
"
# General
opt stage 1 "first stage"
opt stop_stage 13 "last stage"
opt skip_data_prep false "skip stages 1 to 5"
opt skip_train false "skip stages 10 and 11"
opt skip_eval false "skip stages 12 and 13"
opt force false "repeat finished stages"
opt ngpu 0 "GPUs for training"
opt nj 4 "processes of data stages"
opt inference_nj 1 "processes of decoding, 1 GB each"
opt gpu_inference false "decode on a GPU"
opt datadir data "prepared data"
opt dumpdir dump "formatted data"
opt expdir exp "experiments"
opt python python "interpreter"
# Data
opt langs "en fr de" "languages of recognition"
opt st_pairs "" "translations, such as 'fr-en de-en'"
opt train_set train "training data"
opt valid_set dev "validation data"
opt test_sets test "test data, several separated by spaces"
opt local_data_opts "" "options of local/data.sh"
opt asr_text_policy lc.rm "transcripts: tc, lc or lc.rm"
opt st_text_policy tc "translations: tc, lc or lc.rm"
opt speed_perturb_factors "" "such as '0.9 1.0 1.1'; empty: none"
opt fs 16000 "sample rate in Hz"
opt audio_format flac "flac or wav"
opt min_wav_duration 0.1 "seconds"
opt max_wav_duration 20 "seconds"
opt token_type bpe "bpe or char"
opt nbpe 250 "size of the BPE model"
# Training and decoding
opt config conf/train.yaml "configuration of training"
opt tag "" "name of the experiment; empty: from the configuration"
opt init_param "" "weights to start from, as ESPnet's --init_param"
opt train_args "" "more options of training, such as '--max_epoch 5'"
opt inference_config conf/decode.yaml "configuration of decoding"
opt inference_model valid.loss.ave.pth "weights to decode with"
opt inference_args "" "more options of decoding"
opt update_results false "replace the recipe's tracked RESULTS.md"
command_line=${OBJSOUP_COMMAND:-./run.sh $*} # run.sh may say how it was called itself
parse_options "$@"

. "${template}/path.sh"
. "${template}/cmd.sh"

log() { echo "$(date '+%H:%M:%S') ${BASH_SOURCE[1]##*/}:${BASH_LINENO[0]} $*"; }

py() { "${python}" -m "espnet_objsoup.bin.$1" "${@:2}"; }

token_name=${token_type}
[ "${token_type}" = bpe ] && token_name=bpe_unigram${nbpe}
train_dir=${train_set}
[ -n "${speed_perturb_factors}" ] && train_dir=${train_set}_sp
token_dir=${datadir}/token_list/${token_name}
if [ -z "${tag}" ]; then
    tag=objsoup_$(basename "${config}" .yaml)_raw_${token_name}
    [ -n "${speed_perturb_factors}" ] && tag+=_sp
fi
stats_dir=${expdir}/objsoup_stats_raw_${token_name}
[ -n "${speed_perturb_factors}" ] && stats_dir+=_sp
exp=${expdir}/${tag}
decode_name=decode_$(basename "${inference_config}" .yaml)_$(basename "${inference_model}" .pth)

hash_of() { # of words, and of the contents of those that name files
    local word
    for word in "$@"; do
        printf '%s\n' "${word}"
        if [ -f "${word}" ]; then cat "${word}"; fi
    done | sha256sum | cut -d ' ' -f 1
}

# A stage's fingerprint holds its options and the fingerprint of the stage before it, so that a
# change runs a stage and all that depend on it.
h1=$(hash_of 1 "${langs}" "${st_pairs}" "${local_data_opts}" "${asr_text_policy}" \
    "${st_text_policy}" local/data.sh)
h2=$(hash_of "${h1}" "${speed_perturb_factors}")
h3=$(hash_of "${h2}" "${fs}" "${audio_format}" "${train_set}" "${valid_set}" "${test_sets}")
h4=$(hash_of "${h3}" "${min_wav_duration}" "${max_wav_duration}")
h5=$(hash_of "${h4}" "${token_type}" "${nbpe}")
h10=$(hash_of "${h5}" "${config}")
h11=$(hash_of "${h10}" "${tag}" "${init_param}" "${train_args}")
h12=$(hash_of "${h11}" "${inference_config}" "${inference_model}" "${inference_args}")
h13=$(hash_of "${h12}")

marker_of() {
    case $1 in
        [1-5]) echo "${dumpdir}/.stages/$1" ;;
        10) echo "${stats_dir}.stage" ;;
        *) echo "${exp}/.stages/$1" ;;
    esac
}

# run_stage NUMBER HASH DESCRIPTION FUNCTION
run_stage() {
    local number=$1 hash=$2 description=$3 function=$4 marker started
    if [ "${number}" -lt "${stage}" ] || [ "${number}" -gt "${stop_stage}" ]; then
        return 0
    fi
    marker=$(marker_of "${number}")
    if [ "${force}" = false ] && [ -f "${marker}" ] && [ "$(cat "${marker}")" = "${hash}" ]; then
        log "[${number}/${stop_stage}] ${description}: already done"
        return 0
    fi
    rm -f "${marker}"
    log "[${number}/${stop_stage}] ${description}: start"
    started=${SECONDS}
    "${function}"
    mkdir -p "$(dirname "${marker}")"
    echo "${hash}" >"${marker}.tmp"
    mv "${marker}.tmp" "${marker}"
    log "[${number}/${stop_stage}] ${description}: done in $((SECONDS - started)) s"
}

prepare_data() {
    # shellcheck disable=SC2086  # options are separated by spaces on purpose
    local/data.sh --langs "${langs}" --st_pairs "${st_pairs}" --datadir "${datadir}" \
        --asr_text_policy "${asr_text_policy}" --st_text_policy "${st_text_policy}" \
        --nj "${nj}" ${local_data_opts}
    local name directories=("${datadir}/${train_set}" "${datadir}/${valid_set}")
    for name in ${test_sets}; do directories+=("${datadir}/${name}"); done
    py validate_data_dir "${directories[@]}"
}

perturb_speed() {
    if [ -z "${speed_perturb_factors}" ]; then
        echo "no factors given (--speed_perturb_factors): nothing to do"
        return 0
    fi
    py perturb_speed --factors "${speed_perturb_factors}" \
        "${datadir}/${train_set}" "${datadir}/${train_dir}"
}

format_audio() {
    local name target
    for name in "${train_dir}" "${valid_set}" ${test_sets}; do
        target=${dumpdir}/raw/${name}
        case ${name} in "${train_dir}" | "${valid_set}") target=${dumpdir}/raw/org/${name} ;; esac
        py format_audio --fs "${fs}" --audio_format "${audio_format}" --nj "${nj}" \
            "${datadir}/${name}" "${target}"
    done
}

filter_data() {
    local name
    for name in "${train_dir}" "${valid_set}"; do
        py filter_data_dir --fs "${fs}" --min_wav_duration "${min_wav_duration}" \
            --max_wav_duration "${max_wav_duration}" \
            "${dumpdir}/raw/org/${name}" "${dumpdir}/raw/${name}"
    done
}

make_tokens() {
    py make_token_list --data_dirs "${dumpdir}/raw/${train_dir}" --token_type "${token_type}" \
        --nbpe "${nbpe}" --out "${token_dir}"
}

train_options=(
    --config "${config}" --train_dir "${dumpdir}/raw/${train_dir}"
    --valid_dir "${dumpdir}/raw/${valid_set}" --token_dir "${token_dir}"
)

collect_stats() {
    # Statistics do not depend on how training is done: a job's memory is all that --nj costs.
    local jobs=${nj}
    [ "${jobs}" -gt "$(nproc)" ] && jobs=$(nproc)
    py collect_stats --nj "${jobs}" --output_dir "${stats_dir}" "${train_options[@]}" \
        --use_tensorboard false
}

train() {
    local old started=${exp}/.stages/11.started
    if [ -f "${started}" ] && [ "$(cat "${started}")" != "${h11}" ]; then
        # Resuming would mix two configurations; nothing is deleted.
        old=${exp}.before_$(date '+%Y%m%d_%H%M%S')
        log "options have changed: the earlier training moves to ${old}"
        mv "${exp}" "${old}"
    fi
    mkdir -p "${exp}/.stages"
    echo "${h11}" >"${started}"
    local extra=()
    [ "${ngpu}" -gt 1 ] && extra+=(--multiprocessing_distributed true)
    [ -n "${init_param}" ] && extra+=(--init_param "${init_param}")
    # shellcheck disable=SC2086
    ${train_cmd} "${python}" -m espnet_objsoup.bin.train "${train_options[@]}" \
        --stats_dir "${stats_dir}" --output_dir "${exp}" --ngpu "${ngpu}" --resume true \
        "${extra[@]}" ${train_args} 2>&1 | tee -a "${exp}/train.log"
}

decode() {
    local name gpus=0
    [ "${gpu_inference}" = true ] && gpus=1
    for name in ${test_sets}; do
        # shellcheck disable=SC2086
        py decode --train_config "${exp}/config.yaml" --model_file "${exp}/${inference_model}" \
            --data_dir "${dumpdir}/raw/${name}" --output_dir "${exp}/${decode_name}/${name}" \
            --config "${inference_config}" --nj "${inference_nj}" --ngpu "${gpus}" ${inference_args}
    done
}

score() {
    local extra=()
    [ "${update_results}" = true ] && extra+=(--results_file RESULTS.md)
    py score --decode_dir "${exp}/${decode_name}" --dump_dir "${dumpdir}/raw" \
        --test_sets "${test_sets}" --exp_dir "${exp}" --asr_text_policy "${asr_text_policy}" \
        --st_text_policy "${st_text_policy}" --model_file "${inference_model}" \
        --command "${command_line}" "${extra[@]}"
}

begin=${SECONDS}
if [ "${skip_data_prep}" = false ]; then
    run_stage 1 "${h1}" "prepare the corpus" prepare_data
    run_stage 2 "${h2}" "perturb speed" perturb_speed
    run_stage 3 "${h3}" "format audio" format_audio
    run_stage 4 "${h4}" "filter utterances" filter_data
    run_stage 5 "${h5}" "make the token list" make_tokens
fi
for number in 6 7 8 9; do
    if [ "${number}" -ge "${stage}" ] && [ "${number}" -le "${stop_stage}" ]; then
        log "[${number}/${stop_stage}] reserved for a language model: nothing to do"
    fi
done
if [ "${skip_train}" = false ]; then
    run_stage 10 "${h10}" "collect statistics" collect_stats
    run_stage 11 "${h11}" "train" train
fi
if [ "${skip_eval}" = false ]; then
    run_stage 12 "${h12}" "decode" decode
    # Cheap, and asked for by --update_results after the fact.
    [ "${update_results}" = true ] && rm -f "$(marker_of 13)"
    run_stage 13 "${h13}" "score" score
fi
if [ "${stop_stage}" -ge 14 ]; then
    echo "error: stages 14 (pack) and 15 (upload) are not available in this version" >&2
    exit 1
fi
log "finished in $((SECONDS - begin)) s; experiment: ${exp}"
