#!/usr/bin/env bash
# Trains, decodes and scores one model for recognition and translation on the mini corpus.
#   ./run.sh                 languages en fr de es, translation of fr de es into en
#   ./run.sh --size tiny     a smoke test of a few minutes
#   ./compare.sh             soups against fixed weights, several seeds each
# shellcheck disable=SC2154  # `opt` sets the variables of options
set -euo pipefail
cd "$(dirname "$0")"
export OBJSOUP_COMMAND="./run.sh${*:+ $*}" # as given, for RESULTS.md
export OBJSOUP_NEEDS=espeakng_loader       # speaks the corpus

. ../TEMPLATE/objsoup1/parse_options.sh
opt size default "corpus and model: tiny, compare, default or large" "tiny|compare|default|large"
take_options "$@"

suffix=_${size}
train_config=conf/train_${size}.yaml
case ${size} in
    tiny)
        langs="en fr de"
        st_pairs="fr-en de-en"
        nbpe=150
        ;;
    compare) # of compare.sh, which sets other languages for some of its variants
        langs="en fr de"
        st_pairs="fr-en de-en"
        nbpe=150
        ;;
    default)
        langs="en fr de es"
        st_pairs="fr-en de-en es-en"
        nbpe=250
        suffix=
        train_config=conf/train.yaml
        ;;
    large)
        langs="en fr de es ca zh"
        st_pairs="fr-en de-en es-en ca-en zh-en en-de en-zh"
        nbpe=1000
        ;;
esac

# Sizes have directories of their own, so that one does not overwrite another.
exec ../TEMPLATE/objsoup1/objsoup.sh \
    --langs "${langs}" --st_pairs "${st_pairs}" --local_data_opts "--size ${size}" \
    --datadir "data${suffix}" --dumpdir "dump${suffix}" --expdir "exp${suffix}" \
    --config "${train_config}" --nbpe "${nbpe}" --st_text_policy lc.rm --max_wav_duration 10 \
    --nj "$(cores)" --inference_nj 2 "${other_options[@]}"
