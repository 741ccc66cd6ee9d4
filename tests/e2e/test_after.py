"""What happens to an image after sampling: colour follows, alpha stays, nothing re-enters us."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client import Client, Result, decode_image, encode_image
from flow_jobs import HIRES, run
from forge_server import ForgeServer
from layers import assert_decoded, assert_same, generate, mode_of
from pictures import glass_ball, lake_scene
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from random_weights import SD15

from lib_layerdiffuse.imaging.colours import fill_hidden, follow_edit
from lib_layerdiffuse.imaging.images import ResizeMode, fit, from_u8, to_u8
from lib_layerdiffuse.methods import Arch, find_method

Plain = Callable[..., Result]
SMALL = {"width": 64, "height": 64, "steps": 1}
FG, JOINT = "fg_attn_sd15", "joint_sd15"
PART = (slice(8, 32), slice(8, 40))  # What the probe edits.

pytestmark = pytest.mark.usefixtures("one_view")


@pytest.fixture(autouse=True)
def checkpoint(client: Client) -> None:
    """Chooses the checkpoint."""
    client.use_checkpoint(SD15)


def before_of(result: Result, row: int) -> np.ndarray:
    """Returns a row's RGB image as the host first made it."""
    return (255.0 * np.moveaxis(result.pixels[row], 0, 2)).astype(np.uint8)


def followed(plain: Result, row: int, after: np.ndarray) -> np.ndarray:
    """Returns what an edit makes of a row's transparent image, computed here."""
    edit = from_u8(before_of(plain, row)), from_u8(after)
    return to_u8(follow_edit(from_u8(plain.images[row]), *edit))


