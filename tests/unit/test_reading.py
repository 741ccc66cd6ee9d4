"""The one reader of images: every kind of file that is let in, and what is said of the others."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from image_files import (
    GREY_ALPHA_PNG,
    GREY_PNG,
    NO_ALPHA,
    PREMULTIPLIED,
    RGB_PNG,
    RGBA_PNG,
    STRAIGHT,
    chunk,
    encoded,
    noise,
    png,
    tiff,
)
from PIL import Image

from lib_layerdiffuse.errors import SettingsError
from lib_layerdiffuse.imaging import reading
from lib_layerdiffuse.imaging.formats import formats
from lib_layerdiffuse.imaging.images import from_u8, to_u8
from lib_layerdiffuse.imaging.png import png_bytes
from lib_layerdiffuse.imaging.reading import read_image

DATA = Path(__file__).parents[1] / "data"
AVIF = ".avif" in Image.registered_extensions()
LOSSLESS = {"WEBP": {"lossless": True, "exact": True}}


def opaque(rgb: np.ndarray) -> np.ndarray:
    return np.dstack([rgb, np.ones(rgb.shape[:2], np.float32)])


class TestKindsOfFiles:
    @given(
        npst.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(3, 4)))
    )
    def test_a_png_of_ours_comes_back_bit_for_bit(self, pixels):
        read = read_image(png_bytes(pixels))
        assert (read.dtype, read.flags.c_contiguous) == (np.float32, True)
        assert np.array_equal(to_u8(read)[..., : pixels.shape[2]], pixels)
        assert pixels.shape[2] == 4 or (read[..., 3] == 1).all()

    def test_a_file_its_bytes_and_what_pillow_opened_are_one(self, tmp_path):
        data = png_bytes(noise(5, 7, 4))
        path = tmp_path / "a.png"
        path.write_bytes(data)
        wanted = from_u8(noise(5, 7, 4))
        for source in (path, data, Image.open(path), Image.open(path).copy()):
            assert np.array_equal(read_image(source), wanted)

    @pytest.mark.parametrize("kind", ["WEBP", "TIFF", "BMP"])
    def test_colours_of_lossless_kinds(self, kind):
        pixels = noise(6, 8, 3)
        data = encoded(Image.fromarray(pixels), kind, **LOSSLESS.get(kind, {}))
        assert np.array_equal(read_image(data), opaque(from_u8(pixels)))

    @pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "GIF"])
    def test_colours_of_the_others(self, kind):
        if kind == "AVIF" and not AVIF:
            pytest.skip("This Pillow has no AVIF.")
        ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8)[:, None, None], (1, 64, 3))
        read = read_image(encoded(Image.fromarray(ramp), kind))
        assert np.abs(read - opaque(from_u8(ramp))).mean() < 0.02

    @pytest.mark.parametrize("kind", ["WEBP", "TIFF", "GIF"])
    def test_alpha_of_other_kinds(self, kind):
        pixels = noise(6, 8, 4)
        pixels[..., 3] = np.where(pixels[..., 3] > 127, 255, 0)
        data = encoded(Image.fromarray(pixels), kind, **LOSSLESS.get(kind, {}))
        assert np.array_equal(read_image(data)[..., 3], pixels[..., 3] / np.float32(255))

    def test_the_first_of_several(self, tmp_path):
        frames = [Image.new("RGBA", (4, 4), (value, 9, 9, 128)) for value in (10, 200)]
        for kind in ("PNG", "WEBP", "TIFF"):
            options = {"save_all": True, "append_images": frames[1:]} | LOSSLESS.get(kind, {})
            data = encoded(frames[0], kind, **options)
            assert to_u8(read_image(data))[0, 0].tolist() == [10, 9, 9, 128], kind

    def test_a_camera_that_puts_two_images_in_one_jpeg(self):
        frames = [Image.new("RGB", (16, 16), (value,) * 3) for value in (10, 200)]
        data = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
        assert np.abs(read_image(data)[..., :3] - 10 / 255).max() < 0.02

    def test_printing_colours(self):
        rgb = np.dstack([np.full((16, 16), value, np.uint8) for value in (200, 100, 50)])
        data = encoded(Image.fromarray(rgb).convert("CMYK"), "JPEG", quality=100)
        assert np.abs(read_image(data) - opaque(from_u8(rgb))).max() < 0.02

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "PA", "RGBa", "RGBX", "YCbCr"])
    def test_modes_of_pillow(self, mode):
        pixels = np.zeros((4, 4, 4), np.uint8)
        pixels[:2] = (255, 255, 255, 255)
        between = {"La": "LA", "PA": "P", "1": "L"}.get(mode)
        image = Image.fromarray(pixels)
        image = image.convert(between).convert(mode) if between else image.convert(mode)
        read = read_image(image)
        assert np.array_equal(read[:2], np.ones((2, 4, 4)))
        assert np.array_equal(read[2:, :, 3], np.full((2, 4), mode in ("1", "L", "RGBX", "YCbCr")))


class TestOrientation:
    UPRIGHT = np.kron(noise(2, 3, 3), np.ones((16, 16, 1), np.uint8))
    # What is done to the upright one so that the turn of that number brings it back.
    LYING = (
        lambda a: a,
        lambda a: a[:, ::-1],
        lambda a: a[::-1, ::-1],
        lambda a: a[::-1],
        lambda a: a.swapaxes(0, 1),
        np.rot90,
        lambda a: a[::-1, ::-1].swapaxes(0, 1),
        lambda a: np.rot90(a, -1),
    )

    @pytest.mark.parametrize("number", range(1, 9))
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "packed TIFF", "AVIF"])
    def test_every_kind_is_turned_upright(self, kind, number):
        if kind == "AVIF" and not AVIF:
            pytest.skip("This Pillow has no AVIF.")
        exif = Image.Exif()
        exif[0x112] = number
        lying = Image.fromarray(np.ascontiguousarray(self.LYING[number - 1](self.UPRIGHT)))
        options = LOSSLESS | {"packed TIFF": {"compression": "tiff_deflate"}}
        options = options.get(kind, {}) | ({"quality": 100} if kind in ("JPEG", "AVIF") else {})
        read = read_image(encoded(lying, kind.split()[-1], exif=exif, **options))
        assert read.shape == (32, 48, 4)
        assert np.abs(read - opaque(from_u8(self.UPRIGHT))).mean() < 0.03

    def test_a_photo_that_lies(self):
        assert read_image(DATA / "exif6.jpg").shape == (32, 16, 4)

    def test_16_bits_are_turned_too(self):
        exif = Image.Exif()
        exif[0x112] = 6
        deep = noise(4, 6, 3, dtype=np.uint16)
        data = png(np.rot90(deep), RGB_PNG, 16)
        data = data[:33] + chunk(b"eXIf", exif.tobytes()[6:]) + data[33:]
        wanted = opaque(deep.astype(np.float32) / np.float32(65535))
        assert np.array_equal(read_image(data), wanted)

    def test_a_broken_note_does_not_matter(self):
        data = png(noise(4, 6, 3), RGB_PNG, 8)
        data = data[:33] + chunk(b"eXIf", b"II*\0\xff\xff\xff\xff broken") + data[33:]
        assert np.array_equal(read_image(data), opaque(from_u8(noise(4, 6, 3))))


class TestTransparency:
    def test_a_grey_file_with_a_clear_grey(self):
        path = DATA / "grey8_trns_16x16.png"
        with Image.open(path) as opened:
            grey, clear = np.asarray(opened), opened.info["transparency"]
        read = read_image(path)
        assert 0 < (grey == clear).sum() < grey.size
        assert np.array_equal(read[..., 3], grey != clear)
        assert np.array_equal(to_u8(read)[..., 0], grey)

    @pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
    @pytest.mark.parametrize("clear", [0, 1])
    def test_a_clear_grey_of_every_depth(self, bits, clear):
        numbers = np.arange(32).reshape(4, 8) % 2**bits
        numbers[3] *= (2**bits - 1) // numbers[3].max()
        read = read_image(png(numbers, GREY_PNG, bits, clear=struct.pack(">H", clear)))
        assert np.array_equal(read[..., 3], numbers != clear)
        np.testing.assert_allclose(read[..., 0], numbers / (2**bits - 1), atol=1e-6)

    @pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
    @pytest.mark.parametrize("clear", [0, 1, 3])
    def test_also_where_another_program_has_decoded_it(self, bits, clear):
        """The WebUI has: then nothing is left that says of how many bits the clear grey was."""
        clear = min(clear, 2**bits - 1)
        numbers = np.arange(64).reshape(8, 8) % 2**bits
        data = png(numbers, GREY_PNG, bits, clear=struct.pack(">H", clear))
        decoded = Image.open(io.BytesIO(data)).copy()
        read = read_image(decoded)
        assert np.array_equal(read[..., 3], numbers != clear)

    @pytest.mark.parametrize("bits", [8, 16])
    def test_a_clear_colour(self, bits):
        numbers = noise(4, 5, 3, dtype=np.uint8 if bits == 8 else np.uint16)
        numbers[0, 1] = numbers[2, 3]
        numbers[1, 1] = numbers[2, 3] ^ [0, 0, 1]  # Nearly that colour.
        clear = struct.pack(">HHH", *numbers[2, 3].tolist())
        read = read_image(png(numbers, RGB_PNG, bits, clear=clear))
        wanted = np.ones((4, 5))
        wanted[0, 1] = wanted[2, 3] = 0
        assert np.array_equal(read[..., 3], wanted)
        assert np.array_equal(read[..., :3], numbers / np.float32(2**bits - 1))

    @pytest.mark.parametrize("alphas", [3, bytes(range(0, 160, 10))])
    def test_a_palette(self, alphas):
        image = Image.fromarray(np.tile(np.arange(16, dtype=np.uint8), (2, 1)), mode="P")
        image.putpalette(noise(16 * 3).tobytes())
        read = to_u8(read_image(encoded(image, transparency=alphas)))
        wanted = [*range(0, 160, 10)] if alphas != 3 else [255] * 3 + [0] + [255] * 12
        assert read[1, :, 3].tolist() == wanted
        assert np.array_equal(read[0, :, :3], noise(16 * 3).reshape(16, 3))

    def test_colours_under_alpha_0_are_kept(self):
        pixels = noise(4, 4, 4)
        pixels[..., 3] = 0
        assert np.array_equal(to_u8(read_image(png_bytes(pixels))), pixels)


class TestDepth:
    @pytest.mark.parametrize(
        ("colour", "shape"),
        [
            (GREY_PNG, (4, 6)),
            (RGB_PNG, (4, 6, 3)),
            (GREY_ALPHA_PNG, (4, 6, 2)),
            (RGBA_PNG, (4, 6, 4)),
        ],
    )
    def test_a_png_of_16_bits_keeps_every_digit(self, colour, shape):
        numbers = noise(*shape, dtype=np.uint16)
        channels = numbers.reshape(4, 6, -1)
        places = {1: [0, 0, 0], 2: [0, 0, 0, 1], 3: [0, 1, 2], 4: [0, 1, 2, 3]}
        wanted = channels[..., places[channels.shape[2]]].astype(np.float32) / np.float32(65535)
        wanted = wanted if wanted.shape[2] == 4 else opaque(wanted)
        assert np.array_equal(read_image(png(numbers, colour, 16)), wanted)

    @pytest.mark.parametrize("packed", [False, True])
    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_a_tiff_of_16_bits_keeps_every_digit(self, channels, order, packed):
        numbers = noise(4, 6, channels, dtype=np.uint16)
        data = tiff(numbers, STRAIGHT if channels == 4 else None, order=order, packed=packed)
        wanted = numbers.astype(np.float32) / np.float32(65535)
        wanted = wanted if channels == 4 else opaque(np.broadcast_to(wanted, (4, 6, 3)))
        assert np.array_equal(read_image(data), wanted)

    def test_grey_of_16_bits_from_pillow(self):
        numbers = noise(4, 6, dtype=np.uint16)
        read = read_image(Image.open(io.BytesIO(png(numbers, GREY_PNG, 16))))
        assert np.array_equal(read[..., 2], numbers.astype(np.float32) / np.float32(65535))

    @pytest.mark.parametrize("dtype", [np.float32, np.int32])
    def test_numbers_without_a_white_are_refused(self, dtype):
        image = Image.fromarray(noise(4, 6).astype(dtype) - dtype(300))
        for source in (image, encoded(image, "TIFF")):
            with pytest.raises(SettingsError, match=r"how bright they are.*8 or 16 bits"):
                read_image(source)

    @pytest.mark.parametrize("planes", [False, True])
    def test_what_pillow_does_not_know_or_reads_wrongly_is_refused(self, planes):
        numbers = noise(4, 6, 3, dtype=np.uint16) if planes else np.ones((4, 6, 3), np.float32)
        with pytest.raises(SettingsError, match=r"TIFF file that cannot be read.*save it as PNG"):
            read_image(tiff(numbers, planes=planes))


class TestAlphaOfTiffs:
    @pytest.mark.parametrize("packed", [False, True])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_straight(self, dtype, packed):
        pixels = noise(5, 7, 4, dtype=dtype)
        read = read_image(tiff(pixels, STRAIGHT, packed=packed))
        assert np.array_equal(read, pixels.astype(np.float32) / np.float32(np.iinfo(dtype).max))

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("packed", [False, True])
    @pytest.mark.parametrize(("dtype", "slack"), [(np.uint8, 1.1 / 40), (np.uint16, 1e-4)])
    def test_premultiplied(self, dtype, slack, packed, order):
        most = np.iinfo(dtype).max
        straight = noise(5, 7, 4) / 255
        straight[..., 3] = np.linspace(40 / 255, 1, 35).reshape(5, 7)
        straight[0, 0] = 0
        stored = straight.copy()
        stored[..., :3] *= stored[..., 3:]
        data = tiff(
            (stored * most).round().astype(dtype), PREMULTIPLIED, order=order, packed=packed
        )
        np.testing.assert_allclose(read_image(data), straight, atol=slack)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_a_fourth_channel_that_is_no_alpha(self, dtype):
        pixels = noise(5, 7, 4, dtype=dtype)
        wanted = pixels[..., :3].astype(np.float32) / np.float32(np.iinfo(dtype).max)
        assert np.array_equal(read_image(tiff(pixels, NO_ALPHA)), opaque(wanted))


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


class TestRefusals:
    HINT = "Use a PNG, JPEG, WebP"

    @pytest.mark.parametrize(
        ("data", "kind"),
        [
            (b"", "it is empty"),
            (b"%PDF-1.7 and so on", "its content is PDF"),
            (b"8BPS\0\1" + bytes(40), "its content is Photoshop"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "its content is EPS"),
            (b"\0\0\0\x18ftypheic\0\0\0\0", "its content is HEIC"),
            (b"<!DOCTYPE html><html>", "its content is a web page"),
            (b"rubbish" * 9, "its kind is unknown"),
        ],
    )
    def test_what_is_no_image_that_is_let_in(self, tmp_path, data, kind):
        path = tmp_path / "apple.png"
        path.write_bytes(data)
        with pytest.raises(SettingsError) as caught:
            read_image(path, field="fg_image")
        assert caught.value.message == f"{path} is not an image that can be read ({kind})."
        assert caught.value.hint.startswith(self.HINT)
        assert caught.value.hint.endswith("TIFF, BMP or GIF file.")
        assert caught.value.field == "fg_image"

    @pytest.mark.parametrize("kind", ["TGA", "PPM", "PCX", "EPS", "ICO", "JPEG2000"])
    def test_no_other_decoder_runs(self, kind, monkeypatch):
        image = Image.new("RGB", (16, 16))
        data = encoded(image, kind)
        waiting = Image.open(io.BytesIO(data))
        monkeypatch.setitem(Image.OPEN, kind, (lambda *_: pytest.fail("It ran."), None))
        monkeypatch.setattr(type(waiting), "load", lambda _: pytest.fail("It ran."))
        with pytest.raises(SettingsError, match="is not an image that can be read"):
            read_image(data)
        if waiting.tile:
            with pytest.raises(SettingsError, match=r"its content is \w+"):
                read_image(waiting)

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "packed TIFF", "BMP", "GIF"])
    def test_a_file_that_is_cut_off(self, kind, capfd):
        options = {"compression": "tiff_deflate"} if kind == "packed TIFF" else {}
        data = encoded(Image.fromarray(noise(64, 64, 3)), kind.split()[-1], **options)
        with pytest.raises(SettingsError, match="damaged") as caught:
            read_image(cut(data), name="apple", field="bg_image")
        assert caught.value.message.startswith("apple is ")
        assert (bool(caught.value.hint), caught.value.field) == (True, "bg_image")
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("size", [(0, 4), (4, 0)])
    def test_no_pixels(self, size):
        with pytest.raises(SettingsError, match="without pixels"):
            read_image(Image.new("RGBA", size))

    def test_no_file_and_no_ordinary_one(self, tmp_path):
        for path, said in (
            (tmp_path / "gone.png", "There is no file .*gone.png. Check the name."),
            (tmp_path, "is a folder"),
            (Path("/dev/null"), "is no ordinary file"),
        ):
            with pytest.raises(SettingsError, match=said) as caught:
                read_image(path, field="fg_image")
            assert caught.value.field == "fg_image"


class TestLimit:
    def test_it_is_checked_before_anything_is_decoded(self, monkeypatch):
        monkeypatch.setattr(reading, "MOST_PIXELS", 6 * 8 - 1)
        for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"):
            data = encoded(Image.new("RGB", (8, 6)), kind)
            waiting = Image.open(io.BytesIO(data))
            with monkeypatch.context() as patch:
                patch.setattr(type(waiting), "load", lambda _: pytest.fail("It was decoded."))
                for source in (data, waiting):
                    with pytest.raises(SettingsError, match=r"too large \(8 x 6 pixels\)"):
                        read_image(source)

    def test_it_holds_whatever_the_hosts_own_is(self, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        bomb = png(np.zeros((1, 8), int), GREY_PNG, 1)
        head = struct.pack(">IIBBBBB", 2**16, 2**12, 1, GREY_PNG, 0, 0, 0)
        bomb = bomb[:8] + chunk(b"IHDR", head) + bomb[33:]
        with pytest.raises(SettingsError, match=r"65536 x 4096 pixels\).*134 megapixels at most"):
            read_image(bomb)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2**20)
        with pytest.raises(SettingsError, match="too large"):
            read_image(bomb)

    def test_a_large_one_is_read_without_a_word(self, monkeypatch, capfd):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read_image(png_bytes(noise(6, 8, 4))).shape == (6, 8, 4)
        assert capfd.readouterr() == ("", "")

    def test_it_leaves_room_for_photos(self):
        assert reading.MOST_PIXELS >= 11648 * 8736


def test_the_formats_are_those_that_pillow_can_decode():
    wanted = ["PNG", "JPEG", "WebP", *["AVIF"] * AVIF]
    assert [*formats().values()] == [*wanted, "TIFF", "BMP", "GIF"]


class TestWriter:
    def test_texts_are_written_and_empty_ones_are_not(self):
        infotext, texts = "ein Bäumchen ⛵\nSteps: 1", {"postprocessing": "", "a b": "c"}
        with Image.open(io.BytesIO(png_bytes(noise(3, 4, 3), infotext, texts=texts))) as image:
            assert (image.format, image.mode, image.info.get("interlace")) == ("PNG", "RGB", None)
            assert image.text == {"parameters": infotext, "a b": "c"}

    def test_other_layouts_of_the_array(self):
        pixels = noise(6, 8, 4)
        for layout in (np.asfortranarray(pixels), pixels[::-1][::-1], pixels[:, ::2]):
            assert np.array_equal(to_u8(read_image(png_bytes(layout))), layout)
