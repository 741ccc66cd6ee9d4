"""Workflows made for `ComfyUI-layerdiffuse` open with the nodes here, and run."""

from __future__ import annotations

import pytest
import torch
from adapters import run
from comfy_nodes import nodes
from host_run import HIGH, LOW, differs, near
from lent_webui import models
from thinned import thinned

from lib_layerdiffuse.errors import BatchSizeError, ImageSizeError, LayerDiffuseError
from lib_layerdiffuse.methods import METHODS, find_method

__all__ = ["models", "nodes", "run"]
pytestmark = pytest.mark.parametrize("run", ["comfy"], indirect=True)

ATTN, CONV = "SDXL, Attention Injection", "SDXL, Conv Injection"
SDXL_PAIR = ["SDXL, Foreground", "SDXL, Background"]
SD15_PAIR = [
    "SD15, Foreground, attn_sharing, Batch size (2N)",
    "SD15, Background, attn_sharing, Batch size (2N)",
]
ALONE = [ATTN, CONV, "SD15, Attention Injection, attn_sharing"]
JOINT = ["SD15, attn_sharing, Batch size (3N)"]
MODEL, COND, LATENT, IMAGE, MASK = "Model", "Conditioning", "Latent", "Image", "Mask"
DECODE = ["samples", "images", "sd_version", "sub_batch_size"]
FACTS = {
    "LayeredDiffusionApply": (["model", "config", "weight"], [MODEL], ALONE),
    "LayeredDiffusionJointApply": (
        ["model", "config", "fg_cond", "bg_cond", "blended_cond"],
        [MODEL],
        JOINT,
    ),
    "LayeredDiffusionCondApply": (
        ["model", "cond", "uncond", "latent", "config", "weight"],
        [MODEL, COND, COND],
        SDXL_PAIR,
    ),
    "LayeredDiffusionCondJointApply": (
        ["model", "image", "config", "cond", "blended_cond"],
        [MODEL],
        SD15_PAIR,
    ),
    "LayeredDiffusionDiffApply": (
        ["model", "cond", "uncond", "blended_latent", "latent", "config", "weight"],
        [MODEL, COND, COND],
        SDXL_PAIR,
    ),
    "LayeredDiffusionDecode": (DECODE, [IMAGE, MASK], None),
    "LayeredDiffusionDecodeRGBA": (DECODE, [IMAGE], None),
    "LayeredDiffusionDecodeSplit": (
        ["samples", "images", "frames", "sd_version", "sub_batch_size"],
        [IMAGE] * 3,
        None,
    ),
}
"""What those workflows hold of each node: inputs in their order, outputs, and the choices."""
OPTIONAL = {"fg_cond", "bg_cond", "blended_cond"}


class TestWhatOldWorkflowsHold:
    @pytest.mark.parametrize("node_id", FACTS)
    def test_inputs_and_outputs_are_where_they_were(self, nodes, node_id):
        schema = nodes[node_id].define_schema()
        inputs, outputs, configs = FACTS[node_id]
        known, new = schema.inputs[: len(inputs)], schema.inputs[len(inputs) :]
        assert [one.id for one in known] == inputs
        assert all(one.optional for one in new)
        joint = node_id in ("LayeredDiffusionJointApply", "LayeredDiffusionCondJointApply")
        optional = OPTIONAL | ({"cond"} if joint else set())
        assert all(one.optional is (one.id in optional) for one in known)
        assert [one.kind for one in schema.outputs] == outputs
        if configs:
            config = next(one for one in known if one.id == "config")
            assert config.more["options"] == configs

    def test_widgets_have_their_values(self, nodes):
        widgets = {
            one.id: one.more for one in nodes["LayeredDiffusionApply"].define_schema().inputs
        }
        weight = widgets["weight"]
        assert [weight[key] for key in ("default", "min", "max", "step")] == [1.0, -1.0, 3.0, 0.05]
        split = nodes["LayeredDiffusionDecodeSplit"].define_schema().inputs
        widgets = {one.id: one.more for one in split}
        assert [widgets["frames"][key] for key in ("default", "min", "max")] == [2, 2, 3]
        assert widgets["sd_version"]["options"] == ["SD15", "SDXL"]
        assert widgets["sd_version"]["default"] == "SDXL"
        assert [widgets["sub_batch_size"][key] for key in ("default", "min", "max")] == [
            16,
            1,
            4096,
        ]

    def test_all_say_what_they_are_for(self, nodes):
        for node in nodes.values():
            schema = node.define_schema()
            assert schema.category == "LayerDiffuse"
            assert schema.description.endswith(".")
            widgets = [one for one in schema.inputs if one.kind in ("Float", "Int", "Combo")]
            assert all(one.more["tooltip"].endswith(".") for one in widgets), schema.node_id


