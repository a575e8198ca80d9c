#!/usr/bin/env bash
# Runs a command on this machine with its output in a log, called as Kaldi's run.pl is:
#   run_job.sh [--gpu N] [--num_threads N] [--num_nodes N] LOG command...
# Exits with 1 if the command fails. ESPnet's launcher (espnet2.bin.launch --cmd) starts it.
set -euo pipefail

while [ $# -gt 0 ]; do
    case $1 in
        # What a queue would need to know; here nothing is reserved.
        --gpu | --num_threads | --num_nodes | --mem) shift 2 ;;
        --*)
            echo "error: run_job.sh: unknown option $1" >&2
            exit 2
            ;;
        *) break ;;
    esac
done
if [ $# -lt 2 ]; then
    echo "error: run_job.sh: expected LOG command..., found $# words" >&2
    exit 2
fi

log=$1
shift
mkdir -p "$(dirname "${log}")"
{
    printf '# %s\n' "$(printf '%q ' "$@")"
    echo "# Started at $(date)"
} >"${log}"
started=${SECONDS}
status=0
"$@" >>"${log}" 2>&1 </dev/null || status=$?
{
    echo "# Accounting: time=$((SECONDS - started)) s"
    echo "# Ended (code ${status}) at $(date)"
} >>"${log}"
if [ "${status}" -ne 0 ]; then
    echo "run_job.sh: the command failed with exit status ${status}, its log is ${log}" >&2
    exit 1
fi
