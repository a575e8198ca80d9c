# SPDX-License-Identifier: Apache-2.0
import fcntl
import io
import json
import os
import pty
import resource
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

import pytest

from espnet_objsoup.bin import transcribe, translate
from espnet_objsoup.transcription.model import ModelChoice

from .fake_model import FakeSpeech2Text, make_model

OBJECTIVES = ["asr/en", "asr/fr", "st/fr-en"]
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with files and a model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OBJSOUP_CACHE", str(tmp_path / "cache"))
    make_model(tmp_path / "model", OBJECTIVES)
    for name in ("a.wav", "b.wav", "bad.wav", "talks/c.flac", "talks/day1/d.mp3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeSpeech2Text:
    fake = FakeSpeech2Text()
    monkeypatch.setattr(ModelChoice, "load", lambda self: fake)
    return fake


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(choice: ModelChoice) -> None:
        raise AssertionError("a mistake is told before a model is loaded")

    monkeypatch.setattr(ModelChoice, "load", load)


def run(*words: str, command: object = transcribe) -> int:
    return command.main(["--model", "model", *words])


def test_one_file_to_standard_output(here: Path, model: FakeSpeech2Text, capsys: Captured) -> None:
    assert run("a.wav", "--lang", "fr") == 0
    out, err = capsys.readouterr()
    assert out == "hello from a\n"
    assert err == "1 of 1 file, 4.0 s of audio in 0.5 s (real-time factor 0.125)\n"
    assert model.asked == {
        "task": "asr",
        "lang": "fr",
        "target_lang": None,
        "nbest": 1,
        "batch_size": 16,
        "word_times": False,
    }


def test_several_files_have_their_names(
    here: Path, model: FakeSpeech2Text, capsys: Captured
) -> None:
    assert run("b.wav", "--lang", "fr", "a.wav") == 0  # files before and after options
    assert capsys.readouterr().out == "b.wav\thello from b\na.wav\thello from a\n"


def test_translation(here: Path, model: FakeSpeech2Text) -> None:
    words = ["a.wav", "--lang", "fr", "--target_lang", "en", "--nbest", "2", "--batch_size", "3"]
    assert run(*words, command=translate) == 0
    assert model.asked == {
        "task": "st",
        "lang": "fr",
        "target_lang": "en",
        "nbest": 2,
        "batch_size": 3,
        "word_times": False,
    }


def test_failures_are_listed_and_the_rest_is_written(
    here: Path, model: FakeSpeech2Text, capsys: Captured
) -> None:
    words = ("a.wav", "bad.wav", "none.wav", "b.wav", "--format", "jsonl", "--output", "all.jsonl")
    assert run(*words) == 1
    lines = (here / "all.jsonl").read_text().splitlines()
    assert [json.loads(line)["path"] for line in lines] == ["a.wav", "b.wav"]
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-4:] == [
        "2 of 3 files, 8.0 s of audio in 1.0 s (real-time factor 0.125)",
        "2 failed:",
        "  none.wav: expected an audio file or a folder, found nothing there",
        "  bad.wav: expected audio, found none",
    ]


def test_folders_of_subtitles(here: Path, model: FakeSpeech2Text) -> None:
    assert run("talks", "--recursive", "--format", "srt", "--output", "out") == 0
    found = sorted(str(path.relative_to(here)) for path in (here / "out").rglob("*.*"))
    assert found == ["out/c.srt", "out/day1/d.srt"]
    assert (here / "out/c.srt").read_text() == "1\n00:00:00,000 --> 00:00:02,500\nhello from c\n"
    assert model.asked["word_times"]


def test_subtitles_of_models_without_ctc_are_divided_by_length(
    here: Path, model: FakeSpeech2Text, capsys: Captured
) -> None:
    make_model(here / "attention", OBJECTIVES, asr_ctc_weight=0.0)
    assert transcribe.main(["--model", "attention", "a.wav", "--format", "vtt"]) == 0
    assert not model.asked["word_times"]
    assert "00:00:00.000 --> 00:00:04.000\nhello from a\n" in capsys.readouterr().out
    assert run("a.wav", "--lang", "fr", "--format", "vtt", command=translate) == 0
    assert not model.asked["word_times"]


