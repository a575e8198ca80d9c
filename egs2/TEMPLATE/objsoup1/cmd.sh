# shellcheck shell=bash disable=SC2034
# How training is started on a machine; `train_cmd` is put before the command line, so that a
# cluster's wrapper can stand here, for example train_cmd="srun --gres=gpu:1".
train_cmd=${train_cmd:-}
