"""The HTTP API: images by path and address, routes, names of the results, errors."""

from __future__ import annotations

import base64
import io
import json
import ntpath
import os
from importlib import import_module

import numpy as np
import pytest
from PIL import Image
from started_webui import SIZE, WebUI, as_base64, picture, request

from lib_layerdiffuse.errors import SettingsError
from lib_layerdiffuse.methods import METHODS, find_method
from lib_layerdiffuse.settings.schema import settings_schema

JOINT, FG_SD15, TO_BG = (find_method(i) for i in ("joint_sd15", "fg_attn_sd15", "fg_to_bg_sd15"))
SMALL = {"prompt": "a boat", "width": 64, "height": 64}
TXT2IMG = "/sdapi/v1/txt2img"


@pytest.fixture
def ui(webui, models, tmp_path):
    return WebUI(models, tmp_path / "outputs")


def post(ui, method, *args, others=(), **fields):
    """Returns status and answer of a request with these arguments of our script."""
    body = SMALL | fields | {"alwayson_scripts": {"LayerDiffuse": {"args": list(args)}}}
    return ui.serve(method, *others).request("POST", TXT2IMG, body)


def refused(ui, method, *args, **fields):
    """Returns the error that such a request is answered with; no image may be made."""
    status, answer = post(ui, method, *args, **fields)
    assert status == 422, answer
    assert answer["detail"].keys() == {"error", "message", "hint", "field"}
    assert answer["detail"]["hint"]
    assert ui.saved() == []
    return answer["detail"]


def layers(answer):
    return json.loads(answer["info"])["extra_generation_params"].get("layerdiffusion_layers")


