"""A small client of the WebUI's HTTP API."""

from __future__ import annotations

import base64
import io
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from model_cache import skip_without
from PIL import Image

DEFAULTS: dict[str, Any] = {
    "prompt": "a glass ball",
    "negative_prompt": "blurry",
    "width": 256,
    "height": 256,
    "steps": 2,
    "cfg_scale": 7,
    "sampler_name": "Euler",
    "scheduler": "Automatic",
    "seed": 1234,
}


class ApiError(Exception):
    """The server's answer was not a success.

    Attributes:
        status: HTTP status.
        body: Parsed JSON, or the text where it is none.
    """

    def __init__(self, status: int, body: Any) -> None:
        """Keeps the answer."""
        super().__init__(f"HTTP {status}: {body}")
        self.status, self.body = status, body


@dataclass(frozen=True)
class Result:
    """What a generation returned.

    Attributes:
        images: Images as uint8 arrays, H W 3 or H W 4, in the API's order.
        info: The host's summary of the job.
        seconds: How long the request took.
        record: Folder of the probe's record, where one was asked for.
    """

    images: list[np.ndarray]
    info: dict[str, Any]
    seconds: float
    record: Path | None = None

    @property
    def infotexts(self) -> list[str]:
        """The generation parameters of each image."""
        return self.info["infotexts"]

    @property
    def latents(self) -> np.ndarray:
        """The probe's latents of all batches, stacked in the order of the images."""
        return self._batches("latents")

    @property
    def pixels(self) -> np.ndarray:
        """The images of all batches as the VAE made them, b 3 H W in [0, 1]."""
        return self._batches("pixels")

    @property
    def first_latents(self) -> np.ndarray:
        """What the first passes of all batches returned."""
        return self._batches("first")

    @property
    def init_latents(self) -> np.ndarray:
        """What all batches began with in img2img, stacked in the order of the images."""
        return self._batches("init")

    @property
    def steps(self) -> dict[str, np.ndarray]:
        """The probe's record of the first batch's steps, where a mask was blended in."""
        assert self.record is not None, "no record was asked for"
        with np.load(self.record / "steps_0.npz") as steps:
            return dict(steps)

    def _batches(self, name: str) -> np.ndarray:
        assert self.record is not None, "no record was asked for"
        files = sorted(self.record.glob(f"{name}_*.npy"), key=lambda f: int(f.stem.split("_")[1]))
        return np.concatenate([np.load(file) for file in files])

    @property
    def run(self) -> dict[str, Any]:
        """The probe's summary: steps, calls, passes, checksum, overridden, hooks, rss."""
        assert self.record is not None, "no record was asked for"
        return json.loads((self.record / "run.json").read_text())


def encode_image(pixels: np.ndarray) -> str:
    """Encodes a uint8 image, H W 3 or H W 4, as a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def decode_image(text: str) -> np.ndarray:
    """Decodes a base64 image as the host sent it."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


