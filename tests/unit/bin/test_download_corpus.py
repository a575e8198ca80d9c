# SPDX-License-Identifier: Apache-2.0
import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from espnet_objsoup.bin import download_corpus
from espnet_objsoup.data.corpora.sources import CORPORA

from ..data.web_server import WebServer, serve

OFFLINE = ("--mirror", "http://127.0.0.1:9")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    """CoVoST 2's French file, with two rows."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    rows, buffer = b"path\ttranslation\tsplit\na.mp3\tHello.\ttrain\n", io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        info = tarfile.TarInfo("covost_v2.fr_en.tsv")
        info.size = len(rows)
        tar.addfile(info, io.BytesIO(rows))
    content = buffer.getvalue()
    corpus = CORPORA["covost2"]
    small = replace(
        corpus.select(["fr_en"])[0],
        size_bytes=len(content),
        checksum=f"sha256:{hashlib.sha256(content).hexdigest()}",
    )
    monkeypatch.setitem(CORPORA, "covost2", replace(corpus, archives=(small,), default=("fr_en",)))
    with serve(WebServer({"/covost_v2.fr_en.tsv.tar.gz": content})) as started:
        yield started


def test_covost2_is_fetched_and_common_voice_asked_for(
    server: WebServer, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    voice = tmp_path / "cv"
    command = ["covost2", "--dir", str(tmp_path / "covost"), "--mirror", server.url]
    command += ["--commonvoice", str(voice), "--langs", "fr"]
    assert download_corpus.main(command) == 1
    output = capsys.readouterr()
    assert (tmp_path / "covost" / "covost_v2.fr_en.tsv").read_text().startswith("path\t")
    assert f"{voice}/LANG/clips/*.mp3" in output.out
    assert "11.57 GB for 1 language(s)" in output.out
    assert f"not found: {voice}/fr/validated.tsv, {voice}/fr/clips" in output.err
    (voice / "fr" / "clips").mkdir(parents=True)
    (voice / "fr" / "validated.tsv").touch()
    assert download_corpus.main(command) == 0
    assert f"set COVOST2={tmp_path}/covost" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("corpus", "text"),
    [
        ("librispeech", ["CC BY 4.0", "61.36 GB in 7", "openslr.org/12", "dev-clean.tar.gz"]),
        ("aishell", ["Apache License 2.0", "15.58 GB in 1", "openslr.org/33", "data_aishell.tgz"]),
        (
            "covost2",
            [
                "CC0",
                "25.43 MB in 4",
                "Common Voice Corpus 4",
                "covost_v2.ca_en.tsv.tar.gz",
                "mozilladatacollective.com",
                "102.21 GB for 22 language(s)",
            ],
        ),
    ],
)
def test_offline_it_fails_with_the_text_and_writes_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    corpus: str,
    text: list[str],
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert download_corpus.main([corpus, "--dir", str(tmp_path / "x"), *OFFLINE]) == 1
    output = capsys.readouterr()
    for words in text:
        assert words in output.out
    assert "nothing was written" in output.err
    assert f"put them into {tmp_path}/x and run this again" in output.err
    assert not list(tmp_path.iterdir())


def test_it_can_only_tell(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["librispeech", "--dir", str(tmp_path / "x"), "--parts", "dev-clean test-clean"]
    assert download_corpus.main([*command, "--print_only", "true"]) == 0
    assert "684.59 MB in 2 archive(s)" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_unknown_parts_are_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["librispeech", "--dir", str(tmp_path), "--parts", "train"]
    assert download_corpus.main(command) == 1
    assert "train-other-500; found train" in capsys.readouterr().err


@pytest.mark.parametrize("mirror", ["https://me:hidden@host/x", "http://hidden@host", "/hidden"])
def test_password_in_an_address_is_refused_and_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture, mirror: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        download_corpus.main(["librispeech", "--dir", str(tmp_path), "--mirror", mirror])
    assert stop.value.code == 2
    shown = capsys.readouterr()
    assert "--mirror: expected" in shown.err
    assert "hidden" not in shown.out + shown.err
