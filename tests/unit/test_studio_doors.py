"""The studio where other computers reach it: a password, and only checkpoints that it offers."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import pytest

from lib_layerdiffuse.cli import main
from lib_layerdiffuse.errors import SettingsError
from lib_layerdiffuse.standalone.models import ModelChoice, Models
from lib_layerdiffuse.studio import studio_page
from lib_layerdiffuse.studio.access import VARIABLE, is_local, login
from lib_layerdiffuse.studio.checkpoint_field import checkpoint_field
from lib_layerdiffuse.studio.checkpoints import TINY, Checkpoints
from lib_layerdiffuse.studio.studio_page import Page
from lib_layerdiffuse.studio.workbench import Fields, Workbench


@pytest.fixture(autouse=True)
def _no_login(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")


@pytest.fixture
def served(monkeypatch, tmp_path):
    """What the page is served with, and what does its work."""
    told = {}

    def serve(bench, **options):
        told.update(options, bench=bench)

    monkeypatch.setattr(studio_page, "serve", serve)
    monkeypatch.chdir(tmp_path)
    return told


@pytest.fixture
def folder(tmp_path):
    """Checkpoints as people keep them, and what is none."""
    for name in ("b.safetensors", "sub/A.SAFETENSORS", "c.ckpt", "notes.txt"):
        path = tmp_path / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    parts = tmp_path / "models" / "sub" / "folder" / "unet"
    parts.mkdir(parents=True)
    (parts / "model.safetensors").write_bytes(b"")
    (parts.parent / "model_index.json").write_text("{}")
    return tmp_path / "models"


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("my-pc", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_which_addresses_are_this_computer_alone(address, local):
    assert is_local(address) is local
    if not local:
        with pytest.raises(SettingsError, match="without a password"):
            login(address, None)
        assert login(address, "me:a:b") == ("me", "a:b")


@pytest.mark.parametrize("text", ["me", "me:", ":secret", ":"])
def test_half_a_login_is_refused(monkeypatch, text):
    with pytest.raises(SettingsError, match="needs a user and a password") as caught:
        login("127.0.0.1", text)
    assert "secret" not in str(caught.value)
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(SettingsError):
        login("0.0.0.0", None)


def test_the_command_refuses_to_start_without_a_password(served, capsys):
    assert main(["studio", "--address", "0.0.0.0"]) == 2
    assert "without a password" in capsys.readouterr().err
    assert served == {}


def test_with_one_it_starts(served, monkeypatch):
    monkeypatch.setenv(VARIABLE, "me:secret")
    assert main(["studio", "--address", "0.0.0.0"]) == 0
    assert served["login"] == ("me", "secret")
    assert main(["studio", "--address", "0.0.0.0", "--auth", "you:other"]) == 0
    assert served["login"] == ("you", "other")
    assert main(["studio"]) == 0
    assert served["login"] == ("me", "secret")


AWAY = ["--address", "0.0.0.0", "--auth", "me:secret"]


@pytest.mark.parametrize(
    ("given", "names", "first"),
    [
        (["--checkpoint", "x.safetensors"], None, "x.safetensors"),
        (AWAY, [""], ""),
        ([*AWAY, "--checkpoint", "x.safetensors"], ["", "x.safetensors"], "x.safetensors"),
        (
            [*AWAY, "--checkpoints", "models"],
            ["", "b.safetensors", "sub/A.SAFETENSORS", "sub/folder"],
            "",
        ),
        (["--checkpoints", "models/sub"], ["", "A.SAFETENSORS", "folder"], ""),
    ],
)
def test_what_the_command_offers(served, folder, given, names, first):
    assert main(["studio", *given]) == 0
    checkpoints = served["bench"].checkpoints
    assert (checkpoints.offered and list(checkpoints.offered)) == names
    with gr.Blocks():
        field = checkpoint_field(checkpoints)
    assert field.value == first
    assert getattr(field, "choices", None) == (names and [(name or TINY, name) for name in names])


def test_a_folder_that_is_not_there(served, capsys):
    assert main(["studio", "--checkpoints", "gone"]) == 2
    assert "There is no folder gone" in capsys.readouterr().err


class TestOffered:
    @pytest.fixture
    def checkpoints(self, folder):
        return Checkpoints(folder / "b.safetensors", folder)

    def test_their_paths(self, checkpoints, folder):
        assert checkpoints.first == "b.safetensors"
        assert checkpoints.path("b.safetensors") == folder / "b.safetensors"
        assert checkpoints.path("sub/folder") == folder / "sub" / "folder"
        assert checkpoints.path("") is None

    @pytest.mark.parametrize(
        "text",
        ["/etc/passwd", "../b.safetensors", "sub/../b.safetensors", "c.ckpt", "~", "//nas/a/b"],
    )
    def test_nothing_else_is_touched(self, checkpoints, tmp_path, monkeypatch, text):
        for name in ("stat", "is_file", "exists", "open", "expanduser", "resolve"):
            monkeypatch.setattr(Path, name, lambda path, *_: pytest.fail(f"{path} was touched"))
        assert checkpoints.arch(text) is None
        with pytest.raises(SettingsError, match="There is no checkpoint called"):
            checkpoints.path(text)

    def test_a_job_takes_no_other(self, checkpoints, tmp_path):
        models = Models(lambda: pytest.fail("loaded"))
        bench = Workbench(models, ModelChoice(), tmp_path / "out", checkpoints)
        page = Page(bench)
        values = [component.value for component in page.panel.components]
        with pytest.raises(SettingsError, match="There is no checkpoint called"):
            bench.generate(Fields(checkpoint="/etc/passwd"), values, lambda *_: True)

    def test_any_path_may_be_typed_where_none_are_offered(self, tmp_path):
        free = Checkpoints(tmp_path)
        assert free.offered is None
        assert free.first == str(tmp_path)
        assert free.path(' "/a/b c" ') == Path("/a/b c")
        assert free.path("~/a") == Path.home() / "a"


def test_the_page_asks_for_the_password(tmp_path):
    from urllib.error import HTTPError
    from urllib.parse import urlencode
    from urllib.request import HTTPCookieProcessor, build_opener

    bench = Workbench(Models(lambda: pytest.fail("loaded")), ModelChoice(), tmp_path / "out")
    blocks = Page(bench).blocks.queue()
    blocks.launch(
        prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", auth=("me", "secret")
    )
    try:
        visitor, config = build_opener(HTTPCookieProcessor()), f"{blocks.local_url}config"
        with pytest.raises(HTTPError, match="401"):
            visitor.open(config)
        guess = urlencode({"username": "me", "password": "guess"}).encode()
        with pytest.raises(HTTPError, match="400"):
            visitor.open(f"{blocks.local_url}login", guess)
        login = urlencode({"username": "me", "password": "secret"}).encode()
        visitor.open(f"{blocks.local_url}login", login).close()
        with visitor.open(config) as answer:
            assert answer.status == 200
    finally:
        blocks.close()