class TestPicturesByPath:
    @pytest.fixture
    def read(self, ui, tmp_path, monkeypatch):
        """Reads a path as a request's image; `tmp_path / "outputs"` is an output folder."""
        (tmp_path / "outputs").mkdir()
        (tmp_path / "private").mkdir()
        for folder in ("outputs", "private"):
            picture(alpha=128).save(tmp_path / folder / "a.png")
        ui.shared.opts.data["outdir_txt2img_samples"] = str(tmp_path / "outputs")
        monkeypatch.chdir(tmp_path)
        return import_module("lib_layerdiffuse.webui.job.given_images").read_given

    def test_in_an_output_folder_absolute_or_relative(self, read, tmp_path):
        wanted = read(picture(alpha=128))
        for text in (
            str(tmp_path / "outputs" / "a.png"),
            "outputs/a.png",
            "./outputs/../outputs/a.png",
        ):
            assert np.array_equal(read(text), wanted)

    @pytest.mark.parametrize(
        "text",
        [
            "private/a.png",
            "outputs/../private/a.png",
            "private/absent.png",
            "/etc/passwd.png",
            "outputs/link.png",
            "~/a.png",
            "outputs/a.png\0.png",
            "outputs/\ud800.png",
            "outputs/circle.png",
            "a/" * 2000 + "a.png",
            "a" * 5000 + ".png",
        ],
    )
    def test_anything_else_is_refused_unread(self, read, tmp_path, text):
        (tmp_path / "outputs" / "link.png").symlink_to(tmp_path / "private" / "a.png")
        (tmp_path / "outputs" / "circle.png").symlink_to(tmp_path / "outputs" / "circle.png")
        with pytest.raises(SettingsError, match="none of the WebUI's output folders") as caught:
            read(text)
        assert str(tmp_path) not in str(caught.value)

    @pytest.mark.parametrize(
        "text", ["//nas/share/a.png", "/net/nas/a.png", "private/a.png", "outputs/../../b/a.png"]
    )
    def test_nothing_is_touched_before_a_path_is_known_to_lie_inside(
        self, read, tmp_path, monkeypatch, text
    ):
        touched = []

        def watch(name):
            inner = getattr(os, name)

            def look(path, *args, **more):
                touched.append(os.fspath(path))
                return inner(path, *args, **more)

            monkeypatch.setattr(os, name, look)

        for name in ("stat", "lstat", "readlink", "open"):
            watch(name)
        with pytest.raises(SettingsError, match="none of the WebUI's output folders"):
            read(text)
        told = [path for path in touched if path.endswith("a.png") or "nas" in path]
        assert told == []
        assert touched, "the output folders themselves are looked at"

    @pytest.mark.parametrize(
        ("path", "inside"),
        [
            (r"C:\webui\outputs\a.png", True),
            (r"c:/WEBUI/Outputs/x/a.png", True),
            (r"C:\webui\outputs\..\secret\a.png", False),
            (r"C:\webui\outputs-of-others\a.png", False),
            (r"D:\webui\outputs\a.png", False),
            (r"\\nas\share\a.png", False),
            ("//nas/share/a.png", False),
            (r"\\?\UNC\nas\share\a.png", False),
            (r"C:\webui\outputs", False),
        ],
    )
    def test_where_a_path_of_windows_lies(self, ui, path, inside):
        lies_in = import_module("lib_layerdiffuse.webui.job.given_images").lies_in
        assert lies_in(path, "C:\\webui\\outputs", ntpath) is inside

    def test_an_output_folder_behind_a_link(self, ui, read, tmp_path):
        (tmp_path / "link").symlink_to(tmp_path / "outputs")
        ui.shared.opts.data["outdir_txt2img_samples"] = str(tmp_path / "link")
        for folder in ("link", "outputs"):
            assert read(f"{folder}/a.png").shape == (64, 64, 4)

    def test_a_folder_that_the_command_line_opens(self, ui, read, tmp_path):
        ui.shared.cmd_opts.gradio_allowed_path = [str(tmp_path / "private")]
        assert read("private/a.png").shape == (64, 64, 4)

    def test_the_hosts_whole_data_folder_is_not_open(self, ui, read, tmp_path):
        paths = import_module("lib_layerdiffuse.webui.job.given_images")
        paths.data_path = str(tmp_path)
        ui.shared.cmd_opts.gradio_allowed_path = [str(tmp_path)]
        with pytest.raises(SettingsError):
            read("private/a.png")

    def test_none_where_the_host_hides_folders(self, ui, read):
        ui.shared.cmd_opts.hide_ui_dir_config = True
        with pytest.raises(SettingsError):
            read("outputs/a.png")

    @pytest.mark.parametrize("content", [None, b"text", b"\x89PNG\r\n\x1a\n broken"])
    def test_a_file_that_is_no_picture(self, read, tmp_path, content):
        if content is not None:
            (tmp_path / "outputs" / "b.png").write_bytes(content)
        with pytest.raises(SettingsError, match=r"There is no file|^b\.png is ") as caught:
            read("outputs/b.png")
        assert str(tmp_path) not in str(caught.value)

    def test_a_broken_end_of_a_file(self, read, tmp_path):
        whole = (tmp_path / "outputs" / "a.png").read_bytes()
        (tmp_path / "outputs" / "b.png").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(SettingsError, match="damaged or cut off"):
            read("outputs/b.png")

    def test_over_the_api(self, ui, read):
        status, answer = post(ui, TO_BG, {"method": TO_BG.id, "fg_image": "outputs/a.png"})
        assert (status, len(answer["images"])) == (200, 2)
        # The folder holds a.png, so nothing can be said of what was saved.
        status, answer = post(ui, TO_BG, {"method": TO_BG.id, "fg_image": "private/a.png"})
        assert (status, answer["detail"]["field"]) == (422, "fg_image")


class TestAddresses:
    URL = "https://example.org/a.png"

    @pytest.fixture
    def fetched(self, ui, monkeypatch):
        """The addresses that the host has fetched."""
        seen = []

        def get(url):
            seen.append(url)
            return base64.b64decode(as_base64(picture(alpha=128)))

        monkeypatch.setattr(import_module("modules.api.api"), "get", get)
        return seen

    def test_fetched_where_the_host_allows_it(self, ui, fetched):
        status, answer = post(ui, TO_BG, {"method": TO_BG.id, "fg_image": self.URL})
        assert (status, len(answer["images"])) == (200, 2)
        assert fetched == [self.URL]

    def test_not_where_it_does_not(self, ui, fetched):
        ui.shared.opts.data["api_enable_requests"] = False
        detail = refused(ui, TO_BG, {"method": TO_BG.id, "fg_image": self.URL})
        assert detail["field"] == "fg_image"
        assert "Requests not allowed" in detail["message"]
        assert fetched == []

    def test_not_from_local_places(self, ui, fetched):
        local = "http://127.0.0.1:1/a.png"
        detail = refused(ui, TO_BG, {"method": TO_BG.id, "fg_image": local})
        assert "local resource" in detail["message"]
        assert fetched == []

    def test_one_that_cannot_be_reached(self, ui):
        detail = refused(ui, TO_BG, {"method": TO_BG.id, "fg_image": self.URL})
        assert "no way to" in detail["message"]

    @pytest.mark.parametrize(
        "text", ["data:image/png", "data:image/png;base64", "????", "ftp://a/b"]
    )
    def test_other_texts_are_no_pictures(self, ui, text):
        assert refused(ui, TO_BG, {"method": TO_BG.id, "fg_image": text})["field"] == "fg_image"


