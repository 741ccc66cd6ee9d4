"""Sets are laid out on what all other scripts have made of prompts, seeds and numbers."""

from __future__ import annotations

import copy
import math
import random
import re
from importlib import import_module
from itertools import product

import pytest
from started_webui import WebUI, picture, request

from lib_layerdiffuse.errors import BatchSizeError
from lib_layerdiffuse.methods import find_method

JOINT, FG_SD15 = find_method("joint_sd15"), find_method("fg_attn_sd15")
TEMPLATE = "a {red|blue|green|white} apple"
COLOURS = ("red", "blue", "green", "white")
_CHOICE = re.compile(r"\{([^{}]*)\}")


@pytest.fixture
def ui(webui, models, tmp_path):
    return WebUI(models, tmp_path / "outputs")


def drawn(text, seed):
    """Returns a text with one word of each choice, by a seed."""
    pick = random.Random(seed)
    return _CHOICE.sub(lambda found: pick.choice(found[1].split("|")), text)


def combined(text):
    """Returns a text with each word of each choice."""
    parts = _CHOICE.split(text)
    words = [part.split("|") if place % 2 else [part] for place, part in enumerate(parts)]
    return ["".join(chosen) for chosen in product(*words)]


def wildcards(ui, *, combine=False, fixed_seed=False):
    """Returns a script that draws wildcards as sd-dynamic-prompts does."""

    def process(self, p, *_):
        asked = p.n_iter * p.batch_size
        prompt, negative = p.all_prompts[0], p.all_negative_prompts[0]
        pairs = list(product(combined(prompt), combined(negative)))
        number = len(pairs) if combine else asked
        seeds = [p.all_seeds[0] + (0 if fixed_seed else i) for i in range(number)]
        if not combine:
            pairs = [(drawn(prompt, seed), drawn(negative, seed)) for seed in seeds]
        p.all_seeds, p.all_subseeds = seeds, [p.all_subseeds[0] + i for i in range(number)]
        p.n_iter = math.ceil(number / p.batch_size)
        p.all_prompts, p.all_negative_prompts = (list(texts) for texts in zip(*pairs, strict=True))
        if getattr(p, "enable_hr", False):
            p.all_hr_prompts, p.all_hr_negative_prompts = (
                list(p.all_prompts),
                list(p.all_negative_prompts),
            )

    return ui.new_script(process=process)


def sets(rows, frames=3):
    """Returns each set's text, which all of its rows must have."""
    made = [rows[i : i + frames] for i in range(0, len(rows), frames)]
    assert all(len(of_set) == frames and len(set(of_set)) == 1 for of_set in made), rows
    return [of_set[0] for of_set in made]


def places(script, order):
    return {"before": [script]} if order == "first" else {"after": [script]}


ORDERS = pytest.mark.parametrize("order", ["first", "last"])


