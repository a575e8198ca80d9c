# shellcheck shell=bash
# Options of a script, each declared once with its default and its meaning; to be sourced.
#
#   opt nj 4 "parallel jobs"          declares --nj and sets nj=4
#   parse_options "$@"                 sets the variables from the command line
#
# `--help` prints the options and exits 0; an unknown one exits 2.

_option_names=()
_option_help=()

opt() {
    local name=$1 default=$2 meaning=$3
    printf -v "${name}" '%s' "${default}"
    _option_names+=("${name}")
    _option_help+=("$(printf '  --%-22s %s [%s]' "${name}" "${meaning}" "${default}")")
}

print_options() {
    printf '%s\n' "${_option_help[@]}"
}

_is_option() {
    local name
    for name in "${_option_names[@]}"; do
        [ "${name}" = "$1" ] && return 0
    done
    return 1
}

parse_options() {
    local name
    while [ $# -gt 0 ]; do
        case "$1" in
            -h | --help)
                echo "Usage: $0 [--option value] ..."
                echo "${help_message:-}"
                echo "Options [default]:"
                print_options
                exit 0
                ;;
            --*)
                name=${1#--}
                name=${name//-/_}
                if ! _is_option "${name}"; then
                    echo "error: unknown option $1; see $0 --help" >&2
                    exit 2
                fi
                if [ $# -lt 2 ]; then
                    echo "error: option $1 needs a value; see $0 --help" >&2
                    exit 2
                fi
                printf -v "${name}" '%s' "$2"
                shift 2
                ;;
            *)
                echo "error: expected an option, found '$1'; see $0 --help" >&2
                exit 2
                ;;
        esac
    done
}
