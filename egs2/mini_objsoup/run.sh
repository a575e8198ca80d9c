#!/usr/bin/env bash
# Trains, decodes and scores one model for recognition and translation on the mini corpus.
#   ./run.sh                 languages en fr de es, translation of fr de es into en
#   ./run.sh --size tiny     a smoke test of a few minutes
# --size tiny|default|large is this recipe's own option; all others are those of objsoup.sh --help.
set -euo pipefail
cd "$(dirname "$0")"
export OBJSOUP_COMMAND="./run.sh${*:+ $*}" # as given, for RESULTS.md

size=default
arguments=()
while [ $# -gt 0 ]; do
    if [ "$1" = --size ]; then
        size=${2:?error: --size needs a value: tiny, default or large}
        shift 2
    else
        arguments+=("$1")
        shift
    fi
done

suffix=_${size}
train_config=conf/train.yaml
nbpe=250
case ${size} in
    tiny)
        langs="en fr de"
        st_pairs="fr-en de-en"
        train_config=conf/train_tiny.yaml
        nbpe=150
        ;;
    default)
        langs="en fr de es"
        st_pairs="fr-en de-en es-en"
        suffix=
        ;;
    large)
        langs="en fr de es ca zh"
        st_pairs="fr-en de-en es-en ca-en zh-en en-de en-zh"
        train_config=conf/train_large.yaml
        nbpe=1000
        ;;
    *)
        echo "error: --size: expected tiny, default or large, found '${size}'" >&2
        exit 2
        ;;
esac

# Sizes have directories of their own, so that one does not overwrite another.
exec ../TEMPLATE/objsoup1/objsoup.sh \
    --langs "${langs}" --st_pairs "${st_pairs}" --local_data_opts "--size ${size}" \
    --datadir "data${suffix}" --dumpdir "dump${suffix}" --expdir "exp${suffix}" \
    --config "${train_config}" --nbpe "${nbpe}" --st_text_policy lc.rm --max_wav_duration 10 \
    --nj "$(nproc)" --inference_nj 2 "${arguments[@]}"
