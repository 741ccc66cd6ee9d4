"""The nodes for ComfyUI that work on finished layers."""

from __future__ import annotations

import zipfile
from importlib import import_module

import pytest
import torch
from adapters import run
from comfy_nodes import is_blocked, nodes, rand
from lent_webui import models

from lib_layerdiffuse.errors import (
    BatchSizeError,
    ImageSizeError,
    LayerDiffuseError,
    SettingsError,
)

__all__ = ["models", "nodes", "run"]
pytestmark = pytest.mark.parametrize("run", ["comfy"], indirect=True)


class TestFrames:
    def test_joined_layers_are_split_again(self, run, nodes):
        layers = [rand(2, 16, 8, 3, seed=seed) for seed in range(3)]
        (batch,) = nodes["LayerDiffuseJoin"].execute(*layers).args
        parts = nodes["LayerDiffuseSplit"].execute(batch, 3).args
        assert all(torch.equal(a, b) for a, b in zip(parts, layers, strict=True))
        first, second, third = nodes["LayerDiffuseSplit"].execute(batch, 2).args
        assert len(first) == len(second) == 3
        assert is_blocked(third)

    def test_layers_without_alpha_are_opaque_beside_others(self, run, nodes):
        (batch,) = nodes["LayerDiffuseJoin"].execute(rand(1, 8, 8, 4), rand(1, 8, 8, 3)).args
        assert torch.equal(batch[1, ..., 3], torch.ones(8, 8))

    def test_what_makes_no_sets_is_refused(self, run, nodes):
        with pytest.raises(BatchSizeError, match="whole sets of 3"):
            nodes["LayerDiffuseSplit"].execute(rand(4, 8, 8, 3), 3)
        with pytest.raises(ImageSizeError, match="1 of 8×8, 2 of 8×8"):
            nodes["LayerDiffuseJoin"].execute(rand(1, 8, 8, 3), rand(2, 8, 8, 3))


class TestPictures:
    def test_flattening_is_over_one_grey(self, run, nodes):
        image = rand(1, 8, 8, 4)
        (flat,) = nodes["LayerDiffuseFlatten"].execute(image, 0.25).args
        alpha = image[..., 3:]
        torch.testing.assert_close(flat, image[..., :3] * alpha + 0.25 * (1 - alpha))

    def test_a_foreground_lies_where_it_is_put(self, run, nodes):
        fg = torch.cat([torch.ones(2, 8, 8, 3), torch.full((2, 8, 8, 1), 0.5)], -1)
        bg = torch.zeros(1, 16, 16, 3)
        (made,) = nodes["LayerDiffuseComposite"].execute(fg, bg, 4, -4, 1.0).args
        assert made.shape == (2, 16, 16, 3)
        wanted = torch.zeros(16, 16, 3)
        wanted[:4, 4:12] = 0.5
        torch.testing.assert_close(made[0], wanted, atol=3e-3, rtol=0)
        (large,) = nodes["LayerDiffuseComposite"].execute(fg, bg, 0, 0, 2.0).args
        torch.testing.assert_close(large[0], torch.full((16, 16, 3), 0.5), atol=3e-3, rtol=0)

    def test_a_mask_is_the_part_to_redraw(self, run, nodes):
        image = torch.ones(1, 16, 16, 4)
        image[:, :, 8:, 3] = 0
        node = nodes["LayerDiffuseMask"]
        (visible,) = node.execute(image, "visible", 0.0).args
        (clear,) = node.execute(image, "transparent", 0.0).args
        assert torch.equal(visible[0], image[0, ..., 3])
        assert torch.equal(visible + clear, torch.ones(1, 16, 16))
        (soft,) = node.execute(image, "visible", 2.0).args
        assert 0 < soft[0, 8, 8] < 1
        with pytest.raises(LayerDiffuseError, match="no transparent part"):
            node.execute(torch.ones(1, 8, 8, 3), "transparent", 0.0)

    def test_sets_are_saved_each_in_a_file_of_its_own(self, run, nodes, tmp_path):
        import_module("folder_paths").output_directory = str(tmp_path)
        given = {"fg": rand(2, 8, 8, 4), "bg": rand(1, 8, 8, 3)}
        made = nodes["LayerDiffuseSave"].execute("ZIP of PNGs", "glass", False, **given)
        files = sorted(tmp_path.glob("*.zip"))
        assert len(files) == 2
        assert sorted(made.args[0].splitlines()) == [str(path) for path in files]
        for path in files:
            assert len(zipfile.ZipFile(path).namelist()) >= 2
        with pytest.raises(SettingsError, match="no layer"):
            nodes["LayerDiffuseSave"].execute("PSD", "glass", False)
        with pytest.raises(BatchSizeError, match="2 of bg for 3 sets"):
            nodes["LayerDiffuseSave"].execute(
                "PSD", "glass", False, fg=rand(3, 8, 8, 4), bg=rand(2, 8, 8, 3)
            )
