"""Files whose numbers are no sRGB: profiles of matrices, greys and printers, and gAMA."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from image_files import (
    ADOBE,
    GAMMA,
    GREY_PNG,
    RGB_PNG,
    chunk,
    curve,
    encoded,
    matrix_profile,
    noise,
    place,
    png,
    profile,
)
from PIL import Image, ImageCms

from lib_layerdiffuse.imaging.images import from_u8, to_u8
from lib_layerdiffuse.imaging.reading import read_image

SRGB = np.array(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.7141]]
)
"""Primaries at D50. Source: IEC 61966-2-1."""
PIXELS = noise(24, 16, 4)


def curved(light):
    """Returns linear light as sRGB writes it."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def by_hand(colours, primaries=ADOBE, gamma=GAMMA):
    """Returns colours in sRGB, by the definitions."""
    return curved(colours**gamma @ primaries.T @ np.linalg.inv(SRGB).T)


def near(read, wanted):
    np.testing.assert_allclose(read[..., :3], wanted, atol=2.6 / 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_a_profile_is_applied_and_alpha_stays(kind):
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(PIXELS), kind, icc_profile=matrix_profile(), **options)
    read = read_image(data)
    near(read, by_hand(from_u8(PIXELS)[..., :3]))
    assert np.array_equal(to_u8(read[..., 3]), PIXELS[..., 3])
    assert np.abs(read[..., :3] - from_u8(PIXELS)[..., :3]).max() > 0.1


def test_in_a_jpeg():
    flat = np.full((16, 16, 3), (200, 60, 40), np.uint8)
    data = encoded(Image.fromarray(flat), "JPEG", quality=100, icc_profile=matrix_profile())
    near(read_image(data), by_hand(from_u8(flat)))


def test_an_image_that_pillow_has_opened_and_converted():
    data = encoded(Image.fromarray(PIXELS), icc_profile=matrix_profile())
    wanted = read_image(data)
    for opened in (Image.open(io.BytesIO(data)), Image.open(io.BytesIO(data)).convert("RGBA")):
        assert np.array_equal(read_image(opened), wanted)


def test_16_bits_are_taken_along():
    deep = noise(9, 9, 3, dtype=np.uint16)
    packed = zlib.compress(matrix_profile())
    data = png(deep, RGB_PNG, 16, more=chunk(b"iCCP", b"a\0\0" + packed))
    near(read_image(data), by_hand(deep / 65535))


@pytest.mark.parametrize(
    "same", [ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), None]
)
def test_a_profile_of_srgb_changes_nothing(same):
    """Not even where the conversion would round otherwise, nor digits of 16 bits."""
    tags = {f"{c}XYZ": place(SRGB[:, i]) for i, c in enumerate("rgb")}
    steps = (((np.arange(1024) / 1023 + 0.055) / 1.055) ** 2.4).clip(0, 1)
    steps[:42] = np.arange(42) / 1023 / 12.92
    table = b"curv" + bytes(4) + struct.pack(">I1024H", 1024, *np.round(steps * 65535).astype(int))
    same = same or profile("RGB ", tags | {f"{c}TRC": table for c in "rgb"})
    data = encoded(Image.fromarray(PIXELS), icc_profile=same)
    assert np.array_equal(read_image(data), from_u8(PIXELS))
    deep = noise(5, 5, 3, dtype=np.uint16)
    data = png(deep, RGB_PNG, 16, more=chunk(b"iCCP", b"a\0\0" + zlib.compress(same)))
    assert np.array_equal(read_image(data)[..., :3], (deep / np.float32(65535)))


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_grey(mode):
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    given = Image.fromarray(ramp).convert(mode)
    data = encoded(given, icc_profile=profile("GRAY", {"kTRC": curve(1.0)}))
    near(read_image(data), np.repeat(curved(ramp[..., None] / 255), 3, axis=2))


def test_printing_colours_by_their_profile():
    """Any ink at all is black in this one, which no formula makes of cyan."""
    inks = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], [0, 1], indexing="ij"), axis=-1)
    light = 255 * (inks.reshape(-1, 4).max(axis=1) == 0)
    corners = np.stack([light, np.full(16, 128), np.full(16, 128)], axis=1).astype(np.uint8)
    straight = bytes(range(256))
    lut = b"mft1" + bytes(4) + struct.pack(">4B", 4, 3, 2, 0)
    lut += struct.pack(">9i", *(np.eye(3, dtype=int).ravel() * 65536))
    lut += 4 * straight + corners.tobytes() + 3 * straight
    inked = np.zeros((8, 16, 4), np.uint8)
    inked[:, 8:, 0] = 255
    image = Image.frombytes("CMYK", (16, 8), inked.tobytes())
    data = encoded(image, "TIFF", icc_profile=profile("CMYK", {"A2B0": lut}, connection="Lab "))
    read = read_image(data)
    assert read[:, :8, :3].min() > 0.98
    assert read[:, 8:, :3].max() < 0.02
    plain = read_image(encoded(image, "TIFF"))
    assert np.array_equal(plain[0, -1], [0, 1, 1, 1])


@pytest.mark.parametrize(
    "broken",
    [
        b"no profile",
        matrix_profile()[:140],
        matrix_profile().replace(b"acsp", b"ACSP"),
        profile("GRAY", {"kTRC": curve(1.0)}),
        profile("CMYK", {}),
        profile("Lab ", {}),
    ],
    ids=["text", "cut", "no mark", "of grey", "of inks", "of another space"],
)
def test_a_profile_that_cannot_be_meant_is_left_out(broken):
    data = encoded(Image.fromarray(PIXELS), icc_profile=broken)
    assert np.array_equal(read_image(data), from_u8(PIXELS))


class TestGamma:
    RAMP = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)

    def read(self, gamma, more=b""):
        told = chunk(b"gAMA", struct.pack(">I", round(gamma * 100_000))) + more
        return read_image(png(self.RAMP, GREY_PNG, 16, more=told))

    @pytest.mark.parametrize("gamma", [1.0, 0.5556, 0.7])
    def test_it_is_applied(self, gamma):
        wanted = curved((self.RAMP / 65535) ** (1 / round(gamma, 5)))
        np.testing.assert_allclose(self.read(gamma)[..., 0], wanted, atol=1e-5)

    @pytest.mark.parametrize("gamma", [0.45455, 0.4545, 0.44, 0.00001, 0.0, 20000.0])
    def test_that_of_srgb_and_nonsense_change_nothing(self, gamma):
        assert np.array_equal(self.read(gamma)[..., 0], self.RAMP / np.float32(65535))

    def test_srgb_beside_it_counts(self):
        read = self.read(1.0, chunk(b"sRGB", b"\0"))
        assert np.array_equal(read[..., 0], self.RAMP / np.float32(65535))

    def test_a_clear_grey_is_found_before(self):
        data = png(
            self.RAMP,
            GREY_PNG,
            16,
            struct.pack(">H", 257),
            chunk(b"gAMA", struct.pack(">I", 100_000)),
        )
        alpha = read_image(data)[..., 3]
        assert (alpha[0, 1], alpha.sum()) == (0, 255)
