"""Scripts that run many jobs, and images that other extensions put in or take out."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch
from PIL import Image
from started_webui import WebUI, picture, request

from lib_layerdiffuse.errors import MissingCapabilityError, SettingsError
from lib_layerdiffuse.methods import find_method
from lib_layerdiffuse.outputs import preview

JOINT, FG_SD15, TO_FG = (find_method(i) for i in ("joint_sd15", "fg_attn_sd15", "bg_to_fg_sd15"))


@pytest.fixture
def ui(webui, models, tmp_path):
    return WebUI(models, tmp_path / "outputs")


def arrays(pictures):
    return [np.asarray(image) for image in pictures]


def selectable(ui, title, run=None):
    """Returns a selectable script of this title."""
    script = ui.new_script(title=lambda self: title, run=run)
    script.selectable = True
    return script


def chosen(p):
    """Has the job run under the one selectable script that there is."""
    p.script_args = (1, *p.script_args[1:])
    return p


class TestComposedPrompts:
    def rows(self, ui, prompt, **texts):
        p = ui.job(JOINT, request(JOINT, **texts), prompt=prompt)
        ui.run(p)
        return p.conditioned_on[0]

    def test_a_layers_own_prompt_stands_before_each_part(self, ui):
        prompts, negatives = self.rows(
            ui, "a boat :0.5 AND a lake", fg_additional_prompt="x", bg_negative_prompt="y"
        )
        assert prompts == ["x, a boat :0.5 AND x, a lake", *["a boat :0.5 AND a lake"] * 2]
        assert negatives == ["blurry", "y, blurry", "blurry"]

    def test_a_word_that_holds_and_is_no_part(self, ui):
        prompts, _ = self.rows(ui, "SAND castle  and ANDES", fg_additional_prompt="x")
        assert prompts[0] == "x, SAND castle  and ANDES"

    def test_own_prompts_compose_nothing(self, ui):
        p = ui.job(JOINT, request(JOINT, bg_additional_prompt="a AND b"))
        with pytest.raises(SettingsError, match="cannot hold AND") as caught:
            ui.run(p)
        assert caught.value.field == "bg_prompt"
        p = ui.job(JOINT, request(JOINT, bg_negative_prompt="a AND b"))
        assert len(ui.run(p).images) == 3


class TestLists:
    def matrix(self, ui, method, prompts, **fields):
        """Runs a job as the prompt matrix does; returns the result and what it was given."""
        p = ui.job(method, request(method), before=[selectable(ui, "Prompt matrix")], **fields)
        p.prompt, p.seed, p.n_iter = prompts, [7] * len(prompts), len(prompts)
        return ui.run(chosen(p))

    def test_each_prompt_gets_one_picture_and_the_layers_come_after(self, ui):
        wanted = ui.run(ui.job(JOINT, request(JOINT), prompt="b", seed=7))
        result = self.matrix(ui, JOINT, ["a", "b"], do_not_save_samples=True)
        assert [image.size for image in result.images] == [(192, 64)] * 2
        assert [image.mode for image in result.extra_images] == ["RGBA", "RGB", "RGB"] * 2
        assert all(map(np.array_equal, arrays(result.extra_images[3:]), arrays(wanted.images)))
        row = np.asarray(result.images[1].convert("RGBA"))
        assert np.array_equal(row[:, :64], np.asarray(wanted.images[0]))
        assert np.array_equal(row[:, 64:128, :3], np.asarray(wanted.images[1]))
        firsts = [text.partition("\n")[0] for text in result.infotexts]
        assert firsts == ["a", "b"] + ["a"] * 3 + ["b"] * 3

    def test_one_layer_is_one_picture_as_it_is(self, ui):
        result = self.matrix(ui, FG_SD15, ["a", "b"])
        assert [image.mode for image in result.images] == ["RGBA"] * 2
        assert result.extra_images == []

    def test_a_single_prompt_gives_the_layers(self, ui):
        assert len(ui.run(ui.job(JOINT, request(JOINT))).images) == 3


class TestPlotGrids:
    def test_transparency_shows_on_a_checkerboard(self, ui):
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 4), np.uint8))
        given = [image, picture().convert("RGB")]
        grid = np.asarray(import_module("modules.images").image_grid(given, rows=1))
        assert np.array_equal(grid[:, :64, :3], preview(np.asarray(image)))
        assert np.array_equal(grid[:, 64:, :3], np.asarray(given[1]))
        assert given[0] is image

    def test_a_jobs_own_grid_keeps_alpha(self, ui):
        kept = []

        def postprocess(self, p, processed, *_):
            kept.append(import_module("modules.images").image_grid(processed.images, rows=1))

        result = ui.run(
            ui.job(JOINT, request(JOINT), before=[ui.new_script(postprocess=postprocess)])
        )
        assert np.array_equal(np.asarray(kept[0])[:, :64], np.asarray(result.images[0]))

    def cell(self, ui, method, title="X/Y/Z plot", **fields):
        p = ui.job(method, request(method), before=[selectable(ui, title)], **fields)
        return ui.run(chosen(p))

    @pytest.mark.slow
    def test_the_cell_of_a_set_is_a_sheet_where_the_host_makes_none(self, ui):
        wanted = arrays(ui.run(ui.job(JOINT, request(JOINT), batch_size=2)).images)
        result = self.cell(ui, JOINT, batch_size=2)
        sheet, *layers = arrays(result.images)
        assert all(map(np.array_equal, layers, wanted))
        tiles = [tile for row in np.split(sheet, 2) for tile in np.split(row, 3, axis=1)]
        for tile, layer in zip(tiles, wanted, strict=True):
            assert np.array_equal(tile[..., : layer.shape[2]], layer)
        assert result.index_of_first_image == 1
        assert result.infotexts[0] == result.infotexts[1]
        assert len(result.infotexts) == 7

    def test_the_hosts_own_sheet_is_the_cell(self, ui):
        mine = ui.new_script(
            postprocess=lambda self, p, processed, *_: (
                processed.images.insert(0, picture()),
                processed.infotexts.insert(0, "sheet"),
                setattr(processed, "index_of_first_image", 1),
            )
        )
        p = ui.job(JOINT, request(JOINT), before=[selectable(ui, "X/Y/Z plot"), mine])
        result = ui.run(chosen(p))
        assert result.infotexts[0] == "sheet"
        assert len(result.images) == 4

    def test_its_title_may_be_written_in_capitals(self, ui):
        assert len(self.cell(ui, JOINT, title="X/Y/Z Plot").images) == 4

    def test_one_layer_is_its_own_cell(self, ui):
        assert len(self.cell(ui, FG_SD15).images) == 1

    def test_loopback_gets_the_foreground_first(self, ui):
        first, *_ = self.cell(ui, JOINT, title="Loopback").images
        assert first.size == (64, 64)
        assert first.mode == "RGBA"


@pytest.mark.parametrize(
    ("title", "instead"),
    [
        ("SD upscale", "Extras tab"),
        ("SD Upscale", "Extras tab"),
        ("Ultimate SD upscale", "Extras tab"),
        ("Poor man's outpainting", 'Redraw set to "Transparent part"'),
        ("Outpainting mk2", 'Redraw set to "Transparent part"'),
    ],
)
def test_scripts_that_put_images_together_are_refused(ui, title, instead):
    p = ui.job(FG_SD15, request(FG_SD15), before=[selectable(ui, title)])
    with pytest.raises(MissingCapabilityError, match=title) as caught:
        ui.run(chosen(p))
    assert instead in caught.value.hint
    assert p.sampled_with == []


def test_a_selectable_script_that_samples_by_itself_is_refused_before(ui):
    p = ui.job(FG_SD15, request(FG_SD15), before=[selectable(ui, "img2img alternative test")])
    p.sample = lambda: pytest.fail("it was sampled")
    with pytest.raises(MissingCapabilityError, match="img2img alternative test, which samples"):
        ui.run(chosen(p))


class TestPairing:
    def edited(self, ui, change, method=JOINT, **fields):
        """Runs a job in which another extension changes the list of a batch's images."""
        other = ui.new_script(
            postprocess_batch_list=lambda self, p, pp, *_, **__: change(p, pp.images)
        )
        p = ui.job(method, request(method), before=[other], **fields)
        return ui.run(p), p

    def test_a_picture_put_in_has_no_latent_and_this_is_told(self, ui):
        wanted = ui.run(ui.job(JOINT, request(JOINT)))

        def add(p, pictures):
            pictures.insert(0, torch.full((3, 64, 64), 0.25))
            for values in (p.prompts, p.negative_prompts, p.seeds):
                values.insert(0, values[0])

        result, p = self.edited(ui, add)
        assert [image.mode for image in result.images] == ["RGB", "RGBA", "RGB", "RGB"]
        assert all(map(np.array_equal, arrays(result.images[1:]), arrays(wanted.images)))
        assert any("has no latent" in text for text in p.comments)
        layers = result.extra_generation_params["layerdiffusion_layers"]
        assert layers == [None, "fg", "bg", "blended"]

    def test_pictures_in_another_order_keep_their_latents(self, ui):
        wanted = ui.run(ui.job(TO_FG, request(TO_FG), batch_size=2))

        def drop_the_first_set(p, pictures):
            del pictures[:2]

        result, _ = self.edited(ui, drop_the_first_set, TO_FG, batch_size=2)
        assert [image.mode for image in result.images] == ["RGBA", "RGB"]
        assert all(map(np.array_equal, arrays(result.images), arrays(wanted.images[2:])))

    def test_sets_that_change_places_keep_their_latents(self, ui):
        wanted = ui.run(ui.job(TO_FG, request(TO_FG), batch_size=2))

        def turn(p, pictures):
            pictures[:] = pictures[2:] + pictures[:2]

        result, _ = self.edited(ui, turn, TO_FG, batch_size=2)
        turned = [*wanted.images[2:], *wanted.images[:2]]
        assert all(map(np.array_equal, arrays(result.images), arrays(turned)))

    def test_an_edited_picture_keeps_its_place(self, ui):
        def invert(p, pictures):
            pictures[0] = 1 - pictures[0]

        wanted = ui.run(ui.job(TO_FG, request(TO_FG), batch_size=2))
        result, _ = self.edited(ui, invert, TO_FG, batch_size=2)
        assert [image.mode for image in result.images] == ["RGBA", "RGB"] * 2
        alphas = [np.asarray(made.images[0])[..., 3] for made in (result, wanted)]
        assert np.array_equal(*alphas)

    @pytest.mark.parametrize("stop", ["interrupted", "stopping_generation"])
    def test_a_stop_between_batches_gives_whole_sets(self, ui, stop):
        def halt(p, pictures):
            setattr(ui.shared.state, stop, True)

        result, _ = self.edited(ui, halt, n_iter=3)
        assert [image.mode for image in result.images] == ["RGBA", "RGB", "RGB"]

    def test_a_skip_goes_on_with_the_next_batch(self, ui):
        def skip(p, pictures):
            ui.shared.state.skipped = p.iteration == 0

        ui.shared.opts.data["layerdiffuse_decoder_views"] = 8
        result, _ = self.edited(ui, skip, n_iter=2)
        assert [image.mode for image in result.images] == ["RGBA", "RGB", "RGB"] * 2
        (note,) = result.extra_generation_params["layerdiffusion_notes"]
        assert "stopped after 1 of 8 views" in note
        wanted = ui.run(ui.job(JOINT, request(JOINT), n_iter=2))
        assert all(map(np.array_equal, arrays(result.images[3:]), arrays(wanted.images[3:])))


def test_a_script_that_samples_by_itself_is_an_error(ui):
    p = ui.job(FG_SD15, request(FG_SD15))
    p.sample = lambda: torch.zeros(1, 4, 8, 8)
    with pytest.raises(Exception, match="another extension has replaced the UNet"):
        ui.run(p)
