"""Where jobs are made to fail; a fast test checks that no hook of ours is left out."""

from __future__ import annotations

HOOKS = {
    "LayerDiffuse": {
        "before_process": "txt2img",
        "process": "txt2img",
        "before_process_init_images": "inpaint",
        "before_process_batch": "txt2img",
        "process_before_every_sampling": "txt2img",
        "before_hr": "hires",
        "post_sample": "txt2img",
        "postprocess_batch": "txt2img",
        "postprocess_batch_list": "txt2img",
        "postprocess_maskoverlay": "inpaint",
        "postprocess_image_after_composite": "txt2img",
        "postprocess": "txt2img",
    },
    "Differential Diffusion": {
        "before_process": "map",
        "process_before_every_sampling": "map",
        "on_mask_blend": "map",
        "postprocess_maskoverlay": "map",
        "postprocess": "map",
    },
}
"""Each hook of each script, and a kind of job that calls it."""

HOOK_FAULTS = [
    (title, hook, kind) for title, hooks in HOOKS.items() for hook, kind in hooks.items()
]