class TestEdits:
    def run(self, client: Client, method_id: str, folder: Path, **options: Any) -> Result:
        return generate(client, method_id, folder, **SMALL, **options)

    @pytest.mark.parametrize("method_id", [FG, JOINT])
    def test_face_restoration(self, client: Client, tmp_path: Path, method_id: str) -> None:
        plain = self.run(client, method_id, tmp_path / "plain")
        options = {"restore_faces": True, "override_settings": {"face_restoration_model": "E2E"}}
        made = self.run(client, method_id, tmp_path / "made", **options)
        before = before_of(plain, 0)
        after = np.concatenate([255 - before[:32], before[32:]])
        np.testing.assert_array_equal(made.images[0], followed(plain, 0, after))
        np.testing.assert_array_equal(made.images[0][..., 3], plain.images[0][..., 3])
        assert (made.images[0] != plain.images[0]).any()
        for row in range(1, len(plain.images)):
            wanted = np.concatenate([255 - plain.images[row][:32], plain.images[row][32:]])
            np.testing.assert_array_equal(made.images[row], wanted)

    def test_a_repainted_part(self, client: Client, tmp_path: Path) -> None:
        plain = self.run(client, FG, tmp_path / "plain")
        made = self.run(client, FG, tmp_path / "made", scripts={"e2e edits": ["repaint"]})
        after = before_of(plain, 0)
        after[PART] = (250, 20, 120)
        np.testing.assert_array_equal(made.images[0], followed(plain, 0, after))
        np.testing.assert_array_equal(made.images[0][..., 3], plain.images[0][..., 3])

    def test_a_repainted_part_of_hires_fix(self, client: Client, tmp_path: Path) -> None:
        plain = self.run(client, FG, tmp_path / "plain", **HIRES)
        edits = {"e2e edits": ["repaint"]}
        made = self.run(client, FG, tmp_path / "made", scripts=edits, **HIRES)
        after = before_of(plain, 0)
        assert after.shape == (128, 128, 3)
        after[PART] = (250, 20, 120)
        np.testing.assert_array_equal(made.images[0], followed(plain, 0, after))

    def test_a_job_inside_an_inpaint_job(self, client: Client, tmp_path: Path) -> None:
        edits = {"e2e edits": ["nested", str(tmp_path / "nested")]}
        alone, made = (
            run(client, "inpaint", FG, tmp_path, record=tmp_path / name, scripts=scripts)
            for name, scripts in (("alone", {}), ("made", edits))
        )
        np.testing.assert_array_equal(made.latents, alone.latents)
        assert mode_of(tmp_path / "nested" / "0.png") == "RGB", "it made layers"
        around = np.ones((64, 64), bool)
        around[8:40, 8:40] = False
        np.testing.assert_array_equal(made.images[0][around], glass_ball(64)[around])
        np.testing.assert_array_equal(made.images[0][..., 3], alone.images[0][..., 3])
        assert (made.images[0][16:24, 16:24] != alone.images[0][16:24, 16:24]).any()

    def test_another_size(self, client: Client, tmp_path: Path) -> None:
        plain = self.run(client, JOINT, tmp_path / "plain")
        made = self.run(client, JOINT, tmp_path / "made", scripts={"e2e edits": ["grow"]})
        assert [i.shape for i in made.images] == [(96, 96, c) for c in (4, 3, 3)]
        grown = fit(from_u8(plain.images[0]), 96, 96, ResizeMode.STRETCH)
        np.testing.assert_array_equal(made.images[0][..., 3], to_u8(grown[..., 3]))

    @pytest.mark.parametrize("method_id", [FG, JOINT])
    def test_a_job_inside_the_job(
        self, client: Client, plain: Plain, tmp_path: Path, method_id: str
    ) -> None:
        method = find_method(method_id)
        before = plain(SD15, **SMALL)
        alone = self.run(client, method_id, tmp_path / "alone", n_iter=2)
        edits = {"e2e edits": ["nested", str(tmp_path / "nested")]}
        made = self.run(client, method_id, tmp_path / "made", n_iter=2, scripts=edits)
        np.testing.assert_array_equal(made.latents, alone.latents)
        assert len(made.images) == 2 * method.frames
        for row, image in enumerate(made.images):
            nested = Image.open(tmp_path / "nested" / f"{row}.png")
            assert nested.mode == "RGB", "the nested job made layers"
            after = before_of(alone, row)
            after[PART] = np.asarray(nested)[PART]
            fg = row % method.frames == 0
            np.testing.assert_array_equal(image, followed(alone, row, after) if fg else after)
        assert made.info["extra_generation_params"]["layerdiffusion_layers"][0] == "fg"
        assert_same(before, client.txt2img(record=tmp_path / "after", **SMALL))

    def test_colour_correction(self, client: Client, tmp_path: Path) -> None:
        scripts = {"layerdiffuse": [{"method": FG}]}
        options = {"scripts": scripts, "denoising_strength": 0.75, **SMALL}
        plain = client.img2img([lake_scene(64)], record=tmp_path / "plain", **options)
        client.set_options(img2img_color_correction=True)
        try:
            made = client.img2img([lake_scene(64)], record=tmp_path / "made", **options)
        finally:
            client.set_options(img2img_color_correction=False)
        assert_decoded(plain.images[0], plain, 0, Arch.SD15)
        np.testing.assert_array_equal(made.images[0][..., 3], plain.images[0][..., 3])
        changed = np.abs(made.images[0][..., :3].astype(int) - plain.images[0][..., :3])
        assert changed.mean() > 1


def grown(image: np.ndarray, upscaler: str, size: int) -> np.ndarray:
    """Returns what an upscaler makes of an image without alpha."""
    kind = {"Lanczos": Image.LANCZOS, "E2E": Image.BICUBIC}[upscaler]
    return np.asarray(Image.fromarray(image).resize((size, size), kind))


def assert_apart(got: np.ndarray, given: np.ndarray, upscaler: str, size: int) -> None:
    """Checks that colour and alpha were upscaled apart."""
    assert got.shape == (size, size, 4)
    colours = to_u8(fill_hidden(from_u8(given))[..., :3])
    np.testing.assert_array_equal(got[..., :3], grown(colours, upscaler, size))
    alpha = grown(given[..., 3], upscaler, size).astype(int)
    assert np.abs(got[..., 3] - alpha).max() <= 2
    assert (got[..., 3] == 0).sum() >= (alpha == 0).sum()


