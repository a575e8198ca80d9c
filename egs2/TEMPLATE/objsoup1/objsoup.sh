#!/usr/bin/env bash
# The stages of every recipe; run it through a recipe's run.sh, whose directory is the working one.
# Stage numbers are those of ESPnet's asr.sh and st.sh.
# shellcheck disable=SC2154,SC2034  # `opt` sets the variables of options; it reads help_message
set -euo pipefail

# Options with several words are divided at spaces; `*` and the like in them are no patterns.
set -f
template=$(cd "$(dirname "$0")" && pwd)
. "${template}/parse_options.sh"

help_message="
Stages
   1 corpus preparation      2 speed perturbation      3 format audio into dump
   4 drop utterances that are too short, too long or without label    5 token list
   6-9 reserved (ESPnet's language model and n-gram stages)
  10 collect statistics     11 train                  12 decode          13 score
  14 pack                   15 show what would go to the Hugging Face hub, or send it

A finished stage is not repeated unless one of its options, or a stage before it, has changed.
docs/stages.md says more.
"
# General
opt stage 1 "first stage" count
opt stop_stage 13 "last stage" count
opt skip_data_prep false "skip stages 1 to 5" bool
opt skip_train false "skip stages 10 and 11" bool
opt skip_eval false "skip stages 12 and 13" bool
opt skip_packing false "skip stage 14" bool
opt skip_upload false "skip stage 15" bool
opt force false "repeat finished stages" bool
opt ngpu 0 "GPUs for training, on each node" number
opt num_nodes 1 "machines for training" count
opt host "" "machines for training by ssh, with their GPUs, such as 'node1:0:1,node2:0:1'"
opt launcher launch "what starts several processes: ESPnet's launcher, or torchrun" "launch|torchrun"
opt nj 4 "processes of data stages" count
opt inference_nj 1 "processes of decoding, 1 GB each" count
opt cluster "" "file such as conf/cluster/slurm.yaml: stages 3, 10 and 12 are its jobs; empty: here"
opt gpu_inference false "decode on a GPU" bool
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
opt asr_text_policy lc.rm "transcripts: tc, lc or lc.rm" "tc|lc|lc.rm"
opt st_text_policy tc "translations: tc, lc or lc.rm" "tc|lc|lc.rm"
opt allow_pipes false "run commands that wav.scp holds" bool
opt speed_perturb_factors "" "such as '0.9 1.0 1.1'; empty: none"
opt fs 16000 "sample rate in Hz, such as 16000 or 16k"
opt audio_format flac "flac, wav, flac.ark or wav.ark" "flac|wav|flac.ark|wav.ark"
opt channel "" "channel of recordings with several, from 0"
opt max_damaged 0 "share of a set's utterances that are left out if their audio is damaged" share
opt min_wav_duration 0.1 "seconds" duration
opt max_wav_duration 20 "seconds" duration
opt keep_unlabelled false "keep utterances without any label, for self-supervision" bool
opt token_type bpe "bpe or char" "bpe|char"
opt nbpe 250 "size of the BPE model, or of each group's such as '1000|4000'; char: a piece per character"
opt bpe_groups "" "languages that share a BPE model, such as 'en fr|zh'; empty: all share one"
opt bpe_temperature 1 "above 1 languages with little text get more of the BPE model"
# Training and decoding
opt config conf/train.yaml "configuration of training"
opt tag "" "name of the experiment; empty: from the configuration"
opt init_param "" "weights to start from, as ESPnet's --init_param"
opt train_args "" "more options of training, such as '--max_epoch 5'"
opt inference_config conf/decode.yaml "configuration of decoding"
opt inference_model valid.loss.ave.pth "weights to decode with"
opt inference_args "" "more options of decoding"
opt nbest "" "hypotheses to write for each utterance; empty: as inference_config says, else 1"
opt update_results false "replace the recipe's tracked RESULTS.md" bool
# Publication
opt license "" "of the model, as the hub names it, such as cc-by-4.0; empty: none is stated"
opt hf_repo "" "where the model will be on the hub, as user/name; empty: not known"
opt hf_upload false "send it in stage 15; without this it only shows what would go" bool
opt hf_private false "a new repository on the hub can be read by its owner only" bool
opt hf_replace false "put the model in the place of another one that the repository holds" bool
opt corpus "" "names of the corpora for the model card; empty: it names the recipe"
opt pack_args "" "more options of packing, such as '--datasets facebook/covost2'"
command_line=${OBJSOUP_COMMAND:-./run.sh $*} # run.sh may say how it was called itself
same_command=$(printf '%q ' "$0" "$@")       # for the run.sh that a stage leaves behind
parse_options "$@"
. "${template}/cmd.sh"

log() { echo "$(date '+%H:%M:%S') ${BASH_SOURCE[1]##*/}:${BASH_LINENO[0]} $*"; }

includes() { # FIRST LAST: whether a stage between them is asked for
    [ "${stage}" -le "$2" ] && [ "${stop_stage}" -ge "$1" ]
}

# Everything that can be found wrong before the first stage is found here.
check_options() {
    local word factors=
    [ "${stop_stage}" -le 15 ] || usage_error --stop_stage "a stage from 1 to 15" "${stop_stage}"
    [ "${stage}" -le "${stop_stage}" ] ||
        usage_error --stage "at most --stop_stage ${stop_stage}" "${stage}"
    [[ ${fs} =~ ^[1-9][0-9]*k?$ ]] || usage_error --fs "a rate in Hz, such as 16000 or 16k" "${fs}"
    fs=${fs/%k/000}
    [[ ${channel} =~ ^[0-9]*$ ]] || usage_error --channel "a whole number of at least 0" "${channel}"
    [[ -z ${nbest} || ${nbest} =~ ^0*[1-9][0-9]*$ ]] ||
        usage_error --nbest "a whole number of at least 1" "${nbest}"
    awk "BEGIN {exit !(${min_wav_duration} < ${max_wav_duration})}" ||
        usage_error --min_wav_duration "less than --max_wav_duration ${max_wav_duration}" \
            "${min_wav_duration}"
    for word in ${speed_perturb_factors}; do
        # The limits are those of espnet_objsoup.data; six digits are part of the ids.
        if ! [[ ${word} =~ ^[0-9]+(\.[0-9]+)?$ ]] ||
            ! LC_ALL=C awk "BEGIN {exit !(${word} >= 0.5 && ${word} <= 2)}"; then
            usage_error --speed_perturb_factors "numbers from 0.5 to 2" "${word}"
        fi
        factors+="$(LC_ALL=C awk "BEGIN {printf \"%g\", ${word}}")"$'\n'
    done
    [ -z "$(sort <<<"${factors}" | uniq -d)" ] ||
        usage_error --speed_perturb_factors "distinct numbers" "${speed_perturb_factors}"
    for word in ${st_pairs//,/ }; do
        # A code may have a region, as espnet_objsoup.data.languages reads it.
        [[ ${word} =~ ^[a-zA-Z_]+(-[A-Z]{2})?-[a-zA-Z_]+(-[A-Z]{2})?$ ]] ||
            usage_error --st_pairs "pairs such as fr-en or zh-CN-en" "${word}"
    done
    for word in ${nbpe//|/ }; do
        [[ ${word} =~ ^(0*[1-9][0-9]*|char)$ ]] ||
            usage_error --nbpe "whole numbers of at least 1, or char, separated by |" "${word}"
    done
    [ "$(tr -cd '|' <<<"${nbpe}")" = "$(tr -cd '|' <<<"${bpe_groups}")" ] && [ -n "${nbpe// /}" ] ||
        usage_error --nbpe "a size for each group of --bpe_groups '${bpe_groups}'" "${nbpe}"
    if [ "${token_type}" = char ] && [ -n "${bpe_groups// /}" ]; then
        usage_error --bpe_groups "nothing with --token_type char" "${bpe_groups}" \
            "--nbpe char gives a group a piece for each character"
    fi
    [[ ${bpe_temperature} =~ ^[1-9][0-9]*(\.[0-9]+)?$ ]] ||
        usage_error --bpe_temperature "a number of at least 1" "${bpe_temperature}"
    [ -n "${langs// /}${st_pairs// /}" ] || usage_error --langs "a language, or a pair in --st_pairs" ""
    for word in train_set valid_set datadir dumpdir expdir inference_model; do
        [[ -n ${!word} && ${!word} != *[[:space:]]* ]] || usage_error "--${word}" "one name" "${!word}"
    done
    if [ -z "${test_sets// /}" ] && { includes 3 3 || includes 12 13; }; then
        usage_error --test_sets "at least one name" "${test_sets}" \
            "name one, or leave out evaluation by --stop_stage 11"
    fi
    check_publication
    check_files
}

check_publication() {
    includes 14 15 || return 0
    [[ ${license} =~ ^([a-z0-9][a-z0-9.+-]*)?$ ]] ||
        usage_error --license "an identifier of the hub, such as cc-by-4.0" "${license}"
    [[ ${hf_repo} =~ ^([A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*)?$ ]] ||
        usage_error --hf_repo "user/name" "${hf_repo}"
    if includes 15 15 && [ "${skip_upload}" = false ] && [ -z "${hf_repo}" ]; then
        usage_error --hf_repo "user/name for stage 15" "${hf_repo}"
    fi
}

check_launcher() {
    if [ -n "${host}" ]; then
        # ssh would take a name that begins with - for one of its options.
        [[ ${host} =~ ^[^,:[:space:]]+(:[0-9]+)*(,[^,:[:space:]]+(:[0-9]+)*)*$ &&
            ,${host} != *,-* ]] ||
            usage_error --host "machines and GPUs, such as node1:0:1,node2:0:1" "${host}"
        [ "${num_nodes}" -eq 1 ] || usage_error --num_nodes "nothing beside --host" "${num_nodes}"
        command -v ssh >/dev/null || usage_error --host "the command ssh" "none"
    fi
    if [ "${launcher}" = torchrun ]; then
        if [ "${num_nodes}" -gt 1 ] || [ -n "${host}${train_cmd}" ]; then
            usage_error --launcher "launch, for several machines and for train_cmd" torchrun \
                "docs/scale_out.md shows torchrun on several machines"
        fi
        [ "${ngpu}" -gt 0 ] || usage_error --ngpu "at least 1 with --launcher torchrun" "${ngpu}" \
            "docs/scale_out.md shows several processes on CPUs"
    fi
}

check_files() {
    # Examples may be used as they are, from a recipe that has none of its own.
    if [ -n "${cluster}" ] && [ ! -f "${cluster}" ]; then
        [ -f "${template}/${cluster}" ] ||
            usage_error --cluster "a file, seen from ${PWD} or ${template}" "${cluster}"
        cluster=${template}/${cluster}
    fi
    if includes 1 1 && [ "${skip_data_prep}" = false ] && [ ! -x local/data.sh ]; then
        usage_error --stage "a recipe's directory with local/data.sh for stage 1" "${PWD}" \
            "run it through a recipe's run.sh"
    fi
    if includes 10 15 && [ ! -f "${config}" ]; then
        usage_error --config "a file, seen from ${PWD}" "${config}"
    fi
    if includes 12 15 && [ "${skip_eval}" = false ] && [ ! -f "${inference_config}" ]; then
        usage_error --inference_config "a file, seen from ${PWD}" "${inference_config}"
    fi
    if [ -n "${init_param}" ] && [ "${skip_train}" = false ] && includes 11 11 &&
        [ ! -f "${init_param}" ] && [ ! -f "${init_param%%:*}" ]; then
        usage_error --init_param "weights.pth or weights.pth:from:to with a file, seen from ${PWD}" \
            "${init_param}"
    fi
    check_launcher
    if [ -n "${train_cmd}" ] && ! command -v "${train_cmd%% *}" >/dev/null; then
        usage_error train_cmd "a command such as slurm.pl in cmd.sh or the environment" "${train_cmd}"
    fi
    if [ "${num_nodes}" -gt 1 ] && [ -z "${train_cmd}" ] && ! command -v mpirun >/dev/null; then
        usage_error --num_nodes "mpirun, or a train_cmd such as slurm.pl, for several machines" \
            "${num_nodes} and neither" "see docs/stages.md"
    fi
}
check_options

. "${template}/path.sh"
. "${template}/db.sh"
. "${template}/stages.sh"
export python # for local/data.sh

# PyTorch takes seconds, so it is asked only where a GPU of this machine is wanted.
check_gpus() {
    local needed=0 option found
    if [ "${gpu_inference}" = true ] && [ "${skip_eval}" = false ] && includes 12 12 &&
        [ -z "${cluster}" ]; then
        needed=1 option=--gpu_inference
    fi
    if [ "${ngpu}" -gt "${needed}" ] && [ "${skip_train}" = false ] && includes 11 11 &&
        [ "${num_nodes}" -eq 1 ] && [ -z "${train_cmd}${host}" ]; then
        needed=${ngpu} option=--ngpu
    fi
    [ "${needed}" -gt 0 ] || return 0
    found=$("${python}" -c 'import torch; print(torch.cuda.device_count())' 2>/dev/null) || found=0
    [ "${found}" -ge "${needed}" ] ||
        usage_error "${option}" "${needed} GPU(s) of this machine that PyTorch can use" "${found}" \
            "leave it out for the CPU, or look at nvidia-smi and CUDA_VISIBLE_DEVICES"
}
check_gpus

with_cluster=()
if [ -n "${cluster}" ]; then
    with_cluster=(--cluster "${cluster}")
    if { [ "${skip_data_prep}" = false ] && includes 3 3; } ||
        { [ "${skip_train}" = false ] && includes 10 10; } ||
        { [ "${skip_eval}" = false ] && includes 12 12; }; then
        py cluster --config "${cluster}" --show false >/dev/null || exit 2
    fi
fi

token_name=${token_type}
if [ "${token_type}" = bpe ]; then
    token_name=bpe_unigram${nbpe}
    [ -z "${bpe_groups// /}" ] || token_name+=_${bpe_groups}
    [[ ${bpe_temperature} =~ ^1(\.0*)?$ ]] || token_name+=_t${bpe_temperature}
    # Names of directories: 1000|4000_en fr|zh is 1000-4000_en+fr-zh.
    token_name=${token_name// | /|} token_name=${token_name//|/-} token_name=${token_name//[ ,]/+}
fi
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

# What fingerprints hold besides options: the recipe's scripts of stage 1, and where the corpora lie
# that they mention; the part of the configuration that statistics depend on.
local_scripts=$(find local -type f -exec sha256sum {} + 2>/dev/null | sort | digest)
corpora=
for name in $(sed -n 's/^\([A-Z][A-Z0-9_]*\)=.*/\1/p' "${template}/db.sh"); do
    if grep -rqw "${name}" local 2>/dev/null; then corpora+="${name}=${!name} "; fi
done
front_end=
if includes 10 15; then
    checked=(--config "${config}")
    if [ -f "${inference_config}" ]; then checked+=(--inference_config "${inference_config}"); fi
    if [ -n "${nbest}" ] && [ "${skip_eval}" = false ] && includes 12 12; then
        checked+=(--nbest "${nbest}")
    fi
    if [ "${skip_eval}" = false ] && includes 13 13; then checked+=(--st_pairs "${st_pairs}"); fi
    front_end=$(py check_config "${checked[@]}" --train_args "${train_args}")
fi

marker_of() {
    case $1 in
        [12]) echo "${datadir}/.stages/$1" ;;
        [34]) echo "${dumpdir}/.stages/$1" ;;
        5) echo "${token_dir}.stage" ;;
        10) echo "${stats_dir}.stage" ;;
        11) echo "${exp}/.stages/11" ;;
        *) echo "${exp}/.stages/$1.${decode_name}" ;;
    esac
}

