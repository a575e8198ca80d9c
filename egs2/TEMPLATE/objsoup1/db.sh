# shellcheck shell=bash disable=SC2034
# Where corpora lie. Set the variables in the environment or edit this file.
COMMONVOICE=${COMMONVOICE:-}   # folder with a language per folder: fr/validated.tsv, fr/clips/
COVOST2=${COVOST2:-}           # folder with covost_v2.<src>_<tgt>.tsv
LIBRISPEECH=${LIBRISPEECH:-}   # folder that contains LibriSpeech/
AISHELL=${AISHELL:-}           # folder that contains data_aishell/

# need_corpus VARIABLE [FILE]    for local/data.sh: ends with a message unless the variable names a
# folder (that holds FILE).
need_corpus() {
    local path=${!1} expected="a folder${2:+ that contains $2}" found="nothing"
    if [ -n "${path}" ]; then
        [ -d "${path}" ] && [ -e "${path}${2:+/$2}" ] && return 0
        found="'${path}'"
        if [ ! -d "${path}" ]; then found+=", which is not there"; else found+=" without it"; fi
    fi
    echo "error: $1: expected ${expected}, found ${found}; set it in the environment" \
        "($1=/where/it/is ./run.sh) or in ${BASH_SOURCE[0]}" >&2
    exit 1
}