class TestExtras:
    def post(self, client: Client, route: str, **body: Any) -> Any:
        body = {"upscaling_resize": 2, "upscaler_1": "Lanczos"} | body
        return client.call("POST", f"/sdapi/v1/extra-{route}", body)

    def single(self, client: Client, picture: np.ndarray, **body: Any) -> np.ndarray:
        return decode_image(
            self.post(client, "single-image", image=encode_image(picture), **body)["image"]
        )

    @pytest.mark.parametrize("upscaler", ["Lanczos", "E2E"])
    def test_single(self, client: Client, upscaler: str) -> None:
        ball = glass_ball(96)
        got = self.single(client, ball, upscaler_1=upscaler)
        assert_apart(got, ball, upscaler, 192)

    def test_two_upscalers_and_a_size_cropped_to(self, client: Client) -> None:
        ball = glass_ball(96)
        got = self.single(
            client,
            ball,
            resize_mode=1,
            upscaling_resize_w=192,
            upscaling_resize_h=128,
            upscaler_2="E2E",
            extras_upscaler_2_visibility=0.5,
        )
        assert got.shape == (128, 192, 4)
        alphas = [grown(ball[..., 3], kind, 192).astype(int) for kind in ("Lanczos", "E2E")]
        wanted = sum(alphas)[32:160] / 2
        assert np.abs(got[..., 3] - wanted).max() <= 3

    def test_pictures_without_transparency_are_the_hosts(self, client: Client) -> None:
        lake = lake_scene(96)
        np.testing.assert_array_equal(self.single(client, lake), grown(lake, "Lanczos", 192))

    def test_batch(self, client: Client) -> None:
        ball, lake = glass_ball(96), lake_scene(96)
        files = [{"data": encode_image(i), "name": f"{k}.png"} for k, i in enumerate((ball, lake))]
        answer = self.post(client, "batch-images", imageList=files, upscaler_1="E2E")
        first, second = map(decode_image, answer["images"])
        assert_apart(first, ball, "E2E", 192)
        np.testing.assert_array_equal(second, grown(lake, "E2E", 192))

    def test_the_api_says_what_its_format_cannot_carry(self, client: Client) -> None:
        client.set_options(samples_format="jpg")
        try:
            status, body = client.request(
                "POST",
                "/sdapi/v1/extra-single-image",
                {"image": encode_image(glass_ball(64)), "upscaler_1": "Lanczos"},
            )
            assert status == 422
            assert "without its transparency" in body["detail"]["message"]
            lake = {"image": encode_image(lake_scene(64)), "upscaler_1": "Lanczos"}
            assert client.request("POST", "/sdapi/v1/extra-single-image", lake)[0] == 200
        finally:
            client.set_options(samples_format="png")

    def test_a_folder_of_our_own_pictures(
        self, forge: ForgeServer, client: Client, tmp_path: Path
    ) -> None:
        """The infotext in a file makes the host hide it in alpha, which would erase it."""
        source, results = forge.data_dir / "in", forge.data_dir / "out"
        for folder in (source, results):
            folder.mkdir(exist_ok=True)
        made = generate(client, FG, tmp_path / "run", **SMALL)
        text = PngInfo()
        text.add_text("parameters", made.infotexts[0])
        Image.fromarray(made.images[0]).save(source / "made.png", pnginfo=text)
        body = {"extras_upscaler_1": "E2E", "upscaling_resize": 2}
        folders = {"input_dir": str(source), "output_dir": str(results)}
        assert client.options()["stealth_pnginfo_option"] == "Alpha"
        told = client.call("POST", "/e2e/extras", body | folders)
        assert told == {"modes": ["RGBA"]}
        [saved] = results.glob("*.png")
        with Image.open(saved) as image:
            assert_apart(np.asarray(image), made.images[0], "E2E", 128)
            assert "Keep transparency" in image.info["postprocessing"]
            assert image.info["parameters"] == made.infotexts[0]