def encoded(image, kind="PNG", **options):
    """Returns an image's file as base64."""
    with io.BytesIO() as stream:
        image.save(stream, format=kind, **options)
        return base64.b64encode(stream.getvalue()).decode()


RAMP = np.linspace(0, 255, SIZE * SIZE).reshape(SIZE, SIZE)
COLOURS = Image.fromarray(np.dstack([RAMP, RAMP.T, RAMP[::-1]]).astype(np.uint8))


class TestKindsOfPictures:
    """What a file's own way of writing pixels must not change."""

    @pytest.fixture
    def read(self, ui):
        return import_module("lib_layerdiffuse.webui.job.given_images").read_given

    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    def test_16_bits_of_grey(self, read, kind):
        deep = Image.fromarray((RAMP * 257).astype(np.uint16))
        assert np.abs(read(encoded(deep, kind))[..., 0] - RAMP / 255).max() <= 1 / 255

    @pytest.mark.parametrize("pixels", [RAMP.astype(np.float32), RAMP.astype(np.int32) - 9])
    def test_numbers_without_a_white_are_refused(self, read, pixels):
        with pytest.raises(SettingsError, match="8 or 16 bits"):
            read(encoded(Image.fromarray(pixels), "TIFF"))

    def test_the_first_of_several_frames(self, read):
        frames = [picture(value, 128) for value in (10, 200)]
        text = encoded(frames[0], save_all=True, append_images=frames[1:])
        assert np.array_equal(read(text), read(frames[0]))

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
    def test_a_turned_camera(self, read, kind):
        turned = Image.Exif()
        turned[0x112] = 6
        wide = COLOURS.resize((SIZE, 32))
        options = {"quality": 100} if kind != "PNG" else {}
        got = read(encoded(wide, kind, exif=turned, **options))
        wanted = read(wide.transpose(Image.Transpose.ROTATE_270))
        assert got.shape == wanted.shape
        assert np.abs(got - wanted).mean() < 0.03

    @pytest.mark.parametrize("alphas", [0, bytes(range(0, 160, 10))])
    def test_transparency_in_a_palette(self, read, alphas):
        found = read(encoded(COLOURS.quantize(16), transparency=alphas))[..., 3]
        assert found.min() == 0
        assert len(np.unique(found)) == (2 if alphas == 0 else 16)

    def test_one_colour_that_is_clear(self, read):
        colour = COLOURS.getpixel((5, 7))
        rgba = read(encoded(COLOURS, transparency=colour))
        assert rgba[7, 5, 3] == 0
        assert np.array_equal(rgba[..., 3] == 0, (np.asarray(COLOURS) == colour).all(axis=2))

    def test_printing_colours(self, read):
        got = read(encoded(COLOURS.convert("CMYK"), "TIFF"))
        assert np.array_equal(got, read(COLOURS))

    def test_a_thin_one(self, ui, read):
        text = encoded(COLOURS.resize((1, 3000)))
        assert read(text).shape == (3000, 1, 4)
        status, answer = post(ui, TO_BG, {"method": TO_BG.id, "fg_image": text})
        assert (status, len(answer["images"])) == (200, 2)

    @pytest.mark.parametrize("head", ["image/png", "image/jpeg", "image/png;charset=utf-8"])
    def test_a_data_uri_says_what_it_likes(self, read, head):
        assert np.array_equal(
            read(f"data:{head};base64,{encoded(COLOURS)}"), read(COLOURS.convert("RGBA"))
        )

    @pytest.mark.parametrize("size", [(0, 4), (4, 0)])
    def test_none_without_pixels(self, read, size):
        with pytest.raises(SettingsError, match="without pixels"):
            read(Image.new("RGBA", size))


