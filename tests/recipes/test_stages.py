# SPDX-License-Identifier: Apache-2.0
"""When the stage script runs a stage, with what command line, and what a killed one leaves."""

import contextlib
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from espnet_objsoup.data.datadir_checks import MAX_SPEED, MIN_SPEED

from .stub import TEMPLATE, Recipe

DATA = ["data", "format_audio", "filter_data_dir", "make_token_list"]
TRAINING = ["collect_stats", "train"]
EVALUATION = ["decode", "score"]
ALL = [*DATA, *TRAINING, *EVALUATION]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return Recipe.make(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    recipe = Recipe.make(tmp_path_factory.mktemp("finished"))
    assert recipe.ran() == ALL
    return recipe


@pytest.fixture
def done(finished: Recipe, tmp_path: Path) -> Recipe:
    """A recipe with all stages finished, to be spoilt."""
    shutil.copytree(finished.path, tmp_path / "recipe")
    shutil.copytree(finished.work, tmp_path / "work")
    return Recipe(tmp_path / "recipe", tmp_path / "work")


def option(call: list[str], name: str) -> str:
    return call[call.index(name) + 1]


# What is run again


def test_finished_stages_are_not_repeated(finished: Recipe) -> None:
    # Time of the processor: the tests may share it with other work.
    start = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    assert finished.ran() == []
    assert sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - start < 5


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--langs", "en"], ALL),
        (["--allow_pipes", "true"], ALL),
        (["--local_data_opts", "--x 1"], ALL),
        (["--speed_perturb_factors", "0.9 1.0"], ["perturb_speed", *ALL[1:]]),
        (["--fs", "8k"], ALL[1:]),
        (["--fs", "16k"], []),
        (["--channel", "1"], ALL[1:]),
        (["--audio_format", "wav.ark"], ALL[1:]),
        (["--max_wav_duration", "9"], ALL[2:]),
        (["--keep_unlabelled", "true"], ALL[2:]),
        (["--nbpe", "99"], ALL[3:]),
        (["--nbpe", "99|char", "--bpe_groups", "en fr|de"], ALL[3:]),
        (["--bpe_temperature", "5"], ALL[3:]),
        (["--train_args", "--max_epoch 3"], ALL[5:]),
        (["--train_args", "--frontend_conf n_mels=40"], ALL[4:]),
        (["--tag", "other"], ALL[5:]),
        (["--nbest", "3"], EVALUATION),
        (["--inference_args", "--batch_size 2"], EVALUATION),
        (["--test_sets", "test more"], ["format_audio", "filter_data_dir", *EVALUATION]),
        (["--nj", "2"], []),
        (["--force", "true"], ALL),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("--") else "",
)
def test_a_changed_option_runs_its_stage_and_those_after(
    done: Recipe, arguments: list[str], expected: list[str]
) -> None:
    assert done.ran(*arguments) == expected
    if "--force" not in arguments:
        assert done.ran(*arguments) == []


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("conf/train.yaml", "encoder: conformer\noptim: adam\n", ["train", *EVALUATION]),
        ("conf/train.yaml", "frontend_conf: {n_mels: 40}\n", [*TRAINING, *EVALUATION]),
        ("conf/train.yaml", "an_option_of_tomorrow: 1\n", [*TRAINING, *EVALUATION]),
        ("conf/decode.yaml", "beam_size: 2\n", EVALUATION),
        ("local/helper.py", "x = 1\n", ALL),
    ],
    ids=["trainer", "front end", "unknown option", "search", "scripts of stage 1"],
)
def test_a_changed_file_runs_its_stage(
    done: Recipe, file: str, text: str, expected: list[str]
) -> None:
    (done.path / file).write_text(text)
    assert done.ran() == expected


def test_another_place_of_the_corpus_runs_stage_1(done: Recipe) -> None:
    assert done.ran(COVOST2="/elsewhere") == ALL
    # The recipe's scripts do not mention this one.
    assert done.ran(COVOST2="/elsewhere", AISHELL="/elsewhere") == []


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("data/train", ALL[:3]),
        ("dump/raw/test", ALL[1:3]),
        ("dump/raw/dev/wav.scp", ["filter_data_dir"]),
        ("data/token_list", ["make_token_list"]),
        ("exp/objsoup_stats_raw_bpe_unigram250", ["collect_stats"]),
        ("exp/objsoup_train_raw_bpe_unigram250/checkpoint.pth", ["train", *EVALUATION]),
        ("exp/objsoup_train_raw_bpe_unigram250/decode_decode_valid.loss.ave", EVALUATION),
        ("exp/objsoup_train_raw_bpe_unigram250/RESULTS.md", ["score"]),
    ],
)
def test_outputs_that_were_removed_are_made_again(
    done: Recipe, output: str, expected: list[str]
) -> None:
    path = done.path / output
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    assert done.ran() == expected
    assert path.exists()
    assert done.ran() == []


