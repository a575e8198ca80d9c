# SPDX-License-Identifier: Apache-2.0
"""Uploads to a hub on this machine: what is sent, what is not sent again, and what goes wrong."""

import hashlib
import traceback

import pytest
import yaml
from huggingface_hub import constants

from espnet_objsoup.bin.upload import main
from espnet_objsoup.zoo.errors import ModelError
from espnet_objsoup.zoo.hub_client import HubError, NoConnectionError, explained, make_api
from espnet_objsoup.zoo.upload import Plan, make_plan, push, show
from tests.unit.zoo.hub_models import LARGE, WEIGHTS, model_files, write_folder, write_zip
from tests.unit.zoo.hub_settings import CLOSED, TOKEN

COMMIT = r"POST /api/models/.*/commit/"
PUT = r"PUT /objects/"


@pytest.fixture
def plan(tmp_path) -> Plan:
    return make_plan(write_folder(tmp_path / "model", model_files()), "ada/tiny", private=False)


def pushed(plan, hub, **options):
    return push(plan, endpoint=hub.url, wait_s=0.0, **options)


def on_hub(hub, name="ada/tiny") -> dict[str, bytes]:
    files = hub.state.repositories[name].head.files
    return {path: file.content for path, file in files.items() if path != ".gitattributes"}


def test_plan_names_every_file_with_size_and_checksum(plan):
    files = model_files()
    text = show(plan)
    assert "ada/tiny (a new one will be public" in text
    for name, content in files.items():
        (line,) = [line for line in text.splitlines() if line.endswith(f"  {name}")]
        assert hashlib.sha256(content).hexdigest() in line
    assert f"{len(files)} files" in text


@pytest.mark.parametrize("private", [False, True])
def test_push_makes_the_repository_and_one_commit(plan, hub, private):
    plan = make_plan(plan.folder, "ada/tiny", private)
    done = pushed(plan, hub)
    assert on_hub(hub) == model_files()
    repository = hub.state.repositories["ada/tiny"]
    assert repository.private is private
    assert len(repository.commits) == 2  # the first is the repository's own
    assert done.created
    assert set(done.sent) == set(model_files())
    assert done.commit == repository.head.oid
    assert {r.storage for r in hub.state.sent(PUT)} == {True}
    # The storage's addresses are signed: the token would be a stranger's there.
    assert all(r.authorization is None for r in hub.state.requests if r.storage)


def test_what_is_there_is_not_sent_again(plan, hub):
    pushed(plan, hub)
    hub.state.requests.clear()
    again = pushed(plan, hub)
    assert (again.sent, again.deleted, again.created) == ((), (), False)
    assert {r.method for r in hub.state.requests} == {"GET"}


def test_a_corrected_card_is_all_that_is_sent(plan, hub):
    pushed(plan, hub)
    (plan.folder / "README.md").write_text("---\nlicense: mit\n---\n# Better\n")
    hub.state.requests.clear()
    done = pushed(make_plan(plan.folder, "ada/tiny", False), hub)
    assert done.sent == ("README.md",)
    assert not hub.state.sent(PUT)
    assert on_hub(hub)["README.md"].endswith(b"# Better\n")


@pytest.mark.parametrize("failure", [400, 503, "cut"])
def test_half_finished_upload_is_repeated(plan, hub, failure):
    large = {hashlib.sha256(model_files()[name]).hexdigest() for name in LARGE}
    statistics = hashlib.sha256(model_files()[LARGE[2]]).hexdigest()
    hub.state.fail(f"{PUT}{statistics}", failure, times=-1)
    with pytest.raises(HubError):
        pushed(plan, hub)
    assert not hub.state.sent(COMMIT)
    assert not on_hub(hub)
    missing = large - set(hub.state.objects)  # others may be given up before they are sent
    assert statistics in missing
    hub.state.faults.clear()
    hub.state.requests.clear()
    done = pushed(plan, hub)
    assert on_hub(hub) == model_files()
    assert not done.created
    assert {r.path for r in hub.state.sent(PUT)} == {f"/objects/{oid}" for oid in missing}