class TestRefusals:
    @pytest.mark.parametrize(
        ("given", "field"),
        [
            ({"method": "joint_sd15", "weight": "1"}, "weight"),
            ({"method": "joint_sd15", "blended_prompt": 3}, "blend_additional_prompt"),
            ({"method": "bg_to_fg_sd15", "bg_image": 1}, "bg_image"),
            ({"method": "fg_to_bg_sd15"}, "fg_image"),
            ({"method": "joint_sd16"}, "method"),
            ({"method": "fg_to_bg_sd15", "image": "…"}, "image"),
        ],
    )
    def test_of_a_dict(self, ui, given, field):
        assert refused(ui, JOINT, given)["field"] == field

    def test_of_an_option(self, ui):
        override = {"layerdiffuse_decoder_views": 3}
        detail = refused(ui, JOINT, request(JOINT), override_settings=override)
        assert detail["field"] == "layerdiffuse_decoder_views"
        assert "8, 4, 2, 1" in detail["message"]

    def test_a_missing_layer_goes_by_its_name_in_the_api(self, ui):
        method = find_method("fg_blended_to_bg_sdxl")
        given = {"method": method.id, "fg_image": as_base64(picture())}
        assert refused(ui, method, given)["field"] == "blend_image"

    @pytest.mark.parametrize("method_id", ["fg_to_bg_sd15", "fg_to_blended_sdxl"])
    def test_while_sampling(self, ui, method_id):
        """Another extension calls the UNet for a part of the image, which nobody can foresee."""

        def halve(script, p, *args, **kwargs):
            inner = p.sampler.denoise
            p.sampler.denoise = lambda p, x, *rest: inner(p, x[..., : x.shape[3] // 2], *rest)

        method = find_method(method_id)
        other = ui.new_script(title=lambda _: "Halves", process_before_every_sampling=halve)
        detail = refused(ui, method, request(method), others=[other])
        assert detail["error"] == "HostError"
        assert "extensions" in detail["hint"]


class TestNamesOfResults:
    def test_each_picture_of_an_answer_has_its_name(self, ui):
        more = {name: True for name in settings_schema()["properties"] if name.startswith("show_")}
        status, answer = post(ui, JOINT, request(JOINT, **more), batch_size=2)
        assert status == 200
        sets = ["fg", "bg", "blended"] * 2
        extras = ["fg-preview", "fg-matte", "fg-raw", "composite"]
        assert layers(answer) == sets + extras[:3] + extras[3:] + extras
        images = [Image.open(io.BytesIO(base64.b64decode(i))) for i in answer["images"]]
        for name, image in zip(layers(answer), images, strict=True):
            assert image.mode == ("RGBA" if name == "fg" else "RGB"), name
            if name == "fg-matte":
                red, green, _ = image.split()
                assert np.array_equal(np.asarray(red), np.asarray(green))

    def test_other_pictures_have_none(self, ui):
        def add_grid(self, p, processed, *_):
            processed.images.insert(0, picture())

        other = ui.new_script(postprocess=add_grid, title=lambda self: "Grid")
        p = ui.job(JOINT, request(JOINT), before=[other])
        names = ui.run(p).extra_generation_params["layerdiffusion_layers"]
        assert names == [None, "fg", "bg", "blended"]

    def test_they_are_right_in_another_format(self, ui):
        ui.shared.opts.data["samples_format"] = "jpg"
        _, answer = post(ui, JOINT, request(JOINT))
        assert layers(answer) == ["fg", "bg", "blended"]

    def test_plain_jobs_have_no_such_list(self, ui):
        status, answer = post(ui, JOINT, False)
        assert (status, layers(answer)) == (200, None)

    def test_nor_do_plots(self, ui):
        plot = ui.plot()
        ui.entry.add_axes()
        app = ui.serve(JOINT, plot.Script())
        axes = ["[LayerDiffuse] Method", [JOINT.id], "Seed", ["1"]]
        body = SMALL | {"script_name": "X/Y/Z plot", "script_args": axes}
        status, answer = app.request("POST", TXT2IMG, body)
        assert (status, len(answer["images"]), layers(answer)) == (200, 1, None)


class TestRoutes:
    def test_methods(self, ui):
        status, rows = ui.serve(JOINT).request("GET", "/layerdiffuse/methods")
        assert status == 200
        assert [row["id"] for row in rows] == [m.id for m in METHODS]
        assert all(row["weights"]["present"] for row in rows)
        json.dumps(rows)

    def test_they_tell_no_folder_of_the_server(self, webui, tmp_path):
        folder = tmp_path / "models" / "layer_model"
        folder.mkdir(parents=True)
        for name in {m.weights.filename for m in METHODS}:
            (folder / name).write_bytes(b"none")
        ui = WebUI(folder.parent, tmp_path / "outputs")
        status, rows = ui.serve(JOINT).request("GET", "/layerdiffuse/methods")
        assert status == 200
        assert "corrupt" in {row["weights"]["state"] for row in rows}
        assert str(tmp_path) not in json.dumps(rows)

    def test_a_fault_is_told_without_folders(self, ui, monkeypatch):
        api = import_module("lib_layerdiffuse.webui.page.api")

        def fail(_):
            raise PermissionError(13, "Permission denied", "/srv/webui/models/a")

        monkeypatch.setattr(api, "methods_table", fail)
        status, answer = ui.serve(JOINT).request("GET", "/layerdiffuse/methods")
        assert (status, answer["detail"]["error"]) == (500, "PermissionError")
        assert "/srv" not in json.dumps(answer)

    def test_schema(self, ui):
        assert ui.serve(JOINT).request("GET", "/layerdiffuse/schema") == (200, settings_schema())

    @pytest.mark.parametrize("path", ["/layerdiffuse/methods", "/layerdiffuse/schema"])
    def test_behind_the_hosts_password(self, ui, path):
        ui.shared.cmd_opts.api_auth = "me:secret"
        app = ui.serve(JOINT)
        assert app.request("GET", path)[0] == 401
        assert app.request("GET", path, password="me:secret")[0] == 200

    def test_not_where_nobody_checks_the_password(self, ui):
        app = import_module("fastapi").FastAPI()
        add_routes = import_module("lib_layerdiffuse.webui.page.api").add_routes
        ui.shared.cmd_opts.api_auth = "me:secret"
        add_routes(None, app)
        assert app.request("GET", "/layerdiffuse/schema")[0] == 404
        ui.shared.cmd_opts.api_auth = None
        add_routes(None, app)
        assert app.request("GET", "/layerdiffuse/schema")[0] == 200

    @pytest.fixture
    def page(self, ui):
        """The server of a page without an API; it asks for the page's login where it has one."""
        fastapi = import_module("fastapi")

        def serve(known=()):
            def login_check(password=None):
                if known and password not in known:
                    raise fastapi.HTTPException(401, "Not authenticated")

            app = fastapi.FastAPI()
            app.add_api_route("/login_check", login_check, methods=["GET"])
            import_module("lib_layerdiffuse.webui.page.api").add_routes(None, app)
            return app

        return serve

    @pytest.mark.parametrize("path", ["/layerdiffuse/methods", "/layerdiffuse/schema"])
    def test_behind_the_pages_login_where_there_is_no_api(self, page, path):
        app = page(known=["me:secret"])
        assert app.request("GET", path)[0] == 401
        assert app.request("GET", path, password="me:secret")[0] == 200
        assert page().request("GET", path)[0] == 200

    @pytest.mark.parametrize("flag", ["gradio_auth", "gradio_auth_path"])
    def test_not_where_nobody_checks_the_pages_login(self, ui, flag):
        setattr(ui.shared.cmd_opts, flag, "me:secret")
        app = import_module("fastapi").FastAPI()
        import_module("lib_layerdiffuse.webui.page.api").add_routes(None, app)
        assert app.request("GET", "/layerdiffuse/schema")[0] == 404

    def test_a_bad_option_is_told(self, ui):
        ui.shared.opts.data["layerdiffuse_decoder_precision"] = "int8"
        status, answer = ui.serve(JOINT).request("GET", "/layerdiffuse/methods")
        assert (status, answer["detail"]["field"]) == (422, "layerdiffuse_decoder_precision")