def applied(run, nodes, node_id, method, *given, **more):
    """Returns what a node gives for a MODEL of the method's family."""
    run.open(find_method(method))
    return nodes[node_id].execute(run.plain, *given, **more).args


CASES = [
    ("LayeredDiffusionApply", ALONE, ["fg_attn_sdxl", "fg_conv_sdxl", "fg_attn_sd15"]),
    ("LayeredDiffusionJointApply", JOINT, ["joint_sd15"]),
    ("LayeredDiffusionCondApply", SDXL_PAIR, ["fg_to_blended_sdxl", "bg_to_blended_sdxl"]),
    ("LayeredDiffusionCondJointApply", SD15_PAIR, ["fg_to_bg_sd15", "bg_to_fg_sd15"]),
    ("LayeredDiffusionDiffApply", SDXL_PAIR, ["fg_blended_to_bg_sdxl", "bg_blended_to_fg_sdxl"]),
]
CONFIGS = [
    (node, config, method)
    for node, configs, methods in CASES
    for config, method in zip(configs, methods, strict=True)
]
EVERY_CONFIG = pytest.mark.parametrize(("node_id", "config", "method"), thinned(CONFIGS, 2))
CONDS = ("cond", "uncond")


def sockets(node_id):
    """Returns values for what a node has beside the model, the config and the weight."""
    of = {
        "cond": CONDS[0],
        "uncond": CONDS[1],
        "latent": {"samples": torch.full((1, 4, 8, 8), 0.5)},
        "blended_latent": {"samples": torch.full((1, 4, 8, 8), -0.5)},
        "image": torch.rand(1, 64, 64, 4, generator=torch.Generator().manual_seed(0)),
    }
    joint = node_id == "LayeredDiffusionCondJointApply"
    wanted = [one for one in FACTS[node_id][0] if one in of and not (joint and one == "cond")]
    return {name: of[name] for name in wanted}


class TestApply:
    def test_all_methods_have_a_node(self, run):
        assert {method for *_, method in CONFIGS} == {method.id for method in METHODS}

    @EVERY_CONFIG
    def test_it_draws_layers_and_conditionings_pass(self, run, nodes, node_id, config, method):
        more = sockets(node_id)
        made, *passed = applied(run, nodes, node_id, method, config=config, weight=1.0, **more)
        frames = find_method(method).frames
        plain = run.sample(run.plain, (HIGH,), frames)
        differs(run.sample(made, (HIGH,), frames), plain)
        assert passed == list(CONDS[: len(passed)])
        run.assert_as_before()

    @EVERY_CONFIG
    def test_weight_and_stop_at_act(self, run, nodes, node_id, config, method):
        more = sockets(node_id) | {"config": config}
        frames = find_method(method).frames
        (none, *_) = applied(run, nodes, node_id, method, weight=0.0, **more)
        near(run.sample(none, (HIGH,), frames), run.sample(run.plain, (HIGH,), frames))
        (half, *_) = nodes[node_id].execute(run.plain, weight=1.0, stop_at=0.5, **more).args
        near(run.sample(half, (LOW,), frames), run.sample(run.plain, (LOW,), frames), 0)
        differs(run.sample(half, (HIGH,), frames), run.sample(run.plain, (HIGH,), frames))

    def test_given_layers_stand_in_the_methods_order(self, run, nodes):
        """The given layer comes first, though its socket is the second."""
        node, config = "LayeredDiffusionDiffApply", SDXL_PAIR[0]
        more = sockets(node) | {"config": config, "weight": 1.0}
        (made, *_) = applied(run, nodes, node, "fg_blended_to_bg_sdxl", **more)
        swapped = more | {"latent": more["blended_latent"], "blended_latent": more["latent"]}
        (other, *_) = nodes[node].execute(run.plain, **swapped).args
        differs(run.sample(made, (HIGH,)), run.sample(other, (HIGH,)))
        tools = nodes[node].tools()
        layer = find_method("fg_blended_to_bg_sdxl")
        host = tools.host(run.plain)
        concat = torch.cat(
            [host.sampler_latent(more[name]["samples"]) for name in ("latent", "blended_latent")], 1
        )
        wanted = tools.apply(run.plain, layer, 1.0, 1.0, concat=concat)
        assert torch.equal(run.sample(made, (HIGH,)), run.sample(wanted, (HIGH,)))

    def test_load_images_mask_is_the_layers_alpha(self, run, nodes):
        node, method = "LayeredDiffusionCondJointApply", "bg_to_fg_sd15"
        image, more = sockets(node)["image"], {"config": SD15_PAIR[1]}
        (rgba,) = applied(run, nodes, node, method, image=image, **more)
        apart = {"image": image[..., :3], "mask": 1 - image[..., 3]}
        (masked,) = nodes[node].execute(run.plain, **apart, **more).args
        near(run.sample(masked, (HIGH,), 2), run.sample(rgba, (HIGH,), 2))
        none = {"image": image[..., :3], "mask": torch.zeros(1, 64, 64)[:, ::2, ::2]}
        (opaque,) = nodes[node].execute(run.plain, **none, **more).args
        differs(run.sample(opaque, (HIGH,), 2), run.sample(rgba, (HIGH,), 2))

    @pytest.mark.parametrize("socket", ["latent", "blended_latent"])
    def test_what_cannot_be_a_given_layer_is_refused(self, run, nodes, socket):
        node = "LayeredDiffusionDiffApply"
        more = sockets(node) | {"config": SDXL_PAIR[0], "weight": 1.0}
        for samples, error in (
            (torch.zeros(2, 4, 8, 8), BatchSizeError),
            (torch.zeros(1, 16, 8, 8), ImageSizeError),
        ):
            with pytest.raises(error):
                applied(
                    run,
                    nodes,
                    node,
                    "fg_blended_to_bg_sdxl",
                    **more | {socket: {"samples": samples}},
                )

    def test_another_family_is_told_in_words(self, run, nodes):
        run.open(find_method("joint_sd15"))
        with pytest.raises(LayerDiffuseError, match=r"SDXL checkpoint, but an SD1\.5 one"):
            nodes["LayeredDiffusionApply"].execute(run.plain, config=ATTN, weight=1.0)


