# shellcheck shell=bash disable=SC2154  # options are set by the script that sources this
# When a stage runs, who may run it, and what is left if it is killed; to be sourced.
#
# A stage has a fingerprint: lines `name=value` of the options it depends on, checksums of the files
# they name, and the checksum of the stage before it (`after`). While it runs the fingerprint lies in
# MARKER.started, when it has ended well in MARKER. A stage is finished if MARKER holds today's
# fingerprint and its outputs are there.

digest() { sha256sum | cut -c -64; }

# fingerprint AFTER NAME...    the lines for options and other variables
fingerprint() {
    local name value
    echo "after=$1"
    shift
    for name in "$@"; do
        value=${!name//$'\n'/ }
        echo "${name}=${value}"
        if [ -f "${value}" ]; then echo "contents of ${name}=$(digest <"${value}")"; fi
    done
}

# difference OLD NEW    what has changed between two fingerprints, in words
difference() {
    local line name old changes=
    while IFS= read -r line; do
        grep -qxF -- "${line}" <<<"$1" && continue
        name=${line%%=*}
        old=$(grep -m 1 "^${name}=" <<<"$1" || true)
        case ${name} in
            after | repeated*) continue ;;
            contents*) changes+=", the ${name}" ;;
            front_end) changes+=", the front end of the configuration" ;;
            local_scripts) changes+=", the recipe's scripts in local/" ;;
            *) changes+=", ${name} was '${old#*=}' and is '${line#*=}'" ;;
        esac
    done <<<"$2"
    changes=${changes#, }
    echo "${changes:-an earlier stage has changed}"
}

# reason_to_run MARKER FINGERPRINT OUTPUT...    nothing if the stage is finished
reason_to_run() {
    local marker=$1 wanted=$2 output
    shift 2
    if [ "${force}" = true ]; then
        echo "asked for by --force"
    elif [ -f "${marker}.started" ]; then
        echo "it was interrupted"
    elif [ ! -f "${marker}" ]; then
        echo "it has not been run"
    elif [ "$(<"${marker}")" != "${wanted}" ]; then
        difference "$(<"${marker}")" "${wanted}"
    else
        for output in "$@"; do
            [ -s "${output}" ] || { echo "${output} is missing" && return; }
        done
    fi
}

# repetition NUMBER SKIPPED    when --force repeated a stage, in this run or an earlier one. It is part
# of the stage's fingerprint: what was made from the earlier output, wherever it lies, is out of date
# though no option has changed.
repetition() {
    local note
    note=$(marker_of "$1").repeated
    if [ "${force}" = true ] && [ "$2" = false ] && includes "$1" "$1"; then
        echo "${now}"
    elif [ -f "${note}" ]; then
        cat "${note}"
    fi
}

# made_with NUMBER FINGERPRINT    whether a stage has ended well with these options; which test sets
# there are does not matter to the stages after it
made_with() {
    local marker
    marker=$(marker_of "$1")
    [ -f "${marker}" ] && [ ! -f "${marker}.started" ] &&
        [ "$(sed '/^test_sets=/d' "${marker}")" = "$(sed '/^test_sets=/d' <<<"$2")" ]
}

# require_stage NUMBER FINGERPRINT    ends unless an earlier stage, if it was run by this script at
# all, was finished with the same options; data from elsewhere have no marker and are used as they are
require_stage() {
    local number=$1 wanted=$2 marker found
    marker=$(marker_of "${number}")
    if [ -f "${marker}.started" ]; then
        log "error: stage ${number} was interrupted; run it first (--stage ${number})" >&2
        exit 1
    fi
    [ -f "${marker}" ] || return 0
    if ! made_with "${number}" "${wanted}"; then
        found=$(sed '/^test_sets=/d' "${marker}")
        log "error: stage ${number} was run with other options: $(difference "${found}" "${wanted}");" \
            "run it again (--stage ${number}), or give the same options" >&2
        exit 1
    fi
}

_locks=()
_locked=()

