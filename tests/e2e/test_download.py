"""A weight file that is fetched while a real WebUI works: shown, stopped, gone on with."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

from client import ApiError, Client
from forge_server import ForgeServer
from hub_server import HubServer
from layers import generate
from random_weights import SD15
from server_process import link

from lib_layerdiffuse.methods import DECODERS, Arch

DECODER = DECODERS[Arch.SD15]
SMALL = {"width": 64, "height": 64, "steps": 1}


class Job(Thread):
    """A job that runs while the test watches it; its outcome is a result or an error."""

    def __init__(self, client: Client, record: Path) -> None:
        super().__init__(daemon=True)
        self.client, self.record = client, record
        self.outcome: Any = None

    def run(self) -> None:
        try:
            self.outcome = generate(self.client, "fg_attn_sd15", self.record, **SMALL)
        except ApiError as error:
            self.outcome = error

    def stop_at(self, share: int) -> dict[str, Any]:
        """Interrupts the job once so many percent are shown, and returns its error."""
        self.start()
        told: set[str] = set()
        while self.is_alive() and not any(_percent(text) >= share for text in told):
            told.add(self.client.progress().get("textinfo") or "")
            self.join(0.1)
        assert self.is_alive(), (told, self.outcome)
        self.client.interrupt()
        self.join()
        assert isinstance(self.outcome, ApiError)
        assert self.outcome.status == 409
        return self.outcome.body["detail"]


def _percent(text: str) -> int:
    found = re.fullmatch(rf"LayerDiffuse: downloading {DECODER.filename}, (\d+)%", text)
    return int(found[1]) if found else -1


def test_a_download_is_shown_and_stopped_and_goes_on(
    make_forge: Callable[..., ForgeServer], tmp_path: Path
) -> None:
    server = make_forge(
        tmp_path / "data",
        options={"sd_model_checkpoint": SD15, "layerdiffuse_decoder_views": 1},
        environment={"HF_HUB_OFFLINE": "0"},
    )
    place = server.data_dir / "models" / "layer_model" / DECODER.filename
    target = place.resolve()
    place.unlink()
    with HubServer({DECODER.filename: bytes(DECODER.size or 0)}, drip=(1 << 20, 0.2)) as hub:
        server.environment["HF_ENDPOINT"] = hub.url
        with server:
            client = Client(server.url)
            for share in (5, 20):
                detail = Job(client, tmp_path / str(share)).stop_at(share)
                assert detail["error"] == "DownloadStoppedError"
                assert DECODER.filename in detail["message"]
                assert detail["hint"]
                assert not place.exists()
            [_, again] = hub.gets
            start = int(again.headers["range"].removeprefix("bytes=").removesuffix("-"))
            assert start >= 0.05 * len(hub.files[DECODER.filename])
            link(target, place)
            assert (
                generate(client, "fg_attn_sd15", tmp_path / "run", **SMALL).images[0].shape[2] == 4
            )
