"""One small run of each flow of docs/flows.md that begins with a text, checked, for any method.

`RUNS` has the names of the page's rows, in their order. A run that is refused raises what the
server answered with.
"""

from __future__ import annotations

from typing import Any

import flow_jobs
import numpy as np
from flow_bench import SIDE, Bench, Run, entering, other_family
from flow_jobs import HIRES
from layers import mode_of
from random_loras import LORAS

from lib_layerdiffuse.methods import Arch, Layer
from lib_layerdiffuse.outputs import preview

RUNS: dict[str, Run] = {}
flow = entering(RUNS)
PIXELS = HIRES | {"hr_upscaler": "None"}
"""Hires fix as every WebUI has it: resized as images are. One knows no latents, nor Lanczos."""


@flow("txt2img")
def txt2img(bench: Bench) -> None:
    bench.check(bench.base)


@flow("Batch size and batch count")
def batches(bench: Bench) -> None:
    made = bench.txt2img(n_iter=2, batch_size=2)
    bench.check(made, sets=4)
    assert len({image.tobytes() for image in made.images}) == 4 * bench.method.frames


def hires(bench: Bench, upscaler: str) -> None:
    made = bench.txt2img(**HIRES | {"hr_upscaler": upscaler})
    bench.check(made, side=2 * SIDE)
    assert [one["size"] for one in made.run["passes"]] == [[SIDE, SIDE], [2 * SIDE, 2 * SIDE]]


@flow("Hires fix, latent upscaler")
def hires_of_latents(bench: Bench) -> None:
    hires(bench, "Latent")


@flow("Hires fix, pixel upscaler")
def hires_of_pixels(bench: Bench) -> None:
    hires(bench, PIXELS["hr_upscaler"])


@flow("Hires fix, checkpoint of another family")
def hires_in_another_family(bench: Bench) -> None:
    bench.check(bench.txt2img(**PIXELS, hr_checkpoint_name=other_family(bench)), side=2 * SIDE)


@flow("✨ on a result")
def upscale_button(bench: Bench) -> None:
    made = bench.txt2img(upscale=bench.base.images[0], **PIXELS)
    bench.check(made, side=2 * SIDE)
    assert len(made.run["passes"]) == 1


@flow("Chain")
def chain(bench: Bench, **options: Any) -> None:
    enough = {"steps": 3, **options}  # The fewest for the second step's sampler.
    made = bench.txt2img(settings={"chain": True}, **enough)
    (given,) = bench.method.inputs
    second = Layer.FG if given is Layer.BG else Layer.BG
    layers = made.info["extra_generation_params"]["layerdiffusion_layers"]
    assert layers == ["blended", second.value, f"{given.value}-given"]
    np.testing.assert_array_equal(made.images[0], bench.txt2img(**enough).images[0])
    assert made.images[1].shape == (SIDE, SIDE, 4 if second is Layer.FG else 3)


@flow("Chain with hires fix")
def chain_with_hires(bench: Bench) -> None:
    chain(bench, **PIXELS)


@flow("X/Y/Z plot")
def plot(bench: Bench) -> None:
    made = bench.txt2img(**flow_jobs.plot(bench.client, x_type="Seed", x_values="1234,5"))
    bench.check_acted(made)
    first, second = made.images[-2:]
    layer, sheet = bench.base.images[0], bench.method.frames > 1
    if sheet and first.shape[2] < layer.shape[2]:  # The WebUI draws sheets without alpha.
        layer = preview(layer)
    # The cell of a set is a sheet of its layers, the first one at its top left.
    np.testing.assert_array_equal(first[:SIDE, :SIDE, : layer.shape[2]], layer)
    assert (first.shape == layer.shape) != sheet
    assert (first != second).any()


@flow("Prompt matrix")
def prompt_matrix(bench: Bench) -> None:
    made = bench.txt2img(prompt="a glass ball|red", **bench.client.script_args("prompt matrix"))
    bench.check_acted(made)
    bench.check_matrix(made.images)


@flow("Prompts from file or textbox")
def prompts_from_file(bench: Bench) -> None:
    title, lines = "prompts from file or textbox", "a glass ball\na dog"
    script = bench.client.script_args(title, list_of_prompt_inputs=lines)
    made = bench.txt2img(prompt="", **script)
    bench.check_acted(made)
    bench.check_repeats(made.images)


@flow("Face restoration")
def face_restoration(bench: Bench) -> None:
    option = {"face_restoration_model": "E2E"}
    made = bench.txt2img(restore_faces=True, override_settings=option)
    bench.check_acted(made)
    bench.check_edited(made, bench.base)
    for image, before in bench.opaque(made, bench.base):
        half = SIDE // 2
        np.testing.assert_array_equal(image, np.concatenate([255 - before[:half], before[half:]]))


