# shellcheck shell=bash disable=SC2034
# Where corpora lie. Set the variables in the environment or edit this file.
COMMONVOICE=${COMMONVOICE:-}   # folder with a language per folder: fr/validated.tsv, fr/clips/
COVOST2=${COVOST2:-}           # folder with covost_v2.<src>_<tgt>.tsv
LIBRISPEECH=${LIBRISPEECH:-}   # folder that contains LibriSpeech/
AISHELL=${AISHELL:-}           # folder that contains data_aishell/