now="$(date '+%Y-%m-%d %H:%M:%S') by process $$"
for number in 1 2 3 4 5; do
    printf -v "repeated${number}" '%s' "$(repetition "${number}" "${skip_data_prep}")"
done
repeated10=$(repetition 10 "${skip_train}")
# Of `weights.pth:from:to` the file; a plain file is looked at anyway.
init_param_file=
if [ ! -f "${init_param}" ]; then init_param_file=${init_param%%:*}; fi

f1=$(fingerprint "" repeated1 langs st_pairs local_data_opts asr_text_policy st_text_policy \
    allow_pipes local_scripts corpora)
f2=$(fingerprint "$(digest <<<"${f1}")" repeated2 train_set speed_perturb_factors)
f3=$(fingerprint "$(digest <<<"${f2}")" repeated3 datadir fs audio_format channel max_damaged \
    train_set valid_set)
f4=$(fingerprint "$(digest <<<"${f3}")" repeated4 min_wav_duration max_wav_duration \
    keep_unlabelled)
f5=$(fingerprint "$(digest <<<"${f4}")" repeated5 dumpdir token_type nbpe \
    bpe_groups bpe_temperature)
f10=$(fingerprint "$(digest <<<"${f5}")" repeated10 front_end)
f11=$(fingerprint "$(digest <<<"${f10}")" config tag init_param init_param_file train_args)
f12=$(fingerprint "$(digest <<<"${f11}")" inference_config inference_model inference_args nbest test_sets)
f13=$(fingerprint "$(digest <<<"${f12}")")
f14=$(fingerprint "$(digest <<<"${f13}")" license hf_repo corpus pack_args)
f15=$(fingerprint "$(digest <<<"${f14}")" hf_upload hf_private hf_replace)
# Only stages 3 and 12 depend on the test sets: a new one does not train again.
f3+=$'\n'"test_sets=${test_sets}"