@pytest.mark.parametrize("status", [502, "cut", "lost"])
@pytest.mark.parametrize(
    "request_pattern",
    [
        "GET /api/models/ada/tiny$",
        "POST /api/repos/create",
        "GET .*/tree/",
        "POST .*/validate-yaml",
        "POST .*/preupload/",
        "POST .*/objects/batch",
        PUT,
        COMMIT,
    ],
)
def test_one_failure_of_any_request_is_survived(plan, hub, request_pattern, status):
    hub.state.fail(request_pattern, status)
    pushed(plan, hub)
    assert hub.state.faults[0].times == 0
    assert on_hub(hub) == model_files()
    assert len(hub.state.repositories["ada/tiny"].commits) == 2


def test_a_gateway_page_in_place_of_json_is_survived(plan, hub):
    hub.state.fail("POST .*/validate-yaml", "html")
    pushed(plan, hub)
    assert on_hub(hub) == model_files()


@pytest.mark.parametrize("request_pattern", ["GET /api/models/ada/tiny$", PUT, COMMIT])
def test_a_hub_that_stays_down_is_an_error_that_says_so(plan, hub, request_pattern):
    hub.state.fail(request_pattern, 503, times=-1)
    with pytest.raises(NoConnectionError, match=r"found again and again: 503: .*run again later"):
        pushed(plan, hub)
    # Tries are bounded, and the client's own are not multiplied by ours.
    assert len(hub.state.sent(request_pattern)) <= 6 * len(LARGE)


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        ("client error (403 Forbidden)", HubError, r"refuses to hand over large files \(403 Forb"),
        ("server error (503 Service Unavailable)", NoConnectionError, "again and again: 503 Serv"),
    ],
)
def test_errors_of_xet(monkeypatch, status, kind, expected):
    # As hf_xet 1.8 words them, after a minute and a half with 503.
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(kind, match=expected), explained("ada/tiny", make_api()):
        raise ConnectionError(
            f"Network error: Request error: HTTP status {status}, domain: http://"
        )