@pytest.mark.parametrize("dump", ["dump", "elsewhere"])
@pytest.mark.parametrize(
    ("stage", "expected"),
    [(1, ALL[1:]), (3, ALL[2:]), (5, ALL[4:]), (10, ALL[5:])],
)
def test_what_was_made_from_a_repeated_stage_is_made_again(
    done: Recipe, stage: int, expected: list[str], dump: str
) -> None:
    directories = ("--dumpdir", dump, "--expdir", f"exp_{dump}")
    if dump != "dump":
        assert done.ran(*directories) == ALL[1:]
    else:
        assert done.ran(*directories) == TRAINING + EVALUATION
    only = ("--stage", str(stage), "--stop_stage", str(stage), "--force", "true")
    # Stages 1 and 5 write into `data`, whatever the dump directory is called.
    assert len(done.ran(*(directories if stage in (3, 10) else ()), *only)) == 1
    if stage == 5 and dump != "dump":
        expected = ALL[3:]  # the token list is now of the other directory
    assert done.ran(*directories) == expected
    assert (done.path / f"exp_{dump}").is_dir()
    # The earlier training is kept.
    assert len(list(done.path.glob(f"exp_{dump}/*.before_*/checkpoint.pth"))) == 1
    assert done.ran(*directories) == []


def test_data_that_another_run_has_prepared_anew_are_noticed(done: Recipe) -> None:
    other = ("--dumpdir", "dump2", "--langs", "en fr", "--stop_stage", "1")
    assert done.ran(*other) == ["data"]
    # What was formatted before is still what it was.
    assert done.ran("--stage", "10") == []
    refused = done.run("--stage", "3", "--force", "true")
    assert refused.returncode == 1
    assert (
        "stage 1 was run with other options: langs was 'en fr' and is 'en fr de'" in refused.stderr
    )
    text = done.run("--stop_stage", "5").stdout
    assert "prepare the corpus: start (langs was 'en fr' and is 'en fr de')" in text
    assert "filter utterances: start" in text
    assert done.ran() == []


@pytest.mark.parametrize("name", ["datadir", "dumpdir"])
def test_another_directory_is_another_option(done: Recipe, name: str) -> None:
    shutil.copytree(done.path / name[:4], done.path / "other")
    text = done.run(f"--{name}", "other", "--stop_stage", "5").stdout
    assert f"{name} was '{name[:4]}' and is 'other'" in text


@pytest.mark.parametrize("init_param", ["w.pth", "w.pth:encoder:encoder"])
def test_other_weights_to_start_from_train_again(recipe: Recipe, init_param: str) -> None:
    (recipe.path / "w.pth").write_text("1")
    assert recipe.ran("--init_param", init_param) == ALL
    assert recipe.ran("--init_param", init_param) == []
    (recipe.path / "w.pth").write_text("2")
    assert recipe.ran("--init_param", init_param) == ["train", *EVALUATION]


def test_reasons_are_told(done: Recipe) -> None:
    text = done.run("--fs", "8000", "--stop_stage", "4").stdout
    assert "format audio: start (fs was '16000' and is '8000')" in text
    assert "filter utterances: start" in text


def test_a_stage_alone_refuses_what_was_made_with_other_options(done: Recipe) -> None:
    refused = done.run("--fs", "8000", "--stage", "10")
    assert refused.returncode == 1
    assert "stage 3 was run with other options: fs was '16000' and is '8000'" in refused.stderr
    assert "--stage 3" in refused.stderr


def test_data_from_elsewhere_are_used_as_they_are(recipe: Recipe) -> None:
    assert recipe.ran("--skip_data_prep", "true", "--stop_stage", "11") == TRAINING


def test_a_training_with_other_options_is_kept(done: Recipe) -> None:
    (done.path / "conf" / "train.yaml").write_text("encoder: conformer\n")
    assert done.ran() == ["train", *EVALUATION]
    assert len(list(done.path.glob("exp/*.before_*/checkpoint.pth"))) == 1


@pytest.mark.parametrize("command", [name for name in ALL if name != "data"])
def test_a_failing_command_ends_the_run(done: Recipe, command: str) -> None:
    (done.work / "fails" / command).write_text("7")
    before = ALL[: ALL.index(command)]
    (done.work / "calls").unlink(missing_ok=True)
    failed = done.run("--force", "true")
    assert failed.returncode == 7
    assert ": failed with exit status 7" in failed.stderr
    # Nothing is started after it, not even the same command for the next set; but damaged audio of
    # all sets is told at once.
    names = [call[1].rpartition(".")[2] for call in done.noted() if call[0] == "-m"]
    assert names.count(command) == (3 if command == "format_audio" else 1)
    assert set(names) - {"validate_data_dir"} == {*before, command} - {"data"}
    (done.work / "fails" / command).unlink()
    assert done.ran()[0] == command