# What a stage writes is its own; what it reads may be read by others at the same time.
lock_stage() {
    case $1 in
        [12]) lock_one data exclusive && lock_one dump exclusive ;;
        3) lock_one dump exclusive && lock_one data shared ;;
        4) lock_one dump exclusive ;;
        5) lock_one tokens exclusive && lock_one dump shared ;;
        10) lock_one stats exclusive && lock_one dump shared && lock_one tokens shared ;;
        11) lock_one exp exclusive && lock_one dump shared && lock_one tokens shared &&
            lock_one stats shared ;;
        *) lock_one exp exclusive && lock_one dump shared ;;
    esac
}

lock_one() { # WHAT exclusive|shared
    case $1 in
        data) lock "${datadir}/.stages/lock" "$2" "${datadir}" ;;
        dump) lock "${dumpdir}/.stages/lock" "$2" "${dumpdir}" ;;
        tokens) lock "${datadir}/token_list/.${token_name}.lock" "$2" "${token_dir}" ;;
        stats) lock "${expdir}/.${stats_dir##*/}.lock" "$2" "${stats_dir}" ;;
        exp) lock "${expdir}/.${tag}.lock" "$2" "${exp}" ;;
    esac
}

require_stages_before() {
    # Audio that was made from the same data stays good when a run with another --dumpdir has
    # prepared other data in --datadir since.
    if [ "$1" -le 3 ] || ! made_with 3 "${f3}"; then
        if [ "$1" -gt 1 ]; then require_stage 1 "${f1}"; fi
        if [ "$1" -gt 2 ]; then require_stage 2 "${f2}"; fi
        if [ "$1" -gt 3 ]; then require_stage 3 "${f3}"; fi
    fi
    if [ "$1" -gt 4 ]; then require_stage 4 "${f4}"; fi
    if [ "$1" -gt 5 ]; then require_stage 5 "${f5}"; fi
    if [ "$1" -gt 10 ]; then require_stage 10 "${f10}"; fi
    if [ "$1" -gt 11 ]; then require_stage 11 "${f11}"; fi
    if [ "$1" -gt 12 ]; then require_stage 12 "${f12}"; fi
    if [ "$1" -gt 13 ]; then require_stage 13 "${f13}"; fi
    if [ "$1" -gt 14 ]; then require_stage 14 "${f14}"; fi
}

