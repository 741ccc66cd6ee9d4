from __future__ import annotations

import io
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from lib_layerdiffuse.errors import ImageStoreError
from lib_layerdiffuse.imaging.images import from_u8
from lib_layerdiffuse.imaging.kept import ImageStore, image_hash, is_image_hash

SIDES = st.integers(1, 12)


def picture(value=200, size=(5, 7)):
    rgba_u8 = np.full((*size, 4), value, np.uint8)
    rgba_u8[..., 3] = np.arange(size[1])
    return rgba_u8


def encoded(rgba_u8, kind, **options):
    """Returns an image after a way through another encoder."""
    with io.BytesIO() as stream:
        Image.fromarray(rgba_u8).save(stream, format=kind, **options)
        return np.asarray(Image.open(stream).convert("RGBA"))


@pytest.fixture
def store(tmp_path):
    return ImageStore(tmp_path / "not" / "yet" / "there")


def files(store):
    return sorted(path.name for path in store.folder.iterdir())


@given(npst.arrays(np.uint8, st.tuples(SIDES, SIDES, st.just(4))))
def test_a_kept_picture_comes_back_bit_for_bit(tmp_path_factory, rgba_u8):
    store = ImageStore(tmp_path_factory.mktemp("store"))
    assert np.array_equal(store.load(store.keep(rgba_u8)), rgba_u8)


def test_a_file_is_a_straight_png_for_other_programs(store):
    name = store.keep(picture())
    with Image.open(store.folder / f"{name}.png") as image:
        assert (image.format, image.mode) == ("PNG", "RGBA")
        assert np.array_equal(np.asarray(image), picture())


def test_encodings_and_number_formats_of_a_picture_are_one(store):
    pixels = picture()
    names = {
        store.keep(each)
        for each in (
            pixels,
            from_u8(pixels),
            encoded(pixels, "PNG", compress_level=0),
            encoded(pixels, "WEBP", lossless=True, exact=True),
            np.asfortranarray(pixels),
        )
    }
    assert len(names) == 1
    assert files(store) == [f"{names.pop()}.png"]


def test_other_pixels_alphas_and_sizes_are_other_pictures(store):
    flat = picture(size=(4, 6))
    tall = flat.reshape(6, 4, 4)
    clear, dark = flat.copy(), flat.copy()
    clear[0, 1, 3] += 1
    dark[0, 0, 0] -= 1  # Where alpha is 0.
    assert len({store.keep(each) for each in (flat, tall, clear, dark)}) == 4


def test_pictures_without_alpha_are_opaque_ones(store):
    rgb = picture()[..., :3]
    opaque = np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])
    assert store.keep(rgb) == store.keep(opaque) == image_hash(opaque)


def test_a_hash_is_the_same_everywhere_and_always():
    wanted = "701e6176bcee0c494ea934af96027e9bf4104960a34a7b6a0fea8bb6d337d6ac"
    assert image_hash(np.arange(24, dtype=np.uint8).reshape(2, 3, 4)) == wanted


@pytest.mark.parametrize(
    "name",
    ["", "ab", "AB" * 32, "ab" * 32 + "\n", "../secret", "/etc/passwd", "g" * 64, None, 7],
)
def test_what_is_no_hash_is_never_a_file(store, monkeypatch, name):
    monkeypatch.setattr("pathlib.Path.open", lambda path, *_: pytest.fail(f"{path} was read"))
    monkeypatch.setattr("pathlib.Path.is_file", lambda path: pytest.fail(f"{path} was asked for"))
    assert not is_image_hash(name)
    assert store.load(name) is None


def test_a_path_does_not_lead_out_of_the_folder(tmp_path):
    outside = ImageStore(tmp_path)
    name = outside.keep(picture())
    store = ImageStore(tmp_path / "inner")
    store.keep(picture(1))
    for trick in (f"../{name}", f"..\\{name}", str(tmp_path / name), f"../{name}.png"):
        assert store.load(trick) is None
    assert outside.load(name) is not None


def test_a_missing_picture_is_none(store):
    assert store.load("ab" * 32) is None


@pytest.mark.parametrize("damage", [b"", b"no picture", None])
def test_a_damaged_file_is_not_given_and_written_anew(store, damage):
    name = store.keep(picture())
    path = store.folder / f"{name}.png"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert store.load(name) is None
    assert store.keep(picture()) == name
    assert np.array_equal(store.load(name), picture())


def test_another_picture_under_the_name_is_not_given(store):
    name, other = store.keep(picture()), store.keep(picture(3))
    (store.folder / f"{other}.png").replace(store.folder / f"{name}.png")
    assert store.load(name) is None


def test_a_failed_write_leaves_nothing(store, monkeypatch):
    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(ImageStoreError, match="No space left") as caught:
        store.keep(picture())
    assert caught.value.hint
    assert files(store) == []