def test_skipped_parts(recipe: Recipe) -> None:
    assert recipe.ran("--skip_train", "true", "--skip_eval", "true") == DATA
    assert recipe.ran("--skip_data_prep", "true", "--skip_eval", "true") == TRAINING
    assert recipe.ran("--skip_data_prep", "true", "--skip_train", "true") == EVALUATION


# Command lines


def test_options_reach_the_commands(recipe: Recipe) -> None:
    calls = recipe.calls(
        *("--channel", "1", "--allow_pipes", "true", "--keep_unlabelled", "true", "--nbest", "4"),
        *("--audio_format", "flac.ark", "--fs", "8k", "--local_data_opts", "--a 1"),
    )
    by_name = {call[1].rpartition(".")[2]: call for call in calls}
    assert calls[0][-2:] == ["--a", "1"]
    assert option(by_name["format_audio"], "--channel") == "1"
    assert option(by_name["format_audio"], "--allow_pipes") == "true"
    assert option(by_name["format_audio"], "--audio_format") == "flac.ark"
    assert option(by_name["format_audio"], "--fs") == "8000"
    assert option(by_name["validate_data_dir"], "--allow_pipes") == "true"
    assert option(by_name["filter_data_dir"], "--keep_unlabelled") == "true"
    assert option(by_name["decode"], "--nbest") == "4"


def test_one_process_trains_directly(done: Recipe) -> None:
    (call,) = done.calls("--force", "true", "--stage", "11", "--stop_stage", "11")
    assert call[:2] == ["-m", "espnet_objsoup.bin.train"]
    assert option(call, "--ngpu") == "0"
    assert option(call, "--resume") == "true"


def launched(call: list[str]) -> tuple[dict[str, str], list[str]]:
    """Options of espnet2.bin.launch and the command that it is to start."""
    assert call[:2] == ["-m", "espnet2.bin.launch"]
    border = call.index("--")
    words = call[2:border]
    return dict(zip(words[::2], words[1::2], strict=True)), call[border + 1 :]


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        (["--ngpu", "4"], {"STUB_GPUS": "4"}, {"--cmd": f"{TEMPLATE}/run_job.sh", "--ngpu": "4"}),
        (["--ngpu", "1"], {"train_cmd": "env -u X"}, {"--cmd": "env -u X", "--ngpu": "1"}),
        (
            ["--ngpu", "2", "--num_nodes", "3"],
            {"train_cmd": "env"},
            {"--cmd": "env", "--ngpu": "2", "--num_nodes": "3"},
        ),
    ],
    ids=["several GPUs", "a command of one's own", "several nodes"],
)
def test_several_processes_go_through_espnets_launcher(
    recipe: Recipe, arguments: list[str], environment: dict[str, str], expected: dict[str, str]
) -> None:
    calls = recipe.calls("--stage", "11", "--stop_stage", "11", *arguments, **environment)
    options, command = launched(calls[0])
    exp = "exp/objsoup_train_raw_bpe_unigram250"
    assert options.items() >= expected.items()
    assert options["--log"] == f"{exp}/train.log"
    assert options["--init_file_prefix"] == f"{exp}/.dist_init_"
    assert options["--multiprocessing_distributed"] == "true"
    assert command[0] == str(recipe.python)
    assert command[1:3] == ["-m", "espnet_objsoup.bin.train"]
    # The launcher adds it.
    assert "--ngpu" not in command


def test_run_job_is_called_as_run_pl_is(tmp_path: Path) -> None:
    log = tmp_path / "a" / "train.log"
    command = [str(TEMPLATE / "run_job.sh"), "--gpu", "2", str(log), "sh", "-c", "echo $0; exit $1"]
    assert subprocess.run([*command, "two words", "0"], check=False).returncode == 0
    assert "two words\n" in log.read_text()
    assert "# Ended (code 0)" in log.read_text()
    failed = subprocess.run([*command, "x", "3"], check=False, capture_output=True, text=True)
    assert failed.returncode == 1
    assert "exit status 3" in failed.stderr
    assert "# Ended (code 3)" in log.read_text()
    assert subprocess.run([*command[:1], "--gpu", "2"], check=False).returncode == 2