def test_a_folder_gets_a_file_for_each_input(here: Path, model: FakeSpeech2Text) -> None:
    assert run("a.wav", "b.wav", "--output", "texts/") == 0
    assert (here / "texts/a.txt").read_text() == "hello from a\n"
    assert (here / "texts/b.txt").read_text() == "hello from b\n"
    assert run("a.wav", "--output", "texts", "--format", "jsonl") == 0
    assert json.loads((here / "texts/a.jsonl").read_text())["text"] == "hello from a"


def test_audio_from_standard_input(
    here: Path, model: FakeSpeech2Text, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"RIFF")))
    assert run("-", "--format", "jsonl") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["path"], record["text"]) == ("stdin", "hello from stdin")


def test_a_list_from_standard_input(
    here: Path, model: FakeSpeech2Text, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.wav\nb.wav\n")))
    assert run("--files_from", "-") == 0
    assert capsys.readouterr().out == "a.wav\thello from a\nb.wav\thello from b\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    assert run("--files_from", "-") == 1
    assert "found none" in capsys.readouterr().err


def test_ctrl_c_leaves_what_is_done(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(path: Path) -> None:
        if path.stem == "b":
            raise KeyboardInterrupt

    fake = FakeSpeech2Text(before_each=interrupt)
    monkeypatch.setattr(ModelChoice, "load", lambda self: fake)
    for output in ("all.txt", "each/"):
        assert run("a.wav", "b.wav", "talks", "--output", output) == 130
    assert (here / "all.txt").read_text() == "a.wav\thello from a\n"
    assert [path.name for path in (here / "each").iterdir()] == ["a.txt"]


def test_an_old_output_stays_where_nothing_comes_of_it(
    here: Path, monkeypatch: pytest.MonkeyPatch, model: FakeSpeech2Text
) -> None:
    (here / "all.txt").write_text("old")
    assert run("bad.wav", "--output", "all.txt") == 1
    assert (here / "all.txt").read_text() == "old"

    def fail(path: Path) -> None:
        if path.stem == "b":
            raise RuntimeError("expected memory, found none")

    fake = FakeSpeech2Text(before_each=fail)
    monkeypatch.setattr(ModelChoice, "load", lambda self: fake)
    assert run("a.wav", "b.wav", "--output", "all.txt") == 1
    assert (here / "all.txt").read_text() == "old"
    assert list(here.glob(".all*")) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "found none; - reads standard input"),
        (["a.wav", "--lagn", "fr"], "unrecognized arguments: --lagn"),
        (["a.wav", "--nbest", "0"], "expected a whole number >= 1, found '0'"),
        (["a.wav", "--nbest", "2", "--format", "srt"], "use text or jsonl"),
        (["a.wav", "--word_times"], "expected --format jsonl"),
        (["a.wav", "--device", "gpu"], "expected cpu, cuda or cuda:0, found 'gpu'"),
        (["a.wav", "b.wav", "--format", "vtt"], "add --output FOLDER/"),
        (["talks", "--format", "vtt"], "add --output FOLDER/"),
        (["a.wav", "b.wav", "--format", "srt", "--output", "b.wav"], "found a file"),
        (["a.wav", "--output", "a.wav"], "another file than those to be read"),
        (["-", "--files_from", "-"], "one use of standard input"),
        (["a.wav", "talks", "talks/day1/a.mp3", "--output", "o/"], "a.wav and talks/day1/a.mp3"),
    ],
)
@pytest.mark.usefixtures("no_model")
def test_usage_errors(here: Path, capsys: Captured, words: list[str], message: str) -> None:
    (here / "talks/day1/a.mp3").touch()
    with pytest.raises(SystemExit) as left:
        run(*words)
    assert left.value.code == 2
    assert message in capsys.readouterr().err
    assert not (here / "o").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.wav"], "none.wav: expected an audio file or a folder, found nothing there"),
        (["a.wav", "--lang", "zu"], "lang: expected one of en, fr, found 'zu'"),
        (["a.wav", "--model", "elsewhere"], "elsewhere: expected an experiment"),
        (
            ["a.wav", "--model", "only_st"],
            "expected a model with recognition (asr), found one of st",
        ),
        (["a.wav", "--config", "beam.yaml"], "beam.yaml: decoding options: unknown key beams"),
        (["a.wav", "--config", "none.yaml"], "none.yaml"),
        (["a.wav", "--max_segment_s", "0"], "max_segment_s: expected at least 1"),
        (["a.wav", "--output", "none/a.txt"], "found no none; make it first"),
        (
            ["a.wav", "--model", "no_ctc", "--format", "jsonl", "--word_times"],
            "expected a model whose recogniser has CTC",
        ),
        (["a.wav", "--nbest", "6"], "nbest: expected at most beam_size 5, found 6"),
        (["--files_from", "none.txt"], "none.txt"),
    ],
)
@pytest.mark.usefixtures("no_model")
def test_mistakes_are_told_before_a_model_is_loaded(
    here: Path, capsys: Captured, words: list[str], message: str
) -> None:
    make_model(here / "only_st", ["st/fr-en"])
    make_model(here / "no_ctc", OBJECTIVES, asr_ctc_weight=0.0)
    (here / "beam.yaml").write_text("beams: 3\n")
    assert run(*words) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.startswith("error: ")