def test_no_network(plan, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(
        NoConnectionError, match=r"127\.0\.0\.1.*expected a connection.*HTTPS_PROXY"
    ):
        push(plan, endpoint=CLOSED, wait_s=0.0)


def test_no_token(plan, hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match=r"expected a token .* found none; run 'hf auth login'"):
        pushed(plan, hub)
    assert not hub.state.requests


def test_token_of_the_hubs_own_store(plan, hub, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    stored = tmp_path / "token"
    stored.write_text(TOKEN + "\n")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(stored))
    pushed(plan, hub)
    assert on_hub(hub) == model_files()
    stored.write_text("hf_" + "wrong" * 6)
    with pytest.raises(HubError, match=f"refuses the token in {stored}") as caught:
        pushed(plan, hub)
    assert "wrongwrong" not in str(caught.value)


def test_wrong_token(plan, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong_wrong_wrong")
    with pytest.raises(HubError, match=r"refuses the token in .*HF_TOKEN \(401\)") as caught:
        pushed(plan, hub)
    assert "hf_wrong" not in str(caught.value)
    assert len(hub.state.requests) == 1


@pytest.mark.parametrize("token", ["hf_s\u00e9cret_token", "hf_a secret", "hf_se\x01cret"])
def test_a_token_that_no_request_can_carry(plan, hub, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ModelError, match="expected a token of ASCII letters") as caught:
        pushed(plan, hub)
    assert "cret" not in str(caught.value)
    assert not hub.state.requests


def test_no_permission(plan, hub):
    elsewhere = make_plan(plan.folder, "espnet/tiny", False)
    with pytest.raises(HubError, match=r"no permission \(403.*write access to espnet") as caught:
        pushed(elsewhere, hub)
    assert "Authenticated as: ada" in str(caught.value)
    hub.state.add_repository("espnet/tiny")
    with pytest.raises(HubError, match=r"no permission \(403"):
        pushed(elsewhere, hub)


def test_an_organisation_that_the_account_may_write_to(plan, hub):
    hub.state.add_account(TOKEN, "ada", "espnet")
    pushed(make_plan(plan.folder, "espnet/tiny", False), hub)
    assert on_hub(hub, "espnet/tiny") == model_files()


@pytest.mark.parametrize(
    "name", ["tiny", "ada/tiny/x", "ada/", "/tiny", "ada/ti ny", "ada/a--b", "ada/" + "x" * 97, ""]
)
def test_malformed_name(plan, name):
    with pytest.raises(HubError, match="expected user/name"):
        make_plan(plan.folder, name, False)


def test_another_model_is_not_replaced_unasked(plan, hub):
    others = {**model_files(seed=1), "exp/other/old.png": b"old", "exp/tiny/extra.pth": b"old"}
    hub.state.add_repository("ada/tiny", others)
    with pytest.raises(HubError, match=r"found another model .*--hf_replace true"):
        pushed(plan, hub)
    assert on_hub(hub) == others
    done = pushed(plan, hub, replace=True)
    assert on_hub(hub) == model_files()
    assert done.deleted == ("exp/other/old.png", "exp/tiny/extra.pth")
    assert WEIGHTS in done.sent
    # The old one is still in the history.
    assert hub.state.repositories["ada/tiny"].commits[1].files[WEIGHTS].content == others[WEIGHTS]


def test_files_that_are_no_model_stay(plan, hub):
    hub.state.add_repository("ada/tiny", {"notes.txt": b"mine", "README.md": b"# empty\n"})
    pushed(plan, hub)
    assert on_hub(hub) == {**model_files(), "notes.txt": b"mine"}


def test_private_is_not_sent_to_a_public_repository(plan, hub):
    hub.state.add_repository("ada/tiny")
    with pytest.raises(HubError, match="expected a private repository, found a public one"):
        pushed(make_plan(plan.folder, "ada/tiny", True), hub)
    assert not on_hub(hub)


def test_a_card_that_the_hub_refuses_is_known_before_weights_are_sent(tmp_path, hub):
    card = "---\nlanguage:\n- Klingon\n---\n# Tiny\n"
    folder = write_folder(tmp_path / "model", model_files(card=card))
    with pytest.raises(HubError, match=r"README\.md.*language.*Klingon"):
        pushed(make_plan(folder, "ada/tiny", False), hub)
    assert not hub.state.sent(PUT)


def test_a_commit_of_somebody_else_in_between(plan, hub):
    hub.state.add_repository("ada/tiny")

    def others_commit(request, path):
        if "/preupload/" in path:
            hub.state.add_repository("ada/tiny", model_files(seed=1))
        type(hub).answer(hub, request, path)

    hub.answer = others_commit
    with pytest.raises(HubError, match=r"somebody else has changed it .*run again"):
        pushed(plan, hub)
    assert on_hub(hub) == model_files(seed=1)


@pytest.mark.parametrize("pattern", ["GET .*/ada/tiny$", "POST .*/preupload/", PUT, COMMIT])
@pytest.mark.parametrize("status", [403, 503])
def test_a_token_that_the_server_repeats_is_not_shown(plan, hub, pattern, status):
    hub.state.fail(pattern, status, times=-1, message=f"bad header: Bearer {TOKEN}")
    with pytest.raises(HubError) as caught:
        pushed(plan, hub)
    shown = "".join(traceback.format_exception(caught.value))
    assert "bad header" in shown
    assert TOKEN not in shown


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("README.md", None, "expected a model card, found none"),
        ("README.md", b"# no metadata\n", "expected a model card that begins with YAML"),
        ("README.md", b"---\n- a\n---\n", "expected a model card that begins with YAML"),
        ("README.md", b"---\n: [\n---\n", "expected a model card that begins with YAML"),
        ("meta.yaml", None, "meta.yaml: expected a packed model's description"),
        (WEIGHTS, None, f"expected {WEIGHTS} in"),
    ],
)
def test_folders_that_are_no_packed_model(tmp_path, name, content, expected):
    files = model_files()
    if content is None:
        del files[name]
    else:
        files[name] = content
    with pytest.raises(ModelError, match=expected):
        make_plan(write_folder(tmp_path, files), "ada/tiny", False)


def test_a_link_is_refused(plan):
    (plan.folder / "exp/passwd.txt").symlink_to("/etc/passwd")
    with pytest.raises(ModelError, match="found a link"):
        make_plan(plan.folder, "ada/tiny", False)


