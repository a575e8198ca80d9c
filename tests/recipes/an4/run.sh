#!/usr/bin/env bash
# Real recorded speech through all stages: the AN4 utterances that ESPnet's wheel ships.
# Recognition only, characters. Seven utterances show that the stages work, nothing else.
set -euo pipefail
cd "$(dirname "$0")"
exec ../TEMPLATE/objsoup1/objsoup.sh --langs en --st_pairs "" --token_type char --nj 2 \
    --config conf/train.yaml --inference_config conf/decode.yaml "$@"