remove_notes() { # GLOB: of the experiment's stages
    if [ -d "${exp}/.stages" ]; then
        find "${exp}/.stages" -maxdepth 1 ! -type d ! -name '.*' -name "$1" -delete
    fi
}

# forget_from NUMBER    a stage is not finished now, nor are those whose files it is about to replace
# or contradict. What lies elsewhere and was made from its output shows by its fingerprint.
forget_from() {
    local number
    case $1 in
        [1-4]) for number in 1 2 3 4; do
            if [ "${number}" -ge "$1" ]; then rm -f "$(marker_of "${number}")"{,.started}; fi
        done ;;
        11) remove_notes "*" ;;
        12) rm -f "$(marker_of 12)" "$(marker_of 13)" "$(marker_of 14)" ;;
        13) rm -f "$(marker_of 13)" "$(marker_of 14)" ;;
        14) remove_notes "14.*" ;; # of other weights, whose archive has the same name
        *) rm -f "$(marker_of "$1")" ;;
    esac
}

# leave_run_script NUMBER DIRECTORY    DIRECTORY/run.sh, which goes on from a stage as ESPnet's does
leave_run_script() {
    mkdir -p "$2"
    cat >"$2/run.sh" <<SCRIPT
#!/usr/bin/env bash
# Runs the recipe again from stage $1 on with the same options; others may follow, such as --force true.
cd $(printf '%q' "${PWD}") || exit 1
exec ${same_command}--stage $1 "\$@"
SCRIPT
    chmod +x "$2/run.sh"
}