def test_logs_of_earlier_trainings_are_kept(recipe: Recipe) -> None:
    stage = ("--stage", "11", "--stop_stage", "11", "--tag", "t", "--force", "true")
    for _ in range(3):
        recipe.run(*stage)
        with open(recipe.path / "exp/t/train.log", "a") as log:
            log.write(f"{len(list((recipe.path / 'exp/t').glob('train.*log')))}\n")
    texts = [(recipe.path / f"exp/t/train{n}.log").read_text() for n in ("", ".1", ".2")]
    assert texts == ["3\n", "2\n", "1\n"]


def test_run_scripts_go_on_from_a_stage_with_the_same_options(recipe: Recipe) -> None:
    assert recipe.ran("--tag", "t", "--train_args", "--max_epoch 3") == ALL
    for script, expected in (
        ("exp/objsoup_stats_raw_bpe_unigram250/run.sh", ALL[4:]),
        ("exp/t/run.sh", ALL[5:]),
        ("exp/t/decode_decode_valid.loss.ave/run.sh", EVALUATION),
    ):
        (recipe.work / "calls").unlink()
        subprocess.run(
            [str(recipe.path / script), "--force", "true"],
            env=recipe.environment(),
            check=True,
            capture_output=True,
            cwd="/",
        )
        calls = recipe.noted()
        assert [call[1].rpartition(".")[2] for call in calls] == expected
        if expected == ALL[5:]:
            assert option(calls[0], "--max_epoch") == "3"


# Killed stages

KILLS = {
    "kill -9 of the script": (signal.SIGKILL, False),
    "kill of the script": (signal.SIGTERM, False),
    "kill of all": (signal.SIGTERM, True),
    "kill -9 of all": (signal.SIGKILL, True),
    "Ctrl-C": (signal.SIGINT, True),
}