class TestWildcards:
    @ORDERS
    def test_are_drawn_once_a_set(self, ui, order):
        p = ui.job(
            JOINT,
            request(JOINT),
            prompt=TEMPLATE,
            negative_prompt="{dark|bright} fog",
            batch_size=2,
            n_iter=2,
            **places(wildcards(ui), order),
        )
        result = ui.run(p)
        prompts = [text for rows, _ in p.conditioned_on for text in sets(rows)]
        negatives = [text for _, rows in p.conditioned_on for text in sets(rows)]
        assert prompts == [drawn(TEMPLATE, 100 + i) for i in range(4)]
        assert negatives == [drawn("{dark|bright} fog", 100 + i) for i in range(4)]
        assert sets(result.all_prompts) == prompts
        assert [image.mode for image in result.images] == ["RGBA", "RGB", "RGB"] * 4
        assert [text.split("\n")[0] for text in result.infotexts] == result.all_prompts

    def test_keep_the_seed_that_they_were_drawn_by(self, ui):
        script = wildcards(ui)
        p = ui.job(JOINT, request(JOINT), prompt=TEMPLATE, n_iter=2, seed=7, before=[script])
        assert ui.run(p).all_seeds == [7, 8, 9, 8, 9, 10]

    def test_of_one_fixed_seed(self, ui):
        script = wildcards(ui, combine=True, fixed_seed=True)
        p = ui.job(JOINT, request(JOINT), prompt=TEMPLATE, seed=7, before=[script])
        assert ui.run(p).all_seeds == [7, 8, 9] * 4

    @pytest.mark.parametrize(("order", "batch_size"), [("first", 1), ("last", 3)])
    def test_combined_make_as_many_sets_as_there_are(self, ui, order, batch_size):
        script = wildcards(ui, combine=True)
        p = ui.job(
            JOINT,
            request(JOINT),
            prompt=TEMPLATE,
            batch_size=batch_size,
            **places(script, order),
        )
        result = ui.run(p)
        assert sets(result.all_prompts) == [f"a {colour} apple" for colour in COLOURS]
        assert [image.mode for image in result.images] == ["RGBA", "RGB", "RGB"] * 4
        assert p.batch_size == batch_size

    def test_stand_beside_layer_prompts_and_styles(self, ui):
        p = ui.job(
            JOINT,
            request(JOINT, fg_additional_prompt="a cat"),
            prompt="{a|b}",
            styles=["{c|d}"],
            before=[wildcards(ui)],
        )
        ui.run(p)
        main = drawn("{a|b}, {c|d}", 100)
        assert p.conditioned_on[0][0] == [f"a cat, {main}", main, main]

    @ORDERS
    def test_are_the_same_in_both_passes_of_hires_fix(self, ui, order):
        p = ui.job(
            JOINT,
            request(JOINT),
            kind=import_module("hires_job").HiresProcessing,
            prompt=TEMPLATE,
            negative_prompt="{dark|bright}",
            n_iter=2,
            **places(wildcards(ui), order),
        )
        ui.run(p)
        assert p.hires_conditioned_on == p.conditioned_on
        assert [sets(rows)[0] for rows, _ in p.conditioned_on] == [
            drawn(TEMPLATE, 100 + i) for i in range(2)
        ]

    @ORDERS
    def test_of_img2img(self, ui, order):
        p = ui.job(
            JOINT,
            request(JOINT),
            kind=import_module("img2img_job").Img2ImgJob,
            init_images=[picture(), picture(90)],
            batch_size=2,
            prompt=TEMPLATE,
            **places(wildcards(ui), order),
        )
        result = ui.run(p)
        assert sets(p.conditioned_on[0][0]) == [drawn(TEMPLATE, 100 + i) for i in range(2)]
        assert [image.mode for image in result.images] == ["RGBA", "RGB", "RGB"] * 2
        assert len(p.init_images) == p.batch_size == 2

    def test_over_the_api_a_list_counts_images(self, ui):
        p = ui.job(
            JOINT,
            True,
            JOINT.label,
            prompt=TEMPLATE,
            is_api=True,
            batch_size=4,
            before=[wildcards(ui)],
        )
        result = ui.run(p)
        assert sets(result.all_prompts) == [drawn(TEMPLATE, 100 + i) for i in range(2)]

    def test_of_a_job_that_is_switched_off(self, ui):
        p = ui.job(JOINT, False, prompt=TEMPLATE, n_iter=3, before=[wildcards(ui)])
        assert ui.run(p).all_prompts == [drawn(TEMPLATE, 100 + i) for i in range(3)]

    def test_of_one_layer_stay_as_they_are(self, ui):
        p = ui.job(
            FG_SD15,
            request(FG_SD15),
            prompt=TEMPLATE,
            n_iter=3,
            before=[wildcards(ui)],
        )
        result = ui.run(p)
        assert result.all_prompts == [drawn(TEMPLATE, 100 + i) for i in range(3)]
        assert result.all_seeds == [100, 101, 102]


class TestOtherWriters:
    @pytest.mark.parametrize(
        ("hook", "order"), [("before_process_batch", "last"), ("process_batch", "first")]
    )
    def test_prompts_written_in_a_batch(self, ui, hook, order):
        def write(self, p, *_, **__):
            p.prompts = [drawn(TEMPLATE, seed) for seed in p.seeds]
            p.negative_prompts = [drawn("{dark|bright}", seed) for seed in p.seeds]
            first = p.iteration * p.batch_size
            p.all_prompts[first : first + len(p.prompts)] = p.prompts

        script = ui.new_script(**{hook: write})
        texts = {"bg_additional_prompt": "a lake"}
        p = ui.job(JOINT, request(JOINT, **texts), n_iter=2, **places(script, order))
        result = ui.run(p)
        mains = [drawn(TEMPLATE, seed) for seed in (100, 103)]
        for main, (rows, negatives) in zip(mains, p.conditioned_on, strict=True):
            assert rows == [main, f"a lake, {main}", main]
            sets(negatives)
        assert sets(result.all_prompts) == mains
        assert [text.split("\n")[0] for text in result.infotexts] == result.all_prompts

    @pytest.mark.parametrize("hook", ["before_process", "process"])
    def test_a_batch_size_written_late(self, ui, hook):
        def write(self, p, *_):
            p.batch_size = 2
            if hook == "process":
                p.all_prompts, p.all_negative_prompts = ["a", "b"], ["c", "d"]
                p.all_seeds = p.all_subseeds = [5, 50]

        p = ui.job(JOINT, request(JOINT), after=[ui.new_script(**{hook: write})])
        result = ui.run(p)
        assert [image.mode for image in result.images] == ["RGBA", "RGB", "RGB"] * 2
        late = hook == "process"
        assert sets(p.conditioned_on[0][0]) == (["a", "b"] if late else ["a boat"] * 2)
        assert result.all_seeds == ([5, 6, 7, 50, 51, 52] if late else [*range(100, 106)])

    def test_init_images_written_late(self, ui):
        def write(self, p, *_):
            p.init_images = [picture(10, alpha=128)]

        kind = import_module("img2img_job").Img2ImgJob
        p = ui.job(
            JOINT,
            request(JOINT),
            kind=kind,
            init_images=[picture(200)],
            after=[ui.new_script(process=write)],
        )
        ui.run(p)
        assert [image.getpixel((0, 0))[0] for image in p.given] == [10] * 3

    def test_rows_that_a_script_takes_out_are_refused(self, ui):
        def write(self, p, *_, **__):
            p.prompts, p.negative_prompts = p.prompts[:2], p.negative_prompts[:2]

        p = ui.job(JOINT, request(JOINT), after=[ui.new_script(process_batch=write)])
        with pytest.raises(BatchSizeError, match="2 prompts"):
            ui.run(p)
        assert not p.sampled_with

    def test_a_script_sees_the_main_prompts(self, ui):
        seen = []
        script = ui.new_script(process_batch=lambda self, p, *_, **__: seen.extend(p.prompts))
        texts = {"fg_additional_prompt": "a cat"}
        ui.run(ui.job(JOINT, request(JOINT, **texts), after=[script]))
        assert seen == ["a boat"] * 3