with_pipes=()
[ "${allow_pipes}" = true ] && with_pipes=(--allow_pipes true)

prepare_data() {
    # shellcheck disable=SC2086  # options are separated by spaces on purpose
    local/data.sh --langs "${langs}" --st_pairs "${st_pairs}" --datadir "${datadir}" \
        --asr_text_policy "${asr_text_policy}" --st_text_policy "${st_text_policy}" \
        --nj "${nj}" ${local_data_opts}
    local name directories=("${datadir}/${train_set}" "${datadir}/${valid_set}")
    for name in ${test_sets}; do
        if [ ! -d "${datadir}/${name}" ]; then
            echo "error: --test_sets: expected names of directories in ${datadir}, found '${name}';" \
                "there are: $(cd "${datadir}" && set +f && echo */)" >&2
            return 1
        fi
        directories+=("${datadir}/${name}")
    done
    py validate_data_dir "${with_pipes[@]}" "${directories[@]}"
}

perturb_speed() {
    if [ -z "${speed_perturb_factors}" ]; then
        echo "no factors given (--speed_perturb_factors): nothing to do"
        return 0
    fi
    py perturb_speed "${with_pipes[@]}" --factors "${speed_perturb_factors}" \
        "${datadir}/${train_set}" "${datadir}/${train_dir}"
}