# lock FILE exclusive|shared WHAT    until unlock_all; refuses if another run has it
lock() {
    local file=$1 mode=$2 what=$3 descriptor other
    # Without flock (not Linux) two runs at once are not noticed.
    command -v flock >/dev/null || return 0
    # One directory may serve for several purposes; the exclusive lock is asked for first.
    for other in "${_locked[@]}"; do
        if [ "${file}" -ef "${other}" ]; then return 0; fi
    done
    mkdir -p "$(dirname "${file}")" 2>/dev/null || true
    # Data of somebody else, which are only read, cannot be locked.
    if [ "${mode}" = shared ] && [ ! -w "$(dirname "${file}")" ]; then return 0; fi
    if ! { : >>"${file}"; } 2>/dev/null; then
        echo "error: ${what}: expected a directory that this user can write to, found that ${file}" \
            "cannot be written ($( { : >>"${file}"; } 2>&1 | sed 's/.*: //')); see its disk and" \
            "permissions (df, ls -ld), and run again" >&2
        exit 1
    fi
    while true; do
        exec {descriptor}>>"${file}"
        # A moment, for the processes of a killed run to end.
        if ! flock --"${mode}" --wait 3 "${descriptor}"; then
            echo "error: ${what} is in use by another run; wait for it or end it. Its lock ${file} says:" >&2
            _holders "${file}" >&2
            exit 1
        fi
        # A run that failed may have removed the file meanwhile (remove_empty): that lock is nobody's.
        if [ "${file}" -ef "/proc/self/fd/${descriptor}" ]; then break; fi
        exec {descriptor}>&-
        mkdir -p "$(dirname "${file}")"
    done
    [ "${mode}" = exclusive ] && : >"${file}"
    echo "process $$ on ${HOSTNAME}, since $(date '+%Y-%m-%d %H:%M:%S'): ${command_line}" >>"${file}"
    _locks+=("${descriptor}")
    _locked+=("${file}")
}

_holders() { # of those that wrote themselves into a lock, the ones that still run
    local line pid host alive=
    while IFS= read -r line; do
        [[ ${line} =~ ^process\ ([0-9]+)\ on\ ([^,]*), ]] || continue
        pid=${BASH_REMATCH[1]} host=${BASH_REMATCH[2]}
        if [ "${host}" != "${HOSTNAME}" ] || kill -0 "${pid}" 2>/dev/null; then alive+="  ${line}"$'\n'; fi
    done <"$1"
    # The script may be gone while a process that it started still works.
    printf '%s\n' "${alive:-  $(tail -n 1 "$1") (a process that it started)}"
}

unlock_all() {
    local descriptor
    for descriptor in "${_locks[@]}"; do exec {descriptor}>&-; done
    _locks=()
    _locked=()
}

process_state() { # PID: a letter, nothing if it is gone
    if [ -d /proc/self ]; then
        sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null
    else
        ps -o state= -p "$1" 2>/dev/null | cut -c 1
    fi || true
}

process_tree() { # PID: it and all that it started, stopped
    local child state
    # Where it went on it could start another process that is not in the list, and outlives it.
    kill -STOP "$1" 2>/dev/null || true
    # A fork that has begun is still finished: of a large process it takes a while. One that waits
    # for a disk (D) may not stop for long, and is not waited for any longer.
    for _ in {1..100}; do
        state=$(process_state "$1")
        case ${state} in T | t | Z | X | "") break ;; esac
        sleep 0.01
    done
    echo "$1"
    # Of every thread: each has the children that it started.
    for child in $(cat "/proc/$1/task/"*/children 2>/dev/null || pgrep -P "$1"); do
        process_tree "${child}"
    done
}

kill_tree() { # PID
    local tree
    tree=$(process_tree "$1")
    # shellcheck disable=SC2086
    { kill -TERM ${tree}; kill -CONT ${tree}; } 2>/dev/null || true
}

# Reads the process of the running stage, or 0 for none. The end of its input means that this script
# is gone, however it ended: what is left of the stage is ended too. It has a session of its own, so
# that what kills the script does not kill it.
_watch() {
    local line process=0
    while read -r line; do process=${line}; done
    [ "${process}" = 0 ] || kill_tree "${process}"
}

_watch_descriptor=
start_watching() {
    command -v setsid >/dev/null || return 0
    exec {_watch_descriptor}> >(exec setsid bash -c \
        "$(declare -f process_state process_tree kill_tree _watch); _watch" >/dev/null 2>&1)
}

_process=
tell_watch() { if [ -n "${_watch_descriptor}" ]; then echo "$1" >&"${_watch_descriptor}"; fi; }