def test_options_of_the_search(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "beam.yaml").write_text("beam_size: 3\nctc_greedy: true\n")
    seen = []
    monkeypatch.setattr(ModelChoice, "load", lambda self: seen.append(self) or FakeSpeech2Text())
    run(
        "a.wav",
        "--config",
        "beam.yaml",
        "--dtype",
        "float64",
        "--device",
        "cuda:1",
        "--max_segment_s",
        "9.5",
    )
    assert seen[0].segments.max_segment_s == 9.5
    assert seen[0].options.beam_size == 3
    assert (seen[0].dtype, seen[0].device) == ("float64", "cuda:1")


# Processes of their own: signals and pipes.


def start(here: Path, *words: str, **options: object) -> subprocess.Popen:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-m", "tests.unit.bin.transcribe_worker", "transcribe"]
    return subprocess.Popen(
        [*command, "--model", f"{here}/model", *words],
        cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def test_ctrl_c_in_a_process(here: Path) -> None:
    (here / "slow.wav").touch()
    process = start(here, f"{here}/a.wav", f"{here}/slow.wav", "--output", f"{here}/out/")
    for _ in range(3000):
        if (here / "out/a.txt").exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err
    assert err.endswith(b"interrupted; what was done until then is written\n")
    assert [path.name for path in (here / "out").iterdir()] == ["a.txt"]


def test_a_reader_that_has_seen_enough(here: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    root = Path(__file__).parents[3]
    command = [sys.executable, "-m", "tests.unit.bin.transcribe_worker", "transcribe"]
    done = subprocess.run(
        [*command, "--model", f"{here}/model", f"{here}/a.wav"],
        cwd=root, stdout=writing, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    os.close(writing)
    assert done.returncode == 141
    assert done.stderr == b""


def test_a_progress_bar_on_a_terminal(here: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    root = Path(__file__).parents[3]
    command = [sys.executable, "-m", "tests.unit.bin.transcribe_worker", "transcribe"]
    done = subprocess.run(
        [*command, "--model", f"{here}/model", f"{here}/a.wav", f"{here}/b.wav"],
        cwd=root, stdout=subprocess.PIPE, stderr=theirs, check=True,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    # The kernel hands it over in parts, the last perhaps after the process has ended.
    with suppress(OSError):  # which is how a terminal that nobody has open any more ends
        while part := os.read(ours, 10_000):
            shown += part
    assert b"2/2" in shown
    os.close(ours)
    assert done.stdout.decode() == f"{here}/a.wav\thello from a\n{here}/b.wav\thello from b\n"


@pytest.mark.parametrize(
    "words", [["transcribe", "--help"], ["translate", "--model", "x"], ["transcribe", "x"]]
)
def test_help_and_mistakes_are_immediate(words: list[str]) -> None:
    code = (
        "import sys; from espnet_objsoup.bin.objsoup import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'espnet2', 'scipy', 'gradio'} & set(sys.modules)"
    )
    seconds = []
    for _ in range(3):
        # Time of the processor: the tests may share it with other work.
        begin = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        subprocess.run([sys.executable, "-c", code, *words], capture_output=True, check=True)
        seconds.append(sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - begin)
    assert min(seconds) < 1.0