format_audio() {
    local name target failed=0 extra=("${with_pipes[@]}" "${with_cluster[@]}")
    [ -n "${channel}" ] && extra+=(--channel "${channel}")
    for name in "${train_dir}" "${valid_set}" ${test_sets}; do
        target=${dumpdir}/raw/${name}
        case ${name} in "${train_dir}" | "${valid_set}") target=${dumpdir}/raw/org/${name} ;; esac
        # What is wrong with one set is no reason not to look at the others.
        py format_audio --fs "${fs}" --audio_format "${audio_format}" --nj "${nj}" \
            --max_damaged "${max_damaged}" "${extra[@]}" "${datadir}/${name}" "${target}" ||
            failed=$?
    done
    return "${failed}"
}

filter_data() {
    local name extra=()
    [ "${keep_unlabelled}" = true ] && extra+=(--keep_unlabelled true)
    for name in "${train_dir}" "${valid_set}"; do
        py filter_data_dir --fs "${fs}" --min_wav_duration "${min_wav_duration}" \
            --max_wav_duration "${max_wav_duration}" "${extra[@]}" \
            "${dumpdir}/raw/org/${name}" "${dumpdir}/raw/${name}"
    done
}

make_tokens() {
    py make_token_list --data_dirs "${dumpdir}/raw/${train_dir}" --token_type "${token_type}" \
        --nbpe "${nbpe}" --bpe_groups "${bpe_groups}" --bpe_temperature "${bpe_temperature}" \
        --out "${token_dir}"
}

train_options=(
    --config "${config}" --train_dir "${dumpdir}/raw/${train_dir}"
    --valid_dir "${dumpdir}/raw/${valid_set}" --token_dir "${token_dir}"
)

collect_stats() {
    # Statistics do not depend on how training is done: a job's memory is all that --nj costs.
    local jobs=${nj}
    if [ -z "${cluster}" ] && [ "${jobs}" -gt "$(cores)" ]; then jobs=$(cores); fi
    # shellcheck disable=SC2086
    py collect_stats --nj "${jobs}" "${with_cluster[@]}" --output_dir "${stats_dir}" \
        "${train_options[@]}" ${train_args} --use_tensorboard false
    leave_run_script 10 "${stats_dir}"
}