@flow("Detailer, a job inside the job")
def detailer(bench: Bench) -> None:
    folder = bench.new_folder()
    made = bench.txt2img(scripts={"e2e edits": ["nested", str(folder)]})
    nested = sorted(folder.glob("*.png"))
    assert len(nested) == bench.method.frames
    assert {mode_of(path) for path in nested} == {"RGB"}, "the nested job made layers"
    np.testing.assert_array_equal(made.latents, bench.base.latents)
    bench.check_edited(made, bench.base)


@flow("Refiner")
def refiner(bench: Bench) -> None:
    bench.check(bench.txt2img(refiner_checkpoint=bench.checkpoint, refiner_switch_at=0.5))


@flow("CFG scale 1")
def cfg_1(bench: Bench) -> None:
    made = bench.txt2img(cfg_scale=1)
    bench.check(made)
    bench.check_differs(made, "there is a negative prompt")


@flow("Negative prompt skipped in some steps")
def skipped_negative_prompt(bench: Bench) -> None:
    # One WebUI reads the option before it is set for the job, and has a field beside it.
    skipping = {"skip_early_cond": 1.0, "override_settings": {"skip_early_cond": 1.0}}
    early = bench.txt2img(steps=2, **skipping)
    bench.check(early)
    # One WebUI never skips it in the first step.
    bench.check_differs(early, "there is a negative prompt", bench.txt2img(steps=2))
    ngms = {"s_min_uncond": 100, "override_settings": {"s_min_uncond": 100}}
    every_other = bench.txt2img(steps=2, **ngms)
    bench.check(every_other)
    assert "NGMS" in every_other.infotexts[0]


BOTH = "a glass ball :0.5 AND a lake :0.5"


@flow("`AND` in the prompt")
def composed_prompts(bench: Bench) -> None:
    made = bench.txt2img(prompt=BOTH)
    bench.check(made)
    bench.check_differs(made, "the second prompt was lost")


@flow("`AND` with a region for each prompt, by masks")
def regions_by_masks(bench: Bench) -> None:
    made = bench.txt2img(prompt=BOTH, scripts={"e2e regions": ["mask"]})
    bench.check(made)
    half = made.latents.shape[3] // 2
    apart = np.abs(made.latents - bench.base.latents)
    assert apart[..., :half].max() < 2e-4 * np.abs(made.latents).max(), "the left half changed"
    assert apart[..., half:].max() > 0.001, "the right half did not change"


@flow("`AND` with a region for each prompt, by areas")
def regions_by_areas(bench: Bench) -> None:
    made = bench.txt2img(prompt=BOTH, scripts={"e2e regions": ["area"]})
    bench.check(made)
    bench.check_differs(made, "the second prompt was lost")


@flow("`AND` in a layer prompt")
def composed_layer_prompt(bench: Bench) -> None:
    bench.check(bench.txt2img(settings={"fg_additional_prompt": "a cat AND a dog"}))


@flow("LoRA in the prompt")
def lora(bench: Bench) -> None:
    made = bench.txt2img(prompt=f"a glass ball <lora:{LORAS[bench.method.arch]}:1>")
    bench.check(made)
    bench.check_differs(made, "the LoRA was lost")


@flow("LoRA in a layer prompt")
def lora_of_a_layer(bench: Bench) -> None:
    tag = f"<lora:{LORAS[bench.method.arch]}:1>"
    bench.check(bench.txt2img(settings={"bg_additional_prompt": tag}))


@flow("Token merging")
def token_merging(bench: Bench) -> None:
    made = bench.txt2img(override_settings={"token_merging_ratio": 0.5})
    bench.check(made)
    assert "Token merging ratio: 0.5" in made.infotexts[0]
    if bench.method.arch is Arch.SD15:  # The host merges at a level where SDXL attends to nothing.
        bench.check_differs(made, "no token was merged")


@flow("ControlNet unit")
def controlnet(bench: Bench) -> None:
    model = flow_jobs.controlnet(bench.client, bench.method.arch)
    made = bench.txt2img(scripts=flow_jobs.control_unit(model))
    bench.check(made)
    bench.check_differs(made, "the unit was lost")


@flow("ControlNet unit, Reference")
def reference(bench: Bench) -> None:
    made = bench.txt2img(scripts=flow_jobs.control_unit("None", "reference_only"))
    bench.check(made)
    bench.check_differs(made, "the unit was lost")


@flow("Interrupt")
def interrupt(bench: Bench) -> None:
    made = bench.txt2img(interrupt_at=0, steps=3)
    bench.check(made)
    assert made.run["steps"] == 1
