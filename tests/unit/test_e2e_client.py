"""The end-to-end tests' client: what a request overrides ends with its job."""

from __future__ import annotations

from typing import Any

import client
import pytest

DEFAULTS = {"token_merging_ratio": 0.0, "upscaler": None, "sd_model_checkpoint": "a"}


class Host:
    """Stands for a server: it puts back only the options that are in its settings file."""

    def __init__(self) -> None:
        self.file: dict[str, Any] = {}
        self.overridden: list[dict[str, Any]] = []

    def options(self) -> dict[str, Any]:
        return DEFAULTS | self.file

    def call(self, method: str, path: str, payload: Any = None) -> Any:
        if path == "/sdapi/v1/options":
            return self.options() if method == "GET" else self._write(payload)
        overrides = payload.get("override_settings", {})
        before = {name: self.file[name] for name in overrides if name in self.file}
        self._write(overrides)
        self.overridden.append(self.options())
        if payload.get("override_settings_restore_afterwards", True):
            self.file |= before
        return {"images": [], "info": "{}"}

    def _write(self, options: dict[str, Any]) -> None:
        self.file |= {k: v for k, v in options.items() if self.file.get(k) != v}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host()
    monkeypatch.setattr(client.Client, "call", lambda _, *args: host.call(*args))
    return host


def test_an_override_ends_with_its_job(host: Host) -> None:
    client.Client("").txt2img(override_settings={"token_merging_ratio": 0.5})
    assert host.overridden[0]["token_merging_ratio"] == 0.5
    assert host.options() == DEFAULTS


def test_an_override_that_is_to_stay_stays(host: Host) -> None:
    options = {"token_merging_ratio": 0.5}
    client.Client("").txt2img(override_settings=options, override_settings_restore_afterwards=False)
    assert host.options() == DEFAULTS | options


def test_an_option_that_the_host_could_not_put_back_is_refused(host: Host) -> None:
    with pytest.raises(AssertionError, match="upscaler"):
        client.Client("").txt2img(override_settings={"upscaler": "Lanczos"})
    assert host.overridden == []
