# SPDX-License-Identifier: Apache-2.0
import importlib.util
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_objsoup.bin import demo
from espnet_objsoup.demo import serve
from espnet_objsoup.transcription.model import ModelChoice

from ...ports import free_port
from .fake_model import make_model


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def load(choice: ModelChoice) -> None:
        raise AssertionError("a mistake is told before a model is loaded")

    monkeypatch.setattr(ModelChoice, "load", load)
    monkeypatch.setenv("OBJSOUP_CACHE", str(tmp_path / "cache"))


def test_a_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_model(tmp_path / "model", ["asr/fr"])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = str(taken.getsockname()[1])
        assert demo.main(["--model", f"{tmp_path}/model", "--port", number]) == 1
    err = capsys.readouterr().err
    assert f"port {number}, found it cannot be used (Address already in use)" in err


def test_an_address_of_another_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--model", "x", "--host", "192.0.2.1"]) == 1  # reserved for documentation
    assert "choose another --port or --host" in capsys.readouterr().err


def test_a_model_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--model", "./none", "--port", str(free_port())]) == 1
    assert "none: expected an experiment" in capsys.readouterr().err


def test_gradio_is_optional(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert demo.main(["--model", "x"]) == 1
    assert "pip install 'espnet-objsoup[demo]'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--model", "x", "--port", "65536"], ["--model", "x", "y"]])
def test_usage_errors(words: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        demo.main(words)
    assert left.value.code == 2


def test_help_imports_no_gradio() -> None:
    code = (
        "import sys\nfrom espnet_objsoup.bin.demo import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'espnet2', 'gradio', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--port PORT" in done.stdout


def test_title_is_the_models_name(tmp_path: Path) -> None:
    (tmp_path / "exp").mkdir()
    (tmp_path / "soup.zip").touch()
    assert serve.model_title(f"{tmp_path}/exp/") == "exp"
    assert serve.model_title(f"{tmp_path}/soup.zip") == "soup"
    assert serve.model_title("user/name") == "user/name"