class Client:
    """Talks to one server."""

    def __init__(self, url: str, timeout: float = 1800.0) -> None:
        """Keeps the address.

        Args:
            url: Address of the server.
            timeout: Longest wait for one answer, in seconds.
        """
        self.url, self.timeout = url, timeout

    def request(self, method: str, path: str, payload: Any = None) -> tuple[int, Any]:
        """Sends one request and returns status and parsed answer, whatever the status."""
        data = None if payload is None else json.dumps(payload).encode()
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                return answer.status, _parse(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _parse(error.read())

    def call(self, method: str, path: str, payload: Any = None) -> Any:
        """Sends one request and returns the parsed answer.

        Raises:
            ApiError: The status was not 200.
        """
        status, body = self.request(method, path, payload)
        if status != 200:
            raise ApiError(status, body)
        return body

    def txt2img(self, **options: Any) -> Result:
        """Generates from text, see `_generate` for the options."""
        return self._generate("/sdapi/v1/txt2img", **options)

    def img2img(self, images: list[np.ndarray | str], **options: Any) -> Result:
        """Generates from images, encoded or not; see `_generate` for the options."""
        encoded = [image if isinstance(image, str) else encode_image(image) for image in images]
        return self._generate("/sdapi/v1/img2img", init_images=encoded, **options)

    def _generate(
        self,
        path: str,
        *,
        checkpoint: str | None = None,
        scripts: dict[str, list[Any]] | None = None,
        record: Path | None = None,
        fail_at: int = -1,
        interrupt_at: int = -1,
        stop: str = "interrupt",
        upscale: np.ndarray | None = None,
        checksums: bool = True,
        **payload: Any,
    ) -> Result:
        """Runs one generation.

        Args:
            path: Route.
            checkpoint: Checkpoint file to switch to first (it stays).
            scripts: Arguments of always-on scripts, by lower-case title.
            record: Fresh folder for the probe's record.
            fail_at: Step at which the probe makes the UNet raise.
            interrupt_at: Step at which the probe asks for a stop.
            stop: Which: "interrupt", "skip", or "stop_generating" after this batch.
            upscale: Image to upscale, as the button below the gallery does.
            checksums: Whether the record tells the checksums of all weights.
            **payload: Fields of the request, over `DEFAULTS`.
        """
        others = ("hr_checkpoint_name", "refiner_checkpoint")
        skip_without(checkpoint, *(payload.get(name) for name in others))
        if checkpoint is not None:
            payload["override_settings"] = {
                "sd_model_checkpoint": checkpoint,
                **payload.get("override_settings", {}),
            }
            payload.setdefault("override_settings_restore_afterwards", False)
        picture = "" if upscale is None else encode_image(upscale)
        probe = ["" if record is None else str(record), fail_at, interrupt_at, picture, stop]
        probe.append(checksums)
        titles = {"e2e probe": probe, **(scripts or {})}
        payload["alwayson_scripts"] = {title: {"args": args} for title, args in titles.items()}
        self._write_options(payload)
        start = time.monotonic()
        answer = self.call("POST", path, DEFAULTS | payload)
        seconds = time.monotonic() - start
        images = [decode_image(text) for text in answer["images"]]
        return Result(images, json.loads(answer["info"]), seconds, record)

    def _write_options(self, payload: dict[str, Any]) -> None:
        """Writes the options that a request overrides into the host's settings file, as they are.

        At a job's end the host puts back only what is in there, and there it writes no option that
        is None.
        """
        names = payload.get("override_settings", {})
        if names and payload.get("override_settings_restore_afterwards", True):
            now = {name: value for name, value in self.options().items() if name in names}
            unset = [name for name, value in now.items() if value is None]
            assert not unset, f"the host would not put back {unset}; use set_options"
            self.set_options(**now)

    def options(self) -> dict[str, Any]:
        """Returns all settings."""
        return self.call("GET", "/sdapi/v1/options")

    def set_options(self, **options: Any) -> None:
        """Changes settings."""
        self.call("POST", "/sdapi/v1/options", options)

    def use_checkpoint(self, name: str) -> None:
        """Chooses the checkpoint of the jobs to come; it is loaded by the first of them.

        Skips the running test where that checkpoint's family is left out; so do requests.
        """
        skip_without(name)
        self.set_options(sd_model_checkpoint=name)

    def interrupt(self) -> None:
        """Asks the running job to stop."""
        self.call("POST", "/sdapi/v1/interrupt")

    def progress(self) -> dict[str, Any]:
        """Returns how far the running job is."""
        return self.call("GET", "/sdapi/v1/progress?skip_current_image=true")

    def script_args(self, title: str, img2img: bool = False, **values: Any) -> dict[str, Any]:
        """Returns the fields of a request that run a selectable script.

        Args:
            title: The script's, in lower case.
            img2img: Which tab's.
            **values: Its arguments by their labels, in lower case with _ between words; the rest
                are the script's defaults.

        Raises:
            LookupError: There is no such script.
        """
        infos = [i for i in self.script_info() if (i["name"], i["is_img2img"]) == (title, img2img)]
        names = [arg["label"].lower().replace(" ", "_") for arg in infos[0]["args"]]
        unknown = values.keys() - set(names)
        assert not unknown, f"{title} has {names}, not {unknown}"
        args = [values.get(n, a["value"]) for n, a in zip(names, infos[0]["args"], strict=True)]
        return {"script_name": title, "script_args": args}

    def panel(self, title: str, img2img: bool = False) -> dict[str, Any]:
        """Returns a panel's title and arguments.

        Args:
            title: How its title begins, in lower case; WebUIs differ in what stands behind. Of
                several, the shortest is meant.
            img2img: Which tab's.

        Raises:
            ValueError: There is no such panel.
        """
        infos = [i for i in self.script_info() if i["is_img2img"] is img2img]
        found = (info for info in infos if info["name"].startswith(title))
        return min(found, key=lambda info: len(info["name"]))

    def panel_args(
        self, title: str, *values: Any, img2img: bool = False, **named: Any
    ) -> dict[str, list[Any]]:
        """Returns the arguments of one of a tab's panels, for a request's `scripts`.

        Args:
            title: As in `panel`.
            *values: Its first arguments.
            img2img: Which tab's.
            **named: Others by their labels, as in `script_args`.
        """
        whole = self.panel(title, img2img)["name"]
        args = self.script_args(whole, img2img, **named)["script_args"]
        return {whole: [*values, *args[len(values) :]]}

    def script_info(self) -> list[dict[str, Any]]:
        """Returns every script's title and arguments."""
        return self.call("GET", "/sdapi/v1/script-info")

    def png_info(self, pixels_with_info: bytes) -> dict[str, Any]:
        """Returns the infotext of a PNG file and what the host parses from it."""
        encoded = "data:image/png;base64," + base64.b64encode(pixels_with_info).decode()
        return self.call("POST", "/sdapi/v1/png-info", {"image": encoded})

    def moments(self, pixels: np.ndarray) -> dict[str, Any]:
        """Returns mean and std of the loaded VAE's posterior of an image, and its factor.

        Args:
            pixels: H W 3, floats in [0, 1].
        """
        buffer = io.BytesIO()
        np.save(buffer, pixels.astype(np.float32))
        body = {"pixels": base64.b64encode(buffer.getvalue()).decode()}
        found = self.call("POST", "/e2e/moments", body)
        return {name: np.asarray(value, np.float32) for name, value in found.items()}

    def round_as_merged(self, on: bool) -> None:
        """Lets weights that are computed with beside the UNet's round as if merged, or not."""
        self.call("POST", "/e2e/rounding", {"on": on})

    def model(self) -> dict[str, Any]:
        """Returns the probe's description of the loaded model."""
        return self.call("GET", "/e2e/model")


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
