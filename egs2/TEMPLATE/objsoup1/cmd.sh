# shellcheck shell=bash disable=SC2034
# How training is started. Empty: as a process of this machine, or, with several GPUs or nodes,
# through ESPnet's launcher and run_job.sh. Otherwise the command that the launcher calls as
#   COMMAND --gpu N LOG command...
# as it does Kaldi's run.pl, queue.pl and slurm.pl, for example train_cmd="slurm.pl -p gpu".
train_cmd=${train_cmd:-}