before_train() { # OLD_FINGERPRINT
    if [ -n "$1" ] && [ "$1" != "${f11}" ]; then
        # Resuming would mix two configurations; nothing is deleted.
        local old
        old=${exp}.before_$(date '+%Y%m%d_%H%M%S')
        log "options have changed: the earlier training moves to ${old}"
        mv "${exp}" "${old}"
    fi
}

# leave_environment FILE    what the interpreter needs of this environment, for a shell elsewhere
leave_environment() {
    local name
    for name in PATH LD_LIBRARY_PATH VIRTUAL_ENV PYTHONPATH PYTHONUTF8 PYTHONUNBUFFERED LC_ALL \
        OMP_NUM_THREADS OBJSOUP_PROCESS_TIMEOUT_S; do
        if [ -n "${!name:-}" ]; then printf 'export %s=%q\n' "${name}" "${!name}"; fi
    done >"$1"
}

# check_plain WORD...    ESPnet's launcher puts the words of training and the directory into a script
# for the other machines' shell as they are, where `;`, `$(...)` or a space would mean something.
check_plain() {
    local word
    for word in "$@"; do
        [[ ${word} =~ ^[A-Za-z0-9_./:,=+@%^-]*$ ]] ||
            usage_error --host "words and paths of letters, digits and _ . / : , = + @ % ^ -" \
                "${word}" "put such options into the YAML, rename such paths"
    done
}

train() {
    leave_run_script 11 "${exp}"
    local command=(
        "${python}" -m espnet_objsoup.bin.train "${train_options[@]}" --stats_dir "${stats_dir}"
        --output_dir "${exp}" --resume true
    )
    [ -n "${init_param}" ] && command+=(--init_param "${init_param}")
    # shellcheck disable=SC2206
    command+=(${train_args})
    log "training log: ${exp}/train.log"
    local machines=(--num_nodes "${num_nodes}")
    if [ -n "${host}" ]; then
        check_plain "${PWD}" "${exp}" "${command[@]}"
        leave_environment "${exp}/.environment.sh"
        machines=(--host "${host}" --envfile "${exp}/.environment.sh")
    fi
    if [ "${launcher}" = torchrun ]; then
        rotate_log "${exp}/train.log"
        # A process for each GPU; it takes its own by LOCAL_RANK.
        "${python}" -m torch.distributed.run --standalone --nproc_per_node "${ngpu}" \
            "${command[@]:1}" --ngpu 1 --multiprocessing_distributed false 2>&1 |
            tee "${exp}/train.log"
    elif [ -n "${train_cmd}${host}" ] || [ "${ngpu}" -gt 1 ] || [ "${num_nodes}" -gt 1 ]; then
        # The launcher divides --cmd as a shell would.
        "${python}" -m espnet2.bin.launch \
            --cmd "${train_cmd:-$(printf '%q' "${template}/run_job.sh")}" \
            --log "${exp}/train.log" --ngpu "${ngpu}" "${machines[@]}" \
            --init_file_prefix "${exp}/.dist_init_" --multiprocessing_distributed true -- \
            "${command[@]}"
    else
        rotate_log "${exp}/train.log"
        "${command[@]}" --ngpu "${ngpu}" 2>&1 | tee "${exp}/train.log"
    fi
}

decode() {
    local name gpus=0 extra=("${with_cluster[@]}")
    [ "${gpu_inference}" = true ] && gpus=1
    [ -n "${nbest}" ] && extra+=(--nbest "${nbest}")
    for name in ${test_sets}; do
        if [ ! -s "${dumpdir}/raw/${name}/wav.scp" ]; then
            echo "error: --test_sets: expected ${dumpdir}/raw/${name}/wav.scp with utterances, found" \
                "none; run stage 3 with --test_sets '${test_sets}'" >&2
            return 1
        fi
        # shellcheck disable=SC2086
        py decode --train_config "${exp}/config.yaml" --model_file "${exp}/${inference_model}" \
            --data_dir "${dumpdir}/raw/${name}" --output_dir "${exp}/${decode_name}/${name}" \
            --config "${inference_config}" --nj "${inference_nj}" --ngpu "${gpus}" "${extra[@]}" \
            ${inference_args}
    done
    leave_run_script 12 "${exp}/${decode_name}"
}

