"""One small run of each further panel of the host's own, as in `text_flows`.

A row is called after its panel; `host_lists` says how.
"""

from __future__ import annotations

from typing import Any

from client import Result
from flow_bench import Bench, Run, entering

LARGER = {"width": 128, "height": 128}
"""What the host's own tiles and FreeU need at least: they divide by 0 at 64."""
RUNS: dict[str, Run] = {}
flow = entering(RUNS)


def with_panel(bench: Bench, title: str, *values: Any, **named: Any) -> Result:
    """Returns what comes of a panel that changes what is sampled.

    Args:
        bench: The method's.
        title: The panel's, in lower case.
        *values: Its first arguments.
        **named: Others, by their labels.
    """
    made = bench.txt2img(scripts=bench.client.panel_args(title, *values, **named))
    bench.check(made)
    bench.check_differs(made, "the panel did nothing")
    return made


def _where_known(bench: Bench, title: str, **named: Any) -> dict[str, Any]:
    """Returns those arguments that this WebUI's panel has."""
    labels = {arg["label"].lower().replace(" ", "_") for arg in bench.client.panel(title)["args"]}
    return {name: value for name, value in named.items() if name in labels}


@flow("Sampler and schedule")
def sampler(bench: Bench) -> None:
    made = bench.txt2img(steps=3, sampler_name="DPM++ 2M SDE", scheduler="Karras")
    bench.check(made)
    assert "Sampler: DPM++ 2M SDE, Schedule type: Karras" in made.infotexts[0]


@flow("Seed variation")
def seed_variation(bench: Bench) -> None:
    made = bench.txt2img(subseed=5, subseed_strength=0.5, seed_resize_from_w=32)
    bench.check_acted(made)
    bench.check_decoded(made)
    assert [image.shape for image in made.images] == [one.shape for one in bench.base.images]
    assert set(made.info["all_seeds"]) == {1234}
    bench.check_differs(made, "the variation was lost")


@flow("Extra options")
def extra_options(bench: Bench) -> None:
    schedule = {"scheduler": "Karras"}  # The WebUIs' default one takes no such option.
    made = bench.txt2img(scripts=bench.client.panel_args("extra options", 5.0), **schedule)
    bench.check(made)
    bench.check_differs(made, "the panel did nothing", bench.txt2img(**schedule))


@flow("DynamicThresholding")
def dynamic_thresholding(bench: Bench) -> None:
    with_panel(bench, "dynamicthresholding (cfg-fix) integrated", True, mimic_scale=1)


@flow("FreeU")
def freeu(bench: Bench) -> None:
    panel = bench.client.panel_args("freeu integrated", True, b1=1.5, b2=1.6)
    made = bench.txt2img(scripts=panel, **LARGER)
    bench.check(made, side=128)
    bench.check_differs(made, "the panel did nothing", bench.txt2img(**LARGER))


@flow("Kohya HRFix")
def kohya_hrfix(bench: Bench) -> None:
    with_panel(bench, "kohya hrfix integrated", True)


@flow("LatentModifier")
def latent_modifier(bench: Bench) -> None:
    title, switch = "latentmodifier integrated", "enable_noise_&_combat_controls"
    named = {"rescale_cfg_phi": 0.7} | _where_known(bench, title, **{switch: True})
    with_panel(bench, title, True, **named)


@flow("MultiDiffusion")
def multidiffusion(bench: Bench) -> None:
    # In some WebUIs it is a panel of img2img alone.
    args = {"tile_width": 32, "tile_height": 32, "tile_overlap": 0, "img2img": True}
    made = bench.img2img(scripts=bench.client.panel_args("multidiffusion integrated", True, **args))
    bench.check(made)
    bench.check_differs(made, "the panel did nothing", bench.begun)


@flow("Never OOM")
def never_oom(bench: Bench) -> None:
    title = "never oom integrated"
    for on in (True, False):
        scripts = bench.client.panel_args(title, on, on)
        bench.check(bench.txt2img(scripts=scripts, **LARGER), side=128)


@flow("PerturbedAttentionGuidance")
def perturbed_attention(bench: Bench) -> None:
    with_panel(bench, "perturbedattentionguidance integrated", True)


@flow("SelfAttentionGuidance")
def self_attention_guidance(bench: Bench) -> None:
    title = "selfattentionguidance integrated"
    with_panel(bench, title, True, scale=5, **_where_known(bench, title, blur_mask_threshold=0))


@flow("StyleAlign")
def style_align(bench: Bench) -> None:
    title = "stylealign integrated"
    made = bench.txt2img(scripts=bench.client.panel_args(title, True, 0.5))
    bench.check(made)
    if bench.method.frames > 1:  # There is nothing to share in a batch of one.
        bench.check_differs(made, "the panel did nothing")