_end_by_signal() { # STATUS
    trap '' INT TERM HUP
    if [ -n "${_process}" ]; then
        kill_tree "${_process}"
        # Not `wait`: if the process has ended at the same time, by a signal to the whole group, bash
        # may wait for the watcher instead, which waits for this script.
        while kill -0 "${_process}" 2>/dev/null; do sleep 0.1; done
    fi
    log "interrupted; run the same command again to go on" >&2
    exit "$1"
}
trap '_end_by_signal 130' INT
trap '_end_by_signal 143' TERM
trap '_end_by_signal 129' HUP

# run_guarded FUNCTION    in a process that ends with this script; its exit status is in
# stage_status. (As the return value, `||` would be needed to look at it, and that would switch off
# `set -e` inside.)
run_guarded() {
    stage_status=0
    (
        # Told here: this script may be killed before it does anything after it has started this.
        tell_watch "${BASHPID}"
        if [ -n "${_watch_descriptor}" ]; then exec {_watch_descriptor}>&-; fi
        "$1"
    ) &
    _process=$!
    wait "${_process}" || stage_status=$?
    _process=
    tell_watch 0
}

# remove_empty DIRECTORY...    those that hold nothing but notes of stages and locks
remove_empty() {
    local directory
    for directory in "$@"; do
        [ -d "${directory}" ] || continue
        [ -n "$(find "${directory}" -mindepth 1 -maxdepth 1 ! -name .stages)" ] ||
            rm -rf "${directory}"
    done
}

# run_stage NUMBER FINGERPRINT DESCRIPTION FUNCTION OUTPUT...
# `before_FUNCTION OLD_FINGERPRINT`, if there is one, is called before anything is written.
run_stage() {
    local number=$1 wanted=$2 description=$3 function=$4 marker reason old started output repeated
    local directory new=()
    shift 4
    old=
    if [ "${number}" -lt "${stage}" ] || [ "${number}" -gt "${stop_stage}" ]; then
        return 0
    fi
    marker=$(marker_of "${number}")
    reason=$(reason_to_run "${marker}" "${wanted}" "$@")
    if [ -z "${reason}" ]; then
        log "[${number}/${stop_stage}] ${description}: already done"
        return 0
    fi
    for directory in "${datadir}" "${dumpdir}"; do
        [ -e "${directory}" ] || new+=("${directory}")
    done
    lock_stage "${number}"
    require_stages_before "${number}"
    log "[${number}/${stop_stage}] ${description}: start (${reason})"
    started=${SECONDS}
    if [ -f "${marker}.started" ]; then
        old=$(<"${marker}.started")
    elif [ -f "${marker}" ]; then
        old=$(<"${marker}")
    fi
    if declare -F "before_${function}" >/dev/null; then "before_${function}" "${old}"; fi
    forget_from "${number}"
    mkdir -p "$(dirname "${marker}")"
    printf '%s\n' "${wanted}" >"${marker}.started"
    repeated=repeated${number}
    if [ -n "${!repeated:-}" ]; then echo "${!repeated}" >"${marker}.repeated"; fi
    run_guarded "${function}"
    if [ "${stage_status}" -ne 0 ]; then
        remove_empty "${new[@]}"
        log "[${number}/${stop_stage}] ${description}: failed with exit status ${stage_status}" >&2
        exit "${stage_status}"
    fi
    for output in "$@"; do
        if [ ! -s "${output}" ]; then
            log "error: stage ${number} was to write ${output}, which is missing or empty" >&2
            exit 1
        fi
    done
    mv "${marker}.started" "${marker}"
    # Data preparation keeps its locks to the end (objsoup.sh lets go of them): between two of its
    # stages another run could prepare the same directories in another way.
    [ "${number}" -le 5 ] || unlock_all
    log "[${number}/${stop_stage}] ${description}: done in $((SECONDS - started)) s"
}

# rotate_log FILE    to FILE.1, that to FILE.2 and so on, as ESPnet's launcher does; train.log is
# followed by train.1.log
rotate_log() {
    local base=${1%.*} extension=${1##*.} n=0
    [ -e "$1" ] || return 0
    while [ -e "${base}.$((n + 1)).${extension}" ]; do n=$((n + 1)); done
    while [ "${n}" -gt 0 ]; do
        mv "${base}.${n}.${extension}" "${base}.$((n + 1)).${extension}"
        n=$((n - 1))
    done
    mv "$1" "${base}.1.${extension}"
}