class TestCommand:
    @pytest.fixture
    def packed(self, tmp_path):
        return write_zip(tmp_path / "exp" / "tiny.zip", model_files())

    def test_dry_run_shows_all_and_sends_nothing(self, packed, hub, capsys):
        assert main(["--packed", str(packed), "--hf_repo", "ada/tiny", "--hf_private", "true"]) == 0
        shown = capsys.readouterr().out
        assert all(name in shown for name in model_files())
        assert "ada/tiny (private" in shown
        assert "nothing was sent" in shown
        assert not hub.state.requests
        url = "https://huggingface.co/ada/tiny"
        line = f"mini,objsoup,ada/tiny,{url},16000,multilingual,,2.14.1,202611,,true"
        assert line in shown
        table = packed.with_name("tiny.table.csv")
        assert table.read_text().splitlines()[1] == line
        assert sorted(p.name for p in packed.parent.iterdir()) == ["tiny.table.csv", "tiny.zip"]

    def test_dry_run_keeps_the_folder_where_asked(self, packed, hub, tmp_path):
        folder = tmp_path / "look"
        options = ["--packed", str(packed), "--hf_repo", "ada/tiny", "--folder", str(folder)]
        assert main(options) == 0
        found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        assert found == set(model_files())
        assert main(options) == 1  # it is not empty now

    def test_upload(self, packed, hub, capsys):
        options = ["--packed", str(packed), "--hf_repo", "ada/tiny", "--hf_upload", "true"]
        assert main(options) == 0
        shown = capsys.readouterr()
        assert f"{hub.url}/ada/tiny: new repository, 8 of 8 files sent; commit" in shown.out
        assert "warning" not in shown.err
        assert on_hub(hub) == model_files()
        assert main(options) == 0
        assert "0 of 8 files sent, the others were there" in capsys.readouterr().out

    def test_a_card_that_names_another_repository(self, packed, hub, capsys):
        assert main(["--packed", str(packed), "--hf_repo", "ada/other"]) == 0
        assert "warning: the model card names ada/tiny" in capsys.readouterr().err

    def test_a_model_that_does_not_say_its_corpus(self, tmp_path, hub, capsys):
        files = model_files()
        meta = yaml.safe_load(files["meta.yaml"])
        del meta["objsoup"]["recipe"]
        files["meta.yaml"] = yaml.safe_dump(meta).encode()
        path = write_zip(tmp_path / "tiny.zip", files)
        assert main(["--packed", str(path), "--hf_repo", "ada/tiny"]) == 0
        assert "pack with --corpus or --recipe" in capsys.readouterr().err

    def test_what_is_sent_over_other_files_is_said(self, packed, hub, capsys):
        hub.state.add_repository("ada/tiny", {"README.md": b"by hand", WEIGHTS: b"of another"})
        options = ["--packed", str(packed), "--hf_repo", "ada/tiny", "--hf_upload", "true"]
        assert main(options) == 1
        assert "found another model" in capsys.readouterr().err
        assert main([*options, "--hf_replace", "true"]) == 0
        assert "sent     README.md\n" in capsys.readouterr().out

    def test_malformed_name_is_a_usage_error(self, packed, capsys):
        with pytest.raises(SystemExit) as stopped:
            main(["--packed", str(packed), "--hf_repo", "tiny"])
        assert stopped.value.code == 2
        assert "expected user/name" in capsys.readouterr().err

    @pytest.mark.parametrize("content", [None, b"PK no zip", b""])
    def test_no_archive(self, tmp_path, hub, capsys, content):
        path = tmp_path / "no.zip"
        if content is not None:
            path.write_bytes(content)
        assert main(["--packed", str(path), "--hf_repo", "ada/tiny"]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert "no.zip" in error
        assert [p for p in tmp_path.iterdir() if p.name != "no.zip"] == []

    def test_a_hostile_archive_is_refused(self, tmp_path, hub, capsys):
        path = write_zip(tmp_path / "bad.zip", {**model_files(), "../evil": b"x"})
        assert main(["--packed", str(path), "--hf_repo", "ada/tiny", "--hf_upload", "true"]) == 1
        assert "'..'" in capsys.readouterr().err
        assert not hub.state.requests
