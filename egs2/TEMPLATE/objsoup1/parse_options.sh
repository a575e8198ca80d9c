# shellcheck shell=bash
# Options of a script, each declared once with its default and its meaning; to be sourced.
#
#   opt nj 4 "parallel jobs" count     declares --nj and sets nj=4
#   parse_options "$@"                 sets the variables from the command line
#   take_options "$@"                  for a recipe's run.sh: sets the declared ones, keeps all other
#                                      words in `other_options`, and has the script that it calls
#                                      list the recipe's options in its own --help
#
# The fourth word says what a value looks like: bool (true or false), count (a whole number from 1),
# number (a whole number from 0), duration (a decimal number of at least 0), a|b|c (one of these),
# or nothing for any text. `--help` prints the options and exits 0; a mistake exits 2.

_option_names=()
_option_meanings=()
_option_kinds=()
_recipe_help=${OBJSOUP_RECIPE_HELP:-}
_script=${OBJSOUP_SCRIPT:-$0}
unset OBJSOUP_RECIPE_HELP OBJSOUP_SCRIPT

opt() {
    local name=$1 default=$2 meaning=$3 kind=${4:-}
    printf -v "${name}" '%s' "${default}"
    _option_names+=("${name}")
    _option_kinds+=("${kind}")
    _option_meanings+=("${meaning}")
}

# Values are those given before --help: a recipe's run.sh gives its own defaults first.
print_options() {
    local i name
    for i in "${!_option_names[@]}"; do
        name=${_option_names[i]}
        printf '  --%-22s %s [%s]\n' "${name}" "${_option_meanings[i]}" "${!name}"
    done
    if [ -n "${_recipe_help}" ]; then
        printf '\nOptions of this recipe:\n%s\n' "${_recipe_help}"
    fi
}

# Cores that may be used; nproc alone would give OMP_NUM_THREADS where that is set.
cores() { env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc; }

# usage_error OPTION EXPECTED FOUND [WHAT TO DO]
usage_error() {
    echo "error: $1: expected $2, found '$3'${4:+; $4}; see ${_script} --help" >&2
    exit 2
}

# need_folders NAME...    options that, where they are given, have to name a folder
need_folders() {
    local name
    for name in "$@"; do
        [ -z "${!name}" ] || [ -d "${!name}" ] ||
            usage_error "--${name}" "a folder that this machine sees" "${!name}"
    done
}

_is_option() {
    local name
    for name in "${_option_names[@]}"; do
        [ "${name}" = "$1" ] && return 0
    done
    return 1
}

_check_value() { # NAME KIND
    local value=${!1} expected=
    case $2 in
        "") ;;
        bool) [[ ${value} =~ ^(true|false)$ ]] || expected="true or false" ;;
        count) [[ ${value} =~ ^0*[1-9][0-9]*$ ]] || expected="a whole number of at least 1" ;;
        share) [[ ${value} =~ ^(0?\.[0-9]+|0|1|[01]\.0*)$ ]] || expected="a number from 0 to 1" ;;
        number) [[ ${value} =~ ^[0-9]+$ ]] || expected="a whole number of at least 0" ;;
        duration) [[ ${value} =~ ^([0-9]+\.?[0-9]*|\.[0-9]+)$ ]] || expected="a number of seconds" ;;
        # Two choices with the | between them stand in the list, too, and are none.
        *) [[ "|$2|" == *"|${value}|"* && ${value} != *"|"* && -n ${value} ]] ||
            expected="one of ${2//|/, }" ;;
    esac
    [ -z "${expected}" ] || usage_error "--$1" "${expected}" "${value}"
}

_check_values() {
    local i
    for i in "${!_option_names[@]}"; do
        _check_value "${_option_names[i]}" "${_option_kinds[i]}"
    done
}

parse_options() {
    local name
    while [ $# -gt 0 ]; do
        case "$1" in
            -h | --help)
                echo "Usage: ${_script} [--option value] ..."
                echo "${help_message:-}"
                echo "Options [default]:"
                print_options
                exit 0
                ;;
            --*)
                name=${1#--}
                name=${name//-/_}
                if ! _is_option "${name}"; then
                    echo "error: unknown option $1; see ${_script} --help" >&2
                    exit 2
                fi
                if [ $# -lt 2 ]; then
                    echo "error: option $1 needs a value; see ${_script} --help" >&2
                    exit 2
                fi
                printf -v "${name}" '%s' "$2"
                shift 2
                ;;
            *)
                echo "error: expected an option, found '$1'; see ${_script} --help" >&2
                exit 2
                ;;
        esac
    done
    _check_values
}

take_options() {
    local own=() name
    other_options=()
    while [ $# -gt 0 ]; do
        name=${1#--}
        if [[ $1 == --* ]] && _is_option "${name//-/_}"; then
            own+=("${@:1:2}")
            shift "$(($# > 1 ? 2 : 1))"
        else
            other_options+=("$1")
            shift
        fi
    done
    parse_options "${own[@]}"
    OBJSOUP_RECIPE_HELP=$(print_options)
    OBJSOUP_SCRIPT=$0
    export OBJSOUP_RECIPE_HELP OBJSOUP_SCRIPT
}