def prompt(run, text, tokens=1):
    """Returns a CONDITIONING of one text, of so many times the usual length."""
    return [[run.tiny.conditioning([text]).repeat(1, tokens, 1), {}]]


class TestLayersOwnPrompts:
    def made(self, run, nodes, **conds):
        (made,) = applied(
            run, nodes, "LayeredDiffusionJointApply", "joint_sd15", config=JOINT[0], **conds
        )
        return made

    def test_each_layer_of_each_set_follows_its_own(self, run, nodes):
        plain = self.made(run, nodes)
        names = ("fg_cond", "bg_cond", "blended_cond")
        own = {name: prompt(run, f"the {name}") for name in names}
        made = nodes["LayeredDiffusionJointApply"].execute(run.plain, JOINT[0], **own).args[0]
        texts = [run.tiny.conditioning([f"not {i}" for i in range(6)])]
        texts.append(run.tiny.conditioning([f"the {name}" for name in names] * 2))
        noise = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(1))
        sample = run.samplers.CFGGuider
        wanted = sample(plain).sample(noise, [5.0], texts)
        others = [texts[0], run.tiny.conditioning(["main"] * 6)]
        near(sample(made).sample(noise, [5.0], others), wanted)
        differs(sample(plain).sample(noise, [5.0], others), wanted)

    def test_other_lengths_and_several_entries_are_taken_whole(self, run, nodes):
        plain = self.made(run, nodes)
        twice = prompt(run, "a") + prompt(run, "b")
        joined = [[torch.cat([entry[0] for entry in twice], 1), {}]]
        node = nodes["LayeredDiffusionJointApply"]
        one, other, same = (
            run.sample(node.execute(run.plain, JOINT[0], fg_cond=cond).args[0], (HIGH,), 3)
            for cond in (twice, joined, prompt(run, "a", tokens=3))
        )
        near(one, other)
        near(
            same,
            run.sample(
                node.execute(run.plain, JOINT[0], fg_cond=prompt(run, "a")).args[0], (HIGH,), 3
            ),
        )
        differs(one, run.sample(plain, (HIGH,), 3))

    def test_the_others_follow_the_samplers(self, run, nodes):
        plain = run.sample(self.made(run, nodes), (HIGH,), 3)
        (made,) = (
            nodes["LayeredDiffusionJointApply"]
            .execute(run.plain, JOINT[0], bg_cond=prompt(run, "a row 1"))
            .args
        )
        near(run.sample(made, (HIGH,), 3), plain)

    def test_a_guider_with_an_order_of_its_own_is_refused(self, run, nodes):
        made = self.made(run, nodes, fg_cond=prompt(run, "a"))
        guider = run.samplers.CFGGuider(made)
        guider.conds["middle"] = []
        texts = [run.tiny.conditioning(["a"] * 3)] * 2
        with pytest.raises(LayerDiffuseError, match="Dual CFG Guider"):
            guider.sample(torch.zeros(3, 4, 8, 8), [5.0], texts)

    def test_an_empty_one_is_refused(self, run, nodes):
        with pytest.raises(LayerDiffuseError, match="empty"):
            self.made(run, nodes, fg_cond=[])