def test_many_jobs_may_keep_and_load_at_once(store, monkeypatch):
    def write_slowly(path, data):
        with path.open("wb", buffering=0) as out:
            out.write(data[:50])
            time.sleep(0.02)
            out.write(data[50:])

    def load_at_once(rgba_u8):
        path = store.folder / f"{image_hash(rgba_u8)}.png"
        while not path.exists():
            time.sleep(0.001)
        return store.load(image_hash(rgba_u8))

    monkeypatch.setattr("pathlib.Path.write_bytes", write_slowly)
    pictures = [picture(value) for value in range(5)]
    with ThreadPoolExecutor(4) as writers, ThreadPoolExecutor(4) as readers:
        kept = [writers.submit(store.keep, each) for each in pictures * 4]
        found = list(readers.map(load_at_once, pictures * 4, timeout=30))
    assert [one.result() for one in kept] == [image_hash(each) for each in pictures] * 4
    assert all(map(np.array_equal, found, pictures * 4))
    assert len(files(store)) == len(pictures)


def test_what_another_deletes_meanwhile_is_missing_or_whole(store):
    def use(number):
        if number % 4 == 0:
            (store.folder / f"{image_hash(picture(7))}.png").unlink(missing_ok=True)
            return None
        return store.load(store.keep(picture(7)))

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(use, range(80)))
    assert all(one is None or np.array_equal(one, picture(7)) for one in found)
    assert any(one is not None for one in found)
    assert set(files(store)) <= {f"{image_hash(picture(7))}.png"}


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ImageStoreError):
        ImageStore(tmp_path / "file" / "store").keep(picture())


def test_the_size_counts_pictures_and_bytes(store):
    assert store.size() == (0, 0)
    names = [store.keep(picture(100 + i)) for i in range(3)]
    for other in ("notes.txt", "ab.png", f"{'ab' * 32}.jpg", f"x{'ab' * 32}.png"):
        (store.folder / other).write_text("mine")
    (store.folder / f"{'cd' * 32}.png").mkdir()
    total = sum((store.folder / f"{name}.png").stat().st_size for name in names)
    assert store.size() == (3, total)


def used(store, name, seconds_ago):
    """Has a kept picture been used some time ago."""
    then = time.time() - seconds_ago
    os.utime(store.folder / f"{name}.png", (then, then))


class TestPruning:
    ANY = 10**9

    @pytest.fixture
    def names(self, store):
        """Five pictures, the oldest first, a minute apart."""
        names = [store.keep(picture(100 + i)) for i in range(5)]
        for place, name in enumerate(names):
            used(store, name, 60 * (5 - place))
        return names

    def left(self, store, names):
        return [place for place, name in enumerate(names) if store.load(name) is not None]

    def test_the_oldest_go_until_the_number_fits(self, store, names):
        assert store.prune(3, self.ANY, time.time()) == 2
        assert self.left(store, names) == [2, 3, 4]
        assert store.prune(3, self.ANY, time.time()) == 0

    def test_or_until_the_bytes_fit(self, store, names):
        total = store.size().bytes
        assert store.prune(99, total, time.time()) == 0
        assert store.prune(99, total - 1, time.time()) == 1
        assert self.left(store, names) == [1, 2, 3, 4]
        assert store.size().bytes <= total - 1

    def test_one_that_is_kept_again_is_young(self, store, names):
        assert store.keep(picture(100)) == names[0]
        store.prune(2, self.ANY, time.time())
        assert self.left(store, names) == [0, 4]

    def test_those_of_the_running_job_stay_however_many(self, store, names):
        store.prune(1, 1, time.time() - 200)
        assert self.left(store, names) == [2, 3, 4]

    def test_other_files_stay(self, store, names):
        others = ["notes.txt", f"{'ab' * 32}.jpg", f".{'ab' * 32}.part"]
        for other in others:
            (store.folder / other).write_text("mine")
            os.utime(store.folder / other, (0, 0))
        store.prune(0, 0, time.time())
        assert files(store) == sorted(others)

    def test_what_a_crash_left_goes(self, store, names):
        path = store.folder / f"{names[0]}.png"
        path.rename(path.with_name(f".{path.name}.old"))
        store.prune(self.ANY, self.ANY, time.time())
        assert files(store) == sorted(f"{name}.png" for name in names[1:])

    @pytest.mark.parametrize("moment", ["rename", "stat"])
    def test_one_that_another_process_uses_meanwhile_stays(self, store, names, monkeypatch, moment):
        """Just before it is taken aside, and just after."""
        inner = getattr(Path, moment)

        def use_first(path, *args, **more):
            if (moment == "rename") or path.suffix == ".old":
                monkeypatch.setattr(Path, moment, inner)
                assert store.keep(picture(100)) == names[0]
            return inner(path, *args, **more)

        monkeypatch.setattr(Path, moment, use_first)
        store.prune(4, self.ANY, time.time())
        assert np.array_equal(store.load(names[0]), picture(100))
        assert not [name for name in files(store) if name.endswith(".old")]

    def test_several_may_prune_at_once(self, store):
        names = [store.keep(picture(100 + i)) for i in range(40)]
        for place, name in enumerate(names):
            used(store, name, 60 * (40 - place))
        with ThreadPoolExecutor(4) as pool:
            deleted = list(pool.map(lambda _: store.prune(3, self.ANY, time.time()), range(4)))
        assert sum(deleted) == 37
        assert self.left(store, names) == [37, 38, 39]

    def test_a_folder_that_is_not_there(self, store):
        assert store.prune(1, 1, time.time()) == 0
