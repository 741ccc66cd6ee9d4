"""What a program gets over the API where something fails: a status by its kind, no secrets."""

from __future__ import annotations

import errno
from importlib import import_module
from pathlib import Path

import pytest
import torch
from started_webui import WebUI, request

from lib_layerdiffuse.errors import (
    ChecksumError,
    CodecError,
    DiskFullError,
    DownloadError,
    DownloadStoppedError,
    HostError,
    LayerDiffuseError,
    MissingCapabilityError,
    MissingLayerError,
    SettingsError,
    WeightsNotFoundError,
    without_secrets,
)
from lib_layerdiffuse.methods import find_method

FG = find_method("fg_attn_sd15")
SIGNED = "https://cdn.example.org/repos/ab/cd?X-Amz-Signature=5ec2e7&Expires=3600"


@pytest.fixture
def ui(webui, models, tmp_path):
    return WebUI(models, tmp_path / "outputs")


@pytest.fixture
def answers(ui):
    return import_module("lib_layerdiffuse.webui.job.answers")


def caused(error, cause):
    error.__cause__ = cause
    return error


FULL_DISK = OSError(errno.ENOSPC, "No space left on device", "/srv/webui/outputs/a.png")
FULL_MEMORY = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SettingsError("Wrong."), 422),
        (MissingLayerError("There is no image."), 422),
        (MissingCapabilityError("Not with the refiner."), 422),
        (DownloadStoppedError("The download was stopped."), 409),
        (DiskFullError("The disk is too full."), 507),
        (FULL_DISK, 507),
        (caused(SettingsError("a.psd could not be written."), FULL_DISK), 507),
        (FULL_MEMORY, 503),
        (MemoryError(), 503),
        (caused(CodecError("The memory is full."), FULL_MEMORY), 503),
        (DownloadError("No network."), 503),
        (WeightsNotFoundError("It is missing, and downloads are off."), 503),
        (ChecksumError("Other bytes."), 503),
        (HostError("An extension regroups the batch.", "Turn it off."), 422),
        (CodecError("It overflows.", "Choose another VAE."), 422),
        (caused(HostError("There is no room for the VAE."), FULL_MEMORY), 503),
        (OSError(errno.EACCES, "Permission denied"), 500),
        (ZeroDivisionError("division by zero"), 500),
    ],
    ids=lambda value: getattr(type(value), "__name__", str(value)),
)
def test_the_status_says_who_can_mend_it(answers, error, status):
    answer = answers.as_http(error)
    assert answer.status_code == status
    assert answer.detail.keys() == {"error", "message", "hint", "field"}
    assert answer.detail["error"] == type(error).__name__
    if status in (503, 507) and not isinstance(error, LayerDiffuseError):
        assert "full" in answer.detail["message"]
        assert answer.detail["hint"]


def test_a_job_is_answered_so(ui, monkeypatch):
    http_exception = import_module("fastapi").HTTPException

    def fail(*_):
        raise FULL_MEMORY

    monkeypatch.setattr(ui.script_module.passes, "inject", fail)
    with pytest.raises(http_exception) as caught:
        import_module("modules.api.api").answer(ui.job(FG, request(FG)))
    assert caught.value.status_code == 503
    assert "memory is full" in caught.value.detail["message"]


class TestNoPaths:
    @pytest.fixture(autouse=True)
    def _server(self, ui, answers, monkeypatch):
        for name, value in (("data_path", "/srv/my webui"), ("models_path", "/mnt/big one/models")):
            monkeypatch.setattr(answers.paths, name, value)
        ui.shared.opts.data["layerdiffuse_models_folders"] = "/mnt/own files/ld\n\n  /x/y/more "
        ui.shared.opts.data["outdir_samples"] = "/pictures/of all/days"
        ui.shared.cmd_opts.layerdiffuse_models_dir = "/flag/given here/w"
        monkeypatch.setattr(Path, "home", lambda: Path("/home/jo doe"))

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("/srv/my webui/outputs/a.png is there.", "outputs/a.png is there."),
            ("Nothing can be written to /srv/my webui.", "Nothing can be written to my webui."),
            (
                "Looked for in /mnt/big one/models/layer_model, /mnt/own files/ld, /x/y/more.",
                "Looked for in models/layer_model, ld, more.",
            ),
            ("Put it into /flag/given here/w.", "Put it into w."),
            ("In /pictures/of all/days/1.png", "In days/1.png"),
            ("In /home/jo doe/a.bin and /home/jo doe/x/b.bin", "In ~/a.bin and b.bin"),
            ("[Errno 2] No such file: '/usr/lib/python3/x.py'", "[Errno 2] No such file: 'x.py'"),
            (r"C:\Users\jo\webui\a.png is missing.", "a.png is missing."),
            (r"\\nas\share\models\a.png is missing.", "a.png is missing."),
            ("See https://example.org/a/b.png.", "See https://example.org/a/b.png."),
            ("SD1.5/SDXL and/or 1/2/3", "SD1.5/SDXL and/or 1/2/3"),
            ("outputs/a.png and ./b/c.png", "outputs/a.png and ./b/c.png"),
        ],
    )
    def test_in_a_text(self, answers, text, shown):
        assert answers.public(text) == shown

    @pytest.mark.parametrize("kind", [WeightsNotFoundError, KeyError])
    def test_in_an_error(self, answers, kind):
        detail = answers.as_http(kind("/srv/my webui/models/a.bin cannot be read.")).detail
        assert "/srv" not in f"{detail}"
        assert "models/a.bin cannot be read." in detail["message"]

    def test_in_notes_and_files(self, ui):
        ui.shared.opts.data["layerdiffuse_layer_files"] = ["zip"]
        result, _ = ui.generate(FG)
        told = result.extra_generation_params
        assert told["layerdiffusion_files"]
        assert str(ui.outputs.parent) not in f"{told}"


class TestNoSignatures:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            (f"From {SIGNED}: broken.", "From https://cdn.example.org/repos/ab/cd broken."),
            (
                "Max retries exceeded with url: /ab/cd?Signature=5ec2e7 (Caused by it)",
                "Max retries exceeded with url: /ab/cd (Caused by it)",
            ),
            (f"for url '{SIGNED}'", "for url 'https://cdn.example.org/repos/ab/cd'"),
            ("https://jo:5ec2e7@mirror.example.org/a", "https://mirror.example.org/a"),
            ("a ?b=c and jo@example.org", "a ?b=c and jo@example.org"),
        ],
    )
    def test_in_a_text(self, text, shown):
        assert without_secrets(text) == shown

    def test_in_any_error(self):
        error = DownloadError(f"From {SIGNED} no.", f"Fetch {SIGNED} by hand.")
        assert "5ec2e7" not in f"{error} {error.message} {error.hint} {error.args}"