def wait_until(condition: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it has not come about"
        time.sleep(0.02)


def names_of_processes(directory: Path) -> list[str]:
    """Of those that work in a directory."""
    names = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (path / "cwd").resolve() == directory.resolve():
                names.append((path / "comm").read_text().strip())
        except OSError:  # it has ended, or is somebody else's
            continue
    return names


def is_running(process: int) -> bool:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
    return re.search(r"^State:\s+Z", status, re.MULTILINE) is None


@pytest.mark.parametrize("how", KILLS)
@pytest.mark.parametrize(
    ("stage", "command"),
    [
        (1, "data"),
        (2, "perturb_speed"),
        (3, "format_audio"),
        (4, "filter_data_dir"),
        (5, "make_token_list"),
        (10, "collect_stats"),
        (11, "train"),
        (12, "decode"),
        (13, "score"),
    ],
)
def test_a_killed_stage_is_not_taken_for_finished(
    done: Recipe, stage: int, command: str, how: str
) -> None:
    number, group = KILLS[how]
    extra = ("--speed_perturb_factors", "0.9 1.0") if stage == 2 else ()
    (done.work / "processes").unlink(missing_ok=True)
    (done.work / "calls").unlink(missing_ok=True)
    # Killed in one of two pauses, of which the second has no end: it is never finished before.
    (done.work / "slow" / command).write_text("0.3 1000")
    process = subprocess.Popen(
        done.command("--force", "true", "--stage", str(stage), *extra),
        cwd=done.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=done.environment(),
        start_new_session=True,
        # Ignored where tests run in the background, which bash would inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_until((done.work / "processes").exists)
    time.sleep(random.Random(f"{stage} {how}").uniform(0, 0.5))
    (os.killpg if group else os.kill)(process.pid, number)
    output, _ = process.communicate(timeout=300)
    assert process.returncode != 0
    assert number == signal.SIGKILL or "interrupted; run the same command again" in output
    started = [int(line) for line in (done.work / "processes").read_text().split()]
    # The stage does not go on without its script.
    wait_until(lambda: not any(map(is_running, started)))
    (done.work / "slow" / command).unlink()
    again = done.run("--stage", str(stage), "--stop_stage", str(stage), *extra)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "(it was interrupted)" in again.stdout


# Starts processes all the time, each of which notes if it has outlived who started it.
TREES = """
. "$0" || exit 1
for _ in {1..20}; do
    (while :; do bash -c 'sleep 0.005; kill -0 "${PPID}" || echo "$$" >>orphans'; done) &
    sleep 0.1
    kill_tree $!
    wait $! || true
done 2>/dev/null
sleep 0.5
"""
# A large process, which takes a while to be copied, and starts others from a thread of its own.
THREAD = """
import os, threading
def work():
    held = bytearray(200_000_000)
    held[::4096] = b"x" * len(held[::4096])
    for _ in range(1000):
        if os.fork() == 0:
            os.execvp("bash", ["bash", "-c", 'echo "$$" >>started; exec sleep 1000'])
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
LARGE = """
. "$0" || exit 1
for _ in {1..5}; do
    "$1" -c "$2" &
    until [ -s started ]; do sleep 0.05; done
    kill_tree $!
    wait $! || true
    sleep 0.5
    while read -r process; do
        # Perhaps nobody has asked yet how it ended.
        if [[ $(process_state "${process}") == [!ZX] ]]; then
            echo "${process}" >>orphans
            kill -9 "${process}"
        fi
    done <started
    rm started
done 2>/dev/null
"""


def trees(script: str, directory: Path, *arguments: str) -> None:
    command = ["bash", "-c", script, str(TEMPLATE / "stages.sh"), *arguments]
    process = subprocess.Popen(command, cwd=directory, start_new_session=True)
    try:
        assert process.wait(timeout=600) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert not (directory / "orphans").exists()


def test_what_starts_while_a_stage_is_killed_does_not_outlive_it(tmp_path: Path) -> None:
    trees(TREES, tmp_path)


def test_what_a_thread_starts_ends_with_its_process(tmp_path: Path) -> None:
    trees(LARGE, tmp_path, sys.executable, THREAD)


def test_a_later_stage_refuses_the_remains_of_an_interrupted_one(done: Recipe) -> None:
    marker = done.path / "dump" / ".stages" / "3"
    marker.rename(marker.with_name("3.started"))
    refused = done.run("--stage", "10", "--force", "true")
    assert refused.returncode == 1
    assert "stage 3 was interrupted; run it first (--stage 3)" in refused.stderr


# Two runs at once


@pytest.mark.parametrize(
    ("command", "arguments", "others", "what"),
    [
        ("data", [], ["--dumpdir", "dump2"], "data"),
        ("format_audio", [], [], "dump"),
        ("format_audio", [], ["--dumpdir", "dump2", "--langs", "en"], "data"),
        # Held from stage 1 to stage 5: nothing may be prepared anew in between.
        ("make_token_list", [], ["--dumpdir", "dump2"], "data"),
        (
            "make_token_list",
            ["--stage", "5"],
            ["--dumpdir", "dump2", "--stage", "5"],
            "data/token_list/bpe_unigram250",
        ),
        ("train", ["--stage", "11"], [], "exp/objsoup_train_raw_bpe_unigram250"),
        ("train", ["--stage", "11"], ["--stage", "5"], "data/token_list/bpe_unigram250"),
    ],
)
def test_a_second_run_is_refused(
    recipe: Recipe, command: str, arguments: list[str], others: list[str], what: str
) -> None:
    (recipe.work / "slow" / command).write_text("1000")
    first = subprocess.Popen(
        recipe.command(*arguments),
        cwd=recipe.path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=recipe.environment(),
    )
    calls = recipe.work / "calls"
    try:
        wait_until(
            lambda: calls.exists() and re.search(rf"(^|\.){command} ", calls.read_text(), re.M)
        )
        second = recipe.run(*arguments, *others)
        assert second.returncode == 1
        assert f"error: {what} is in use by another run" in second.stderr
        assert f"process {first.pid} on " in second.stderr
    finally:
        first.terminate()
        first.wait(timeout=300)
    (recipe.work / "slow" / command).unlink()
    assert recipe.run(*arguments, "--skip_eval", "true").returncode == 0


@pytest.mark.parametrize(
    ("place", "stage", "what"),
    [("data/.stages/lock", "1", "data"), ("exp/.T.lock", "11", "exp/T")],
)
def test_a_directory_that_cannot_be_written_is_named(
    recipe: Recipe, place: str, stage: str, what: str
) -> None:
    """A folder in the place of a file stops the superuser, too, as a read-only disk does."""
    assert recipe.run("--tag", "T", "--stop_stage", "10").returncode == 0
    path = recipe.path / place
    path.unlink(missing_ok=True)
    path.mkdir(parents=True)
    again = ("--tag", "T", "--stage", stage, "--stop_stage", stage, "--force", "true")
    failed = recipe.run(*again)
    assert failed.returncode == 1
    assert (
        f"error: {what}: expected a directory that this user can write to, found that {place} "
        "cannot be written (Is a directory); see its disk and permissions"
    ) in failed.stderr
    path.rmdir()
    assert recipe.run(*again).returncode == 0


def test_two_trainings_share_their_data(done: Recipe) -> None:
    (done.work / "slow" / "train").write_text("1")
    arguments = ("--stage", "11", "--stop_stage", "11", "--tag")
    runs = [
        subprocess.Popen(done.command(*arguments, tag), cwd=done.path, env=done.environment())
        for tag in ("a", "b")
    ]
    assert [run.wait(timeout=600) for run in runs] == [0, 0]


# Mistakes of the command line, all before the first stage


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--skip_train", "yes"], "--skip_train: expected true or false, found 'yes'"),
        (["--nj", "0"], "--nj: expected a whole number of at least 1, found '0'"),
        (["--ngpu", "-1"], "--ngpu: expected a whole number of at least 0, found '-1'"),
        (["--stage", "x"], "--stage: expected a whole number"),
        (["--stage", "12", "--stop_stage", "11"], "--stage: expected at most --stop_stage 11"),
        (["--stop_stage", "16"], "--stop_stage: expected a stage from 1 to 15, found '16'"),
        (["--fs", "fast"], "--fs: expected a rate in Hz"),
        (["--channel", "left"], "--channel: expected a whole number"),
        (["--audio_format", "mp3"], "--audio_format: expected one of flac, wav, flac.ark, wav.ark"),
        (["--token_type", "word"], "--token_type: expected one of bpe, char, found 'word'"),
        (["--nbpe", "9|x"], "--nbpe: expected whole numbers of at least 1, or char"),
        (["--nbpe", "9|9"], "--nbpe: expected a size for each group of --bpe_groups ''"),
        (["--bpe_temperature", "0.5"], "--bpe_temperature: expected a number of at least 1"),
        (
            ["--token_type", "char", "--bpe_groups", "en|fr", "--nbpe", "1|1"],
            "--bpe_groups: expected nothing with --token_type char",
        ),
        (["--min_wav_duration", "30"], "--min_wav_duration: expected less than"),
        (["--max_wav_duration", "long"], "--max_wav_duration: expected a number of seconds"),
        (["--speed_perturb_factors", "0.9 x"], "--speed_perturb_factors: expected numbers from"),
        (["--speed_perturb_factors", f"{MIN_SPEED} {MAX_SPEED + 0.1}"], "0.5 to 2, found '2.1'"),
        (["--speed_perturb_factors", f"{MIN_SPEED - 0.1} {MAX_SPEED}"], "0.5 to 2, found '0.4'"),
        (["--speed_perturb_factors", "0.9 0.9000001"], "factors: expected distinct numbers, found"),
        (
            ["--ngpu", "1"],
            "--ngpu: expected 1 GPU(s) of this machine that PyTorch can use, found '0'",
        ),
        (["--ngpu", "3"], "--ngpu: expected 3 GPU(s) of this machine"),
        (["--gpu_inference", "true"], "--gpu_inference: expected 1 GPU(s)"),
        (["--init_param", "no.pth:encoder"], "--init_param: expected weights.pth or"),
        (["--st_pairs", "fr>en"], "--st_pairs: expected pairs such as fr-en or zh-CN-en, found"),
        (["--st_pairs", "fr-en-de"], "--st_pairs: expected pairs such as fr-en or zh-CN-en, found"),
        (["--langs", ""], "--langs: expected a language"),
        (["--test_sets", " "], "--test_sets: expected at least one name"),
        (["--train_set", ""], "--train_set: expected one name"),
        (["--nbest", "many"], "--nbest: expected a whole number of at least 1"),
        (["--config", "conf/none.yaml"], "--config: expected a file"),
        (["--inference_config", "none"], "--inference_config: expected a file"),
        (["--python", "/bin/false"], "--python: expected Python 3.12 or 3.13"),
        (["--python", "/no/python"], "found '/no/python'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_values_are_found_before_any_stage(
    recipe: Recipe, arguments: list[str], message: str
) -> None:
    wrong = recipe.run(*arguments)
    assert wrong.returncode == 2, wrong.stderr
    assert message in wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1
    assert not (recipe.work / "calls").exists()


@pytest.mark.parametrize("there", [[], ["data"], ["dump"], ["data", "dump"]], ids=str)
def test_a_first_stage_that_fails_leaves_nothing_of_its_own(
    recipe: Recipe, there: list[str]
) -> None:
    for name in there:
        (recipe.path / name).mkdir()
    before = {path.name for path in recipe.path.iterdir()}
    (recipe.work / "needs_corpus").touch()
    assert recipe.run("--stop_stage", "1", COVOST2="").returncode == 1
    assert {path.name for path in recipe.path.iterdir()} == before
    (recipe.work / "needs_corpus").unlink()
    recipe.calls("--stop_stage", "1")
    # What another run has put there stays.
    (recipe.work / "needs_corpus").touch()
    assert recipe.run("--stop_stage", "1", "--langs", "en", COVOST2="").returncode == 1
    assert (recipe.path / "data" / "train" / "wav.scp").exists()


def test_a_lock_that_its_holder_has_removed_is_taken_anew(recipe: Recipe) -> None:
    """The second waits for the lock while the first fails, and a third must see it."""
    held = recipe.path / "data" / ".stages" / "lock"
    held.parent.mkdir(parents=True)
    holder = subprocess.Popen(
        ["flock", str(held), "bash", "-c", f"echo held; read; rm -rf {held.parent}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"

    def remove() -> None:
        # By then the script has opened the file that it waits for.
        wait_until(lambda: "flock" in names_of_processes(recipe.path))
        holder.communicate("\n")

    thread = threading.Thread(target=remove)
    thread.start()
    recipe.calls("--stop_stage", "1")
    thread.join()
    assert holder.returncode == 0
    assert "process" in held.read_text()


def test_languages_may_be_written_with_their_region(recipe: Recipe) -> None:
    options = ["--langs", "zh-CN sv-SE", "--st_pairs", "zh-CN-en,en-sv-SE en-zh-CN"]
    groups = ["--bpe_groups", "en sv-SE|zh-CN", "--nbpe", "90|char"]
    calls = recipe.calls(*options, *groups, "--stop_stage", "5")
    assert " ".join(options) in " ".join(calls[0])
    assert groups[1] in calls[-1]


def test_a_syntax_error_in_a_configuration_is_found_before_any_stage(recipe: Recipe) -> None:
    (recipe.path / "conf" / "decode.yaml").write_text("beam_size: 5\nctc_weight: a: b\n")
    wrong = recipe.run()
    assert wrong.returncode == 1
    assert "error: conf/decode.yaml:2: expected YAML, found 'ctc_weight: a: b'" in wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1
    assert not (recipe.work / "calls").exists()


def test_more_hypotheses_than_the_beam_holds_are_refused_before_any_stage(recipe: Recipe) -> None:
    wrong = recipe.run("--nbest", "6")
    assert wrong.returncode == 1
    assert "conf/decode.yaml: decoding options: nbest: expected at most beam_size 5" in wrong.stderr
    assert not (recipe.work / "calls").exists()


def test_gpus_are_looked_for_only_where_they_are_used(recipe: Recipe) -> None:
    wanted = ("--ngpu", "2", "--gpu_inference", "true")
    assert recipe.ran(*wanted, "--stop_stage", "10") == [*DATA, "collect_stats"]
    assert recipe.ran(*wanted, "--stage", "11", STUB_GPUS="2") == ["launch", *EVALUATION]
    # A queue's machines are not this one.
    assert recipe.ran("--ngpu", "2", "--tag", "t", "--stop_stage", "11", train_cmd="env") == [
        "launch"
    ]


@pytest.mark.parametrize("factors", [f"{MIN_SPEED:g} {MAX_SPEED:g}", "0.9 1.0 1.1"])
def test_speeds_that_are_known_are_accepted(recipe: Recipe, factors: str) -> None:
    arguments = ("--speed_perturb_factors", factors, "--stop_stage", "2")
    assert recipe.ran(*arguments) == ["data", "perturb_speed"]


def test_a_python_that_is_too_old_is_named(recipe: Recipe, tmp_path: Path) -> None:
    Recipe.write_script(tmp_path / "old", "#!/bin/sh\necho 'Python 3.9.1'\nexit 1\n")
    wrong = recipe.run("--python", str(tmp_path / "old"))
    assert wrong.returncode == 2
    assert f"found '{tmp_path}/old' (Python 3.9.1)" in wrong.stderr


def test_names_of_test_sets_that_do_not_exist(recipe: Recipe) -> None:
    wrong = recipe.run("--test_sets", "test tset")
    assert wrong.returncode == 1
    assert "--test_sets: expected names of directories in data, found 'tset'" in wrong.stderr
    assert "more/" in wrong.stderr


@pytest.mark.parametrize(
    ("value", "found"),
    [("", "found nothing"), ("/no", "'/no', which is not there"), ("/tmp", "'/tmp' without it")],
)
def test_a_corpus_that_is_not_there(recipe: Recipe, value: str, found: str) -> None:
    (recipe.work / "needs_corpus").touch()
    wrong = recipe.run(COVOST2=value)
    assert wrong.returncode == 1
    assert "error: COVOST2: expected a folder that contains index.tsv, found" in wrong.stderr
    assert found in wrong.stderr
    assert "db.sh" in wrong.stderr


# Packing


def test_packing(done: Recipe) -> None:
    asked = ("--stop_stage", "14")
    (call,) = done.calls(*asked, "--license", "cc-by-4.0", "--pack_args", "--datasets a,b")
    exp = "exp/objsoup_train_raw_bpe_unigram250"
    for name, value in {
        "--exp_dir": exp, "--out": f"{exp}.zip", "--model_file": "valid.loss.ave.pth",
        "--recipe": "recipe", "--license": "cc-by-4.0", "--hf_repo": "", "--datasets": "a,b",
    }.items():  # fmt: skip
        assert option(call, name) == value
    assert done.ran(*asked) == ["pack"]
    assert done.ran(*asked) == []
    assert done.ran(*asked, "--skip_packing", "true", "--force", "true", "--stage", "14") == []
    (done.path / f"{exp}.zip").unlink()
    assert done.ran(*asked) == ["pack"]


def test_what_makes_an_archive_out_of_date(done: Recipe) -> None:
    asked = ("--stop_stage", "14")
    assert done.ran(*asked) == ["pack"]
    assert done.ran(*asked, "--corpus", "Speech of ours") == ["pack"]
    assert done.ran(*asked) == ["pack"]
    assert done.ran(*asked, "--update_results", "true") == ["score", "pack"]
    assert done.ran("--update_results", "true") == ["score"]
    assert done.ran(*asked) == ["pack"]
    best = (*asked, "--inference_model", "valid.loss.best.pth")
    assert done.ran(*best) == [*EVALUATION, "pack"]
    assert done.ran(*asked) == ["pack"]  # the archive has other weights now
    assert done.ran(*asked, "--force", "true", "--stage", "14") == ["pack"]


def test_packing_after_other_options_is_refused(done: Recipe) -> None:
    wrong = done.run("--stage", "14", "--stop_stage", "14", "--nbest", "3")
    assert wrong.returncode == 1
    assert "stage 12 was run with other options: nbest was '' and is '3'" in wrong.stderr


def test_the_mini_corpus_in_the_place_of_another_is_said(done: Recipe) -> None:
    options = ("--local_data_opts", "--bilingual false\n        --mini true --size tiny")
    call = done.calls("--stop_stage", "14", *options)[-1]
    assert option(call, "--recipe") == "mini_objsoup"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--license", "My Licence"], "--license: expected an identifier of the hub"),
        (["--hf_repo", "name"], "--hf_repo: expected user/name, found 'name'"),
        (["--hf_repo", "https://hub/a/b"], "--hf_repo: expected user/name"),
    ],
)
def test_options_of_packing(recipe: Recipe, arguments: list[str], message: str) -> None:
    wrong = recipe.run("--stop_stage", "14", *arguments)
    assert wrong.returncode == 2
    assert message in wrong.stderr
    assert recipe.noted() == []


# Upload


def test_upload_shows_only_unless_told(done: Recipe) -> None:
    asked = ("--stop_stage", "15", "--hf_repo", "ada/tiny")
    pack, upload = done.calls(*asked)
    assert option(pack, "--hf_repo") == "ada/tiny"  # the card says where the model is
    expected = {
        "--packed": "exp/objsoup_train_raw_bpe_unigram250.zip", "--hf_repo": "ada/tiny",
        "--hf_upload": "false", "--hf_private": "false", "--hf_replace": "false",
    }  # fmt: skip
    assert {name: option(upload, name) for name in expected} == expected
    # What the hub has is not known here, so it is never done.
    told = (*asked, "--hf_upload", "true", "--hf_private", "true", "--hf_replace", "true")
    for words in (asked, told, told):
        assert done.ran(*words) == ["upload"]
    (upload,) = done.calls(*told)
    assert {option(upload, name) for name in list(expected)[2:]} == {"true"}
    assert done.ran(*asked, "--skip_upload", "true") == []


def test_upload_of_what_was_packed_for_another_repository_is_refused(done: Recipe) -> None:
    assert done.ran("--stop_stage", "14") == ["pack"]
    wrong = done.run("--stage", "15", "--stop_stage", "15", "--hf_repo", "ada/tiny")
    assert wrong.returncode == 1
    assert "stage 14 was run with other options: hf_repo was '' and is 'ada/tiny'" in wrong.stderr


def test_an_upload_that_failed_is_run_again(done: Recipe) -> None:
    asked = ("--stop_stage", "15", "--hf_repo", "ada/tiny")
    (done.work / "fails" / "upload").write_text("1")
    wrong = done.run(*asked)
    assert wrong.returncode == 1
    assert "[15/15] upload: failed with exit status 1" in wrong.stderr
    (done.work / "fails" / "upload").unlink()
    assert done.ran(*asked) == ["upload"]


def test_upload_needs_a_repository(recipe: Recipe) -> None:
    wrong = recipe.run("--stop_stage", "15")
    assert wrong.returncode == 2
    assert "--hf_repo: expected user/name for stage 15, found ''" in wrong.stderr
    assert recipe.noted() == []