score() {
    local extra=()
    [ "${update_results}" = true ] && extra+=(--results_file RESULTS.md)
    py score --decode_dir "${exp}/${decode_name}" --dump_dir "${dumpdir}/raw" \
        --test_sets "${test_sets}" --exp_dir "${exp}" --asr_text_policy "${asr_text_policy}" \
        --st_text_policy "${st_text_policy}" --model_file "${inference_model}" \
        --command "${command_line}" "${extra[@]}"
}

pack() {
    local recipe=${PWD##*/}
    # The synthetic corpus in the place of the recipe's own.
    if [[ " ${local_data_opts//[[:space:]]/ } " == *" --mini true "* ]]; then recipe=mini_objsoup; fi
    # shellcheck disable=SC2086
    py pack --exp_dir "${exp}" --model_file "${inference_model}" --out "${exp}.zip" \
        --inference_config "${inference_config}" --recipe "${recipe}" --corpus "${corpus}" \
        --license "${license}" --hf_repo "${hf_repo}" ${pack_args}
}

upload() {
    py upload --packed "${exp}.zip" --hf_repo "${hf_repo}" --hf_upload "${hf_upload}" \
        --hf_private "${hf_private}" --hf_replace "${hf_replace}"
}

# paths_of BEFORE AFTER NAME...    BEFORE/NAME/AFTER of every name, in `paths`
paths_of() {
    local before=$1 after=$2 name
    shift 2
    paths=()
    for name in "$@"; do paths+=("${before}/${name}/${after}"); done
}

begin=${SECONDS}
start_watching
# shellcheck disable=SC2206
all_sets=("${train_set}" "${valid_set}" ${test_sets})
if [ "${skip_data_prep}" = false ]; then
    paths_of "${datadir}" wav.scp "${all_sets[@]}"
    run_stage 1 "${f1}" "prepare the corpus" prepare_data "${paths[@]}"
    run_stage 2 "${f2}" "perturb speed" perturb_speed "${datadir}/${train_dir}/wav.scp"
    paths_of "${dumpdir}/raw/org" wav.scp "${train_dir}" "${valid_set}"
    for name in ${test_sets}; do
        case ${name} in "${train_dir}" | "${valid_set}") continue ;; esac
        paths+=("${dumpdir}/raw/${name}/wav.scp")
    done
    run_stage 3 "${f3}" "format audio" format_audio "${paths[@]}"
    paths_of "${dumpdir}/raw" wav.scp "${train_dir}" "${valid_set}"
    run_stage 4 "${f4}" "filter utterances" filter_data "${paths[@]}"
    paths=("${token_dir}/tokens.txt")
    [ "${token_type}" = bpe ] && paths+=("${token_dir}/bpe.model")
    run_stage 5 "${f5}" "make the token list" make_tokens "${paths[@]}"
    unlock_all
fi
for number in 6 7 8 9; do
    if includes "${number}" "${number}"; then
        log "[${number}/${stop_stage}] reserved for a language model: nothing to do"
    fi
done
if [ "${skip_train}" = false ]; then
    run_stage 10 "${f10}" "collect statistics" collect_stats \
        "${stats_dir}"/{train,valid}/speech_shape
    run_stage 11 "${f11}" "train" train "${exp}/config.yaml" "${exp}/checkpoint.pth"
fi
if [ "${skip_eval}" = false ]; then
    # shellcheck disable=SC2086
    paths_of "${exp}/${decode_name}" "" ${test_sets}
    run_stage 12 "${f12}" "decode" decode "${paths[@]}"
    # Cheap, and asked for by --update_results after the fact.
    if [ "${update_results}" = true ] && includes 13 13; then rm -f "$(marker_of 13)"; fi
    run_stage 13 "${f13}" "score" score "${exp}/RESULTS.md"
fi
if [ "${skip_packing}" = false ]; then
    run_stage 14 "${f14}" "pack" pack "${exp}.zip"
fi
if [ "${skip_upload}" = false ]; then
    # Never done: only the hub knows what it has.
    if includes 15 15; then rm -f "$(marker_of 15)"; fi
    run_stage 15 "${f15}" "upload" upload
fi
log "finished in $((SECONDS - begin)) s; experiment: ${exp}"