class TestLayerPrompts:
    def run(self, ui, *before, **fields):
        texts = {"fg_additional_prompt": "a __pet__", "bg_negative_prompt": "__fog__"}
        p = ui.job(JOINT, request(JOINT, **texts), before=before, **fields)
        return p, ui.run(p)

    def test_are_drawn_once_a_set_by_a_script_that_offers_to(self, ui):
        """As stable-diffusion-webui-wildcards does, by texts and seeds."""

        def replace_prompts(self, prompts, seeds):
            pairs = zip(prompts, seeds, strict=True)
            return [text.replace("__", f"<{seed}>") for text, seed in pairs]

        script = ui.new_script(replace_prompts=replace_prompts)
        p, result = self.run(ui, script, batch_size=2, n_iter=2)
        for first, (prompts, negatives) in zip((100, 106), p.conditioned_on, strict=True):
            drawn = [f"a <{seed}>pet<{seed}>, a boat" for seed in (first, first + 3)]
            assert prompts == [drawn[0], *["a boat"] * 2, drawn[1], *["a boat"] * 2]
            assert negatives[4] == f"<{first + 3}>fog<{first + 3}>, blurry"
        assert "additional_prompt: a __pet__" in result.infotexts[0]
        assert not p.comments

    def test_of_a_chain_are_drawn_for_both_steps(self, ui):
        def draw(self, prompts, seeds):
            pairs = zip(prompts, seeds, strict=True)
            return [text.replace("__pet__", str(seed)) for text, seed in pairs]

        method = find_method("bg_to_blended_sdxl")
        own = {"blend_additional_prompt": "__pet__ here", "fg_additional_prompt": "__pet__"}
        p = ui.job(
            method,
            request(method, chain=True, **own),
            before=[ui.new_script(replace_prompts=draw)],
        )
        result = ui.run(p)
        assert p.conditioned_on[0][0] == ["100 here, a boat"]
        assert result.all_prompts == ["a boat", "100, a boat"]

    def test_are_told_of_where_nothing_draws_them(self, ui):
        p, _ = self.run(ui)
        (note,) = p.comments
        assert "__pet__ stays as it is written" in note
        assert p.conditioned_on[0][0][0] == "a __pet__, a boat"


class TestTheProcessingObject:
    def test_it_is_of_its_own_kind_again_after_the_job(self, ui):
        p = ui.job(JOINT, request(JOINT))
        kind, before = type(p), copy.copy(vars(p))
        ui.run(p)
        assert type(p) is kind
        assert not {name for name, value in vars(p).items() if callable(value)} - set(before)

    def test_it_is_of_its_own_kind_again_after_an_error(self, ui):
        def write(self, p, *_, **__):
            p.prompts = p.prompts[:2]

        p = ui.job(JOINT, request(JOINT), after=[ui.new_script(process_batch=write)])
        kind = type(p)
        with pytest.raises(BatchSizeError):
            ui.run(p)
        assert type(p) is kind

    def test_a_copy_made_while_it_runs_lays_out_itself(self, ui):
        made = []

        def twin(self, p, *_):
            if not made:
                made.append(copy.copy(p))

        p = ui.job(JOINT, request(JOINT), after=[ui.new_script(process=twin)])
        ui.run(p)
        (other,) = made
        other.conditioned_on = []
        assert len(ui.run(other).images) == 3
        assert len(other.conditioned_on[0][0]) == 3
