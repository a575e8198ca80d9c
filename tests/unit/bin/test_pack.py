# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from espnet_objsoup.bin import pack
from tests.unit.zoo.packages import TAG, make_recipe


def test_the_archive_lies_beside_the_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_recipe(tmp_path)
    monkeypatch.chdir(tmp_path)
    arguments = ["--exp_dir", f"exp/{TAG}", "--license", "cc-by-4.0", "--hf_repo", "me/mine"]
    arguments += ["--model_file", "valid.loss.ave.pth", "--corpus", "Speech", "--datasets", "a,b"]
    assert pack.main(arguments) == 0
    archive = tmp_path / "exp" / f"{TAG}.zip"
    assert archive.is_file()
    assert f"{archive}: " in capsys.readouterr().out
    for text in (b"license: cc-by-4.0", b"me/mine", b"Speech", b"- a\n"):
        assert text in archive.read_bytes()


def test_a_mistake_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pack.main(["--exp_dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/config.yaml: expected")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--exp_dir"),
        (["--exp_dir", "e", "--license", "CC BY"], "expected an identifier such as cc-by-4.0"),
        (["--exp_dir", "e", "--hf_repo", "mine"], "expected user/name, found 'mine'"),
        (["--exp_dir", "e", "--hf_repo", "../x/y"], "expected user/name"),
        (["--exp_dir", "e", "--trust_weights", "perhaps"], "--trust_weights"),
    ],
)
def test_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        pack.main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
