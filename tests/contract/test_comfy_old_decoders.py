"""The decoders of workflows made for `ComfyUI-layerdiffuse`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from adapters import run
from comfy_nodes import nodes
from lent_webui import models

from lib_layerdiffuse.errors import BatchSizeError, ImageSizeError, LayerDiffuseError
from lib_layerdiffuse.methods import find_method

__all__ = ["models", "nodes", "run"]
pytestmark = pytest.mark.parametrize("run", ["comfy"], indirect=True)


class TestDecode:
    def given(self, batch=3, height=40, width=72):
        generator = torch.Generator().manual_seed(0)
        latent = torch.randn(batch, 4, height // 8, width // 8, generator=generator)
        return {"samples": latent}, torch.rand(batch, height, width, 3, generator=generator)

    def run_node(self, nodes, name, *given, **more):
        more = {"sd_version": "SDXL", "sub_batch_size": 16, "views": 1} | more
        return nodes[f"LayeredDiffusionDecode{name}"].execute(*given, **more).args

    def test_the_mask_is_alpha_itself(self, run, nodes):
        (rgba,) = self.run_node(nodes, "RGBA", *self.given())
        assert rgba.shape == (3, 40, 72, 4)
        assert rgba.dtype is torch.float32
        image, mask = self.run_node(nodes, "", *self.given())
        assert torch.equal(torch.cat([image, mask.unsqueeze(-1)], -1), rgba)

    def test_it_is_what_the_pipeline_makes(self, run, nodes):
        samples, images = self.given(batch=1)
        (rgba,) = self.run_node(nodes, "RGBA", samples, images, sd_version="SD15", views=2)
        tools = nodes["LayeredDiffusionDecode"].tools()
        arch = find_method("joint_sd15").arch
        codec = tools.session.decoder(arch)
        wanted = codec.decode(images.movedim(-1, 1), samples["samples"], views=2)[0]
        shown = np.round(wanted.movedim(0, -1).numpy() * 255) / 255
        np.testing.assert_allclose(rgba[0].numpy(), shown, atol=1e-6)

    @pytest.mark.parametrize("frames", [2, 3])
    def test_split_takes_sets_apart(self, run, nodes, frames):
        samples, images = self.given(batch=2 * frames)
        parts = self.run_node(nodes, "Split", samples, images, frames=frames)
        assert parts[0].shape == (2, 40, 72, 4)
        for frame in range(1, frames):
            assert torch.equal(parts[frame], images[frame::frames])
        assert parts[frames:] == (None,) * (3 - frames)
        (whole,) = self.run_node(nodes, "RGBA", samples, images)
        assert torch.equal(parts[0], whole[::frames])

    def test_images_with_alpha_and_half_precision_are_taken(self, run, nodes):
        samples, images = self.given(batch=1)
        four = torch.cat([images, torch.ones(1, 40, 72, 1)], -1)
        half = {"samples": samples["samples"].half()}
        (rgba,) = self.run_node(nodes, "RGBA", half, four)
        assert rgba.shape == (1, 40, 72, 4)

    def test_what_does_not_belong_together_is_refused(self, run, nodes):
        samples, images = self.given(batch=2)
        with pytest.raises(BatchSizeError, match="2 images and 1 latents"):
            self.run_node(nodes, "RGBA", {"samples": samples["samples"][:1]}, images)
        with pytest.raises(BatchSizeError, match="whole sets of 3"):
            self.run_node(nodes, "Split", samples, images, frames=3)
        with pytest.raises(ImageSizeError, match=r"SD1\.5 or SDXL"):
            self.run_node(nodes, "RGBA", {"samples": torch.zeros(2, 16, 5, 9)}, images)
        with pytest.raises(LayerDiffuseError, match="as the VAE decoded it"):
            self.run_node(nodes, "RGBA", samples, images[:, :32])

    def test_it_can_be_stopped(self, run, nodes):
        memory = run.parts.memory
        memory.interrupted = True
        with pytest.raises(memory.InterruptProcessingException):
            self.run_node(nodes, "RGBA", *self.given())
