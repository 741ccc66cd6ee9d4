"""`layerdiffuse generate` and `chain`: from options to files, on small random checkpoints."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import random_family
import tiny_diffusers
from PIL import Image
from thinned import thinned

from lib_layerdiffuse.cli import job_options, main
from lib_layerdiffuse.cli.parsing import Parser
from lib_layerdiffuse.cli.progress_bars import Bars
from lib_layerdiffuse.hosts.diffusers import Offload
from lib_layerdiffuse.imaging.images import ResizeMode
from lib_layerdiffuse.methods import METHODS, Arch, find_method
from lib_layerdiffuse.standalone import run as running
from lib_layerdiffuse.standalone.generation import Generation
from lib_layerdiffuse.standalone.models import Models
from lib_layerdiffuse.standalone.output import OutputFolder

ROOT = Path(__file__).parents[2]
SIDE = random_family.SIDE
ONE_STEP = ("--steps", "1", "--seed", "5", "--sampler", "Euler")


@pytest.fixture(autouse=True)
def _in_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def picture(name: str, channels: int = 4) -> str:
    pixels = np.random.default_rng(1).integers(0, 256, (40, 56, channels), np.uint8)
    Image.fromarray(pixels).save(name)
    return name


def inputs(method) -> list[str]:
    return [
        x for layer in method.inputs for x in (f"--{layer.value}", picture(f"{layer.value}.png"))
    ]


def fails(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Runs a command that has to fail, and returns its one line."""
    assert main(list(arguments)) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err


@pytest.mark.parametrize("method", thinned(METHODS, 7), ids=lambda m: m.id)
def test_every_method_makes_its_layers(capfd, family, method):
    command = ["generate", "--method", method.id, "--prompt", "a red apple", *ONE_STEP, "--json"]
    assert main([*command, *inputs(method), "--sets", "2"]) == 0
    told = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(t["layer"], t["set"]) for t in told] == [
        (layer.value, of_set) for of_set in (0, 1) for layer in method.outputs
    ]
    assert [t["seed"] for t in told] == [5 + i for i in range(2 * method.frames)]
    for t in told:
        assert (t["size"], t["method"]) == ([SIDE, SIDE], method.id)
        assert t["path"] == f"out/0000{t['set']}-{t['seed']}-{t['layer']}.png"
        with Image.open(t["path"]) as read:
            assert read.size == (SIDE, SIDE)
            assert read.mode == ("RGBA" if t["layer"] == "fg" else "RGB")
            assert read.info["parameters"] == t["infotext"]
        assert f"Seed: {t['seed']}, " in t["infotext"]
        assert f"layerdiffusion_method: {method.label}" in t["infotext"]
    assert len(list(Path("out").iterdir())) == len(told)


def test_paths_and_a_note_for_people(capfd, family):
    command = ["generate", "--method", "fg_attn_sd15", "--prompt", "a cat", *ONE_STEP]
    assert main([*command, "--preview", "--matte", "--out", "mine"]) == 0
    out, err = capfd.readouterr()
    assert out.split() == [f"mine/00000-5-fg{extra}.png" for extra in ("", "-preview", "-matte")]
    assert "no --checkpoint is given, so the tiny family of this package draws" in err
    assert main([*command, "--quiet"]) == 0
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_the_seed_decides(capfd, family):
    def drawn(*seed: str) -> np.ndarray:
        command = ["generate", "--method", "fg_attn_sdxl", "--quiet", "--steps", "1", *seed]
        assert main(command) == 0
        return np.asarray(Image.open(capfd.readouterr().out.strip()))

    one, same, other = (drawn("--seed", seed) for seed in ("1", "1", "2"))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    assert (drawn() != drawn()).any()


def test_a_checkpoint_of_the_users_takes_the_ordinary_files(capfd, family):
    checkpoint = str(tiny_diffusers.checkpoint(Arch.SD15))
    command = ["generate", "--checkpoint", checkpoint, "--models-dir", str(family), *ONE_STEP]
    command += ["--method", "fg_attn_sd15", "--size", "72x64", "--offline"]
    assert main(command) == 0
    out, err = capfd.readouterr()
    assert err == ""
    with Image.open(out.strip()) as read:
        assert read.size == (72, 64)
        assert "Model: sd15," in read.info["parameters"]


@pytest.mark.parametrize(
    "command",
    [
        ["generate", "--method", "fg_attn_sd15", "--prompt", "a <lora:x:1>"],
        ["generate", "--method", "fg_attn_sd15", "--negative-prompt", "a AND b"],
        ["generate", "--method", "joint_sd15", "--bg-prompt", "[a|b:c]"],
        ["chain", "bg-to-fg", "--bg", "bg.png", "--fg-prompt", "<lora:x:1>"],
    ],
)
def test_prompts_are_refused_before_a_checkpoint_is_loaded(capfd, monkeypatch, command):
    def open_nothing(*_: object) -> None:
        raise AssertionError("the checkpoint is loaded first")

    monkeypatch.setattr(Models, "open", open_nothing)
    picture("bg.png")
    fails(capfd, *command, "--quiet")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, family: Path) -> list[Generation]:
    """Puts a stand-in in the place of `run`, and returns the jobs that it is given."""
    seen: list[Generation] = []
    monkeypatch.setattr(running, "run", lambda job, *_, **__: seen.append(job) or [])
    return seen


def test_letters_of_either_case(asked):
    command = ["generate", "--method", "FG_Attn_SD15", "--sampler", "dpm++  2m KARRAS", "--quiet"]
    command += ["--resize-mode", "CROP", "--dtype", "Float32", "--offload", "NONE"]
    assert main(command) == 0
    (job,) = asked
    assert job.settings.method.id == "fg_attn_sd15"
    assert (job.sampler, job.settings.resize_mode) == ("DPM++ 2M Karras", ResizeMode.CROP)


def test_every_option_reaches_the_job(asked):
    command = ["generate", "--method", "(SD1.5) From Foreground to Background"]
    command += ["--fg", picture("fg.png"), "--init", picture("i.png", 3), "--denoise", "0.3"]
    command += ["--prompt", "p", "--negative-prompt", "n", "--bg-prompt", "bp"]
    command += ["--blended-prompt", "lp", "--bg-negative-prompt", "bn", "--size", "128x64"]
    command += ["--sets", "3", "--seed", "9", "--steps", "7", "--cfg", "4.5", "--sampler", "DDIM"]
    command += ["--weight", "0.5", "--stop-at", "0.75", "--resize-mode", "fill", "--matte"]
    command += ["--composite", "--raw", "--views", "2", "--compiled"]
    assert main(command) == 0
    (job,) = asked
    settings = job.settings
    assert settings.method is find_method("fg_to_bg_sd15")
    assert (settings.strength, settings.stop_at, settings.enabled) == (0.5, 0.75, True)
    assert (settings.resize_mode, settings.show_matte) == (ResizeMode.FILL, True)
    assert (settings.bg_prompt, settings.blended_prompt) == ("bp", "lp")
    assert settings.bg_negative_prompt == "bn"
    assert (settings.show_composite, settings.show_raw) == (True, True)
    assert settings.show_preview is False
    given = np.asarray(Image.open("fg.png")) / np.float32(255)
    np.testing.assert_allclose(settings.fg_image, given, atol=1e-6)
    assert (job.prompt, job.negative_prompt) == ("p", "n")
    assert (job.views, job.compiled) == (2, True)
    assert (job.width, job.height, job.sets, job.seed) == (128, 64, 3, 9)
    assert (job.steps, job.cfg, job.sampler, job.denoise) == (7, 4.5, "DDIM", 0.3)
    assert (job.init[..., 3] == 1).all()


@pytest.mark.parametrize(
    ("method", "sampler", "stop_at"),
    [
        ("fg_attn_sd15", "DPM++ 2M Karras", 1),
        ("fg_attn_sdxl", "DPM++ 2M SDE Karras", 1),
        ("bg_blended_to_fg_sdxl", "Euler a", 1),
        ("fg_blended_to_bg_sdxl", "UniPC", 0.5),
    ],
)
def test_what_is_not_said_is_the_authors_choice(asked, method, sampler, stop_at):
    assert main(["generate", "--method", method, *inputs(find_method(method))]) == 0
    (job,) = asked
    assert (job.sampler, job.settings.stop_at) == (sampler, stop_at)
    assert (job.steps, job.cfg, job.sets, job.init) == (20, 3, 1, None)
    assert 0 <= job.seed < 2**32


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "the following arguments are required: --method"),
        ("--method nothing", "There is no method called nothing. Choose one of: fg_attn_sd15"),
        ("--method fg_attn_sd15 --size 100x64", "--size: '100x64' is no size that can be made."),
        ("--method fg_attn_sd15 --size 64x64x64", "Write one such as 512x640"),
        ("--method fg_attn_sd15 --size ²x64", "is no size that can be made"),
        ("--method fg_attn_sd15 --steps 0", "must be a whole number between 1 and 150, but is '0'"),
        ("--method fg_attn_sd15 --sets many", "must be a whole number between 1 and 64"),
        ("--method fg_attn_sd15 --cfg nan", "must be a number between 1 and 30"),
        ("--method fg_attn_sd15 --weight 3", "Weight must be between 0 and 2, but is '3'. Choose"),
        ("--method fg_attn_sd15 --stop-at x", "Stop at must be between 0 and 1, but is 'x'"),
        ("--method fg_attn_sd15 --layers psd,gif", "layer file called gif. Choose one of: psd"),
        ("--method fg_attn_sd15 --seed 4294967296", "seed must be between 0 and 4294967295"),
        ("--method fg_attn_sd15 --seed 4294967295 --sets 2 --quiet", "but one is 4294967296"),
        ("--method fg_attn_sd15 --seed x", "seed must be between 0 and 4294967295, but one is 'x'"),
        ("--method fg_attn_sd15 --trim", "--trim needs --layers."),
        ("--method fg_attn_sd15 --denoise 0.5", "--denoise needs --init."),
        ("--method fg_to_bg_sd15", "Give one with --fg."),
        ("--method fg_to_bg_sd15 --fg gone.png", "There is no file gone.png. Check the name."),
        ("--method fg_attn_sd15 --fg gone.png", "has no use for --fg."),
        ("--method fg_attn_sd15 --bg-prompt x", "has no use for --bg-prompt."),
        ("--method fg_to_bg_sd15 --fg a --fg-negative-prompt x", "for --fg-negative-prompt."),
        ("--method fg_attn_sd15 --sampler Nothing --quiet", "There is no sampler called"),
        ("--method fg_attn_sd15 --lora gone.safetensors --quiet", "gone.safetensors"),
        (
            "--method fg_attn_sd15 --lora a.safetensors:nan",
            "must be a number such as 0.8, not 'nan'",
        ),
        ("--method fg_attn_sd15 --lora a.safetensors:-inf", "such as 0.8, not '-inf'"),
        ("--method fg_attn_sd15 --checkpoint gone --quiet", "gone"),
        ("--method fg_attn_sd15 --device foo", "--device: there is no device called 'foo' here."),
        ("--method fg_attn_sd15 --device meta", "Choose one of: cpu"),
        ("--method fg_attn_sd15 --models-dir gone --quiet", "does not read --models-dir. Leave"),
        ("--method fg_attn_sd15 --extra-dir gone --quiet", "does not read --extra-dir. Leave"),
        ("--method fg_attn_sd15 --extra-dir gone --checkpoint x --quiet", "no folder gone"),
        ("--method fg_attn_sd15 --quiet --prompt [a|b:c]", "written as [from:to:when]"),
        ("--method fg_attn_sd15 --quiet --prompt <lora:a:1>", "Remove the tag"),
        ("--method fg_attn_sd15 --quiet --prompt \udcff\udcfe", "--prompt holds bytes that are"),
        ("--method fg_attn_sd15 --quiet --negative-prompt a\tAND\tb", "in the main prompt only"),
        ("--method joint_sd15 --quiet --fg-prompt a\tAND\tb", "or those of a layer"),
    ],
)
def test_what_cannot_work_is_told_in_one_line(capfd, family, arguments, said):
    assert said in fails(capfd, "generate", *arguments.split(" ") if arguments else ())
    assert not Path("out").exists()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="Linux only")
@pytest.mark.parametrize("command", ["generate --method fg_attn_sd15", "chain bg-to-fg --bg gone"])
@pytest.mark.parametrize("out", ["/proc/no/out", "x" * 300])
def test_a_folder_that_cannot_be_written_to_is_told_before_anything_else(
    capfd, asked, command, out
):
    line = fails(capfd, *command.split(), "--quiet", "--out", out)
    assert f"{out} could not be written: " in line
    assert asked == []


def test_a_name_that_is_too_long_is_told_in_words(capfd, asked):
    line = fails(capfd, "generate", "--method", "fg_to_bg_sd15", "--quiet", "--fg", "x" * 300)
    assert line.endswith("x cannot be read: File name too long. Check the name.\n")
    assert asked == []


def test_two_chains_with_one_seed_keep_apart(capfd, family):
    """The second one runs whole while the first one is between its steps."""
    command = ["chain", "bg-to-fg", "--bg", picture("bg.png"), "--seed", "3", "--steps", "1"]
    folder = OutputFolder(Path("out"))
    save = OutputFolder.save

    def saving(*args: object, **more: object) -> object:
        saved = save(*args, **more)
        if not seen:
            seen.append(saved)
            assert main([*command, "--quiet"]) == 0
        return saved

    seen: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OutputFolder, "save", saving)
        assert main([*command, "--quiet"]) == 0
    names = sorted(path.name for path in folder.folder.iterdir())
    assert names == [f"0000{n}-3-{layer}.png" for n in (0, 1) for layer in ("blended", "fg")]


def test_a_checkpoint_of_the_other_family(capfd, family):
    checkpoint = str(tiny_diffusers.checkpoint(Arch.SD15))
    line = fails(capfd, "generate", "--method", "fg_attn_sdxl", "--checkpoint", checkpoint)
    assert "This method needs an SDXL checkpoint, but an SD1.5 one is loaded." in line


@pytest.mark.parametrize(
    ("text", "lora"),
    [
        ("a.safetensors", ("a.safetensors", 1.0)),
        ("a.safetensors:0.5", ("a.safetensors", 0.5)),
        ("C:/a.safetensors", ("C:/a.safetensors", 1.0)),
        ("C:/a.safetensors:-1", ("C:/a.safetensors", -1.0)),
    ],
)
def test_loras_with_and_without_weights(text, lora):
    path, weight = job_options._lora(text)
    assert (path.as_posix(), weight) == lora


def test_the_options_know_what_the_code_knows():
    parser = Parser("x")
    job_options.add_models(parser)
    job_options.add_sampling(parser)
    choices = {a.dest: a.choices for a in parser._actions}
    assert choices["offload"] == tuple(o.value for o in Offload)
    modes = [job_options.RESIZE_MODES[name] for name in choices["resize_mode"]]
    assert set(modes) == {mode.value for mode in ResizeMode}


# chain


@pytest.mark.parametrize("direction", ["bg-to-fg", "fg-to-bg"])
@pytest.mark.slow
def test_a_chain_saves_both_steps_in_order(capfd, family, direction):
    given, _, wanted = direction.partition("-to-")
    command = ["chain", direction, f"--{given}", picture("given.png"), "--prompt", "a cat"]
    command += [f"--{wanted}-prompt", "alone", "--sets", "2", "--seed", "3", "--steps", "2"]
    assert main([*command, "--json"]) == 0
    told = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [Path(t["path"]).name for t in told] == [
        "00000-3-blended.png",
        "00001-4-blended.png",
        f"00000-3-{wanted}.png",
        f"00001-4-{wanted}.png",
    ]
    assert [t["infotext"].splitlines()[0] for t in told] == ["a cat"] * 2 + ["alone, a cat"] * 2
    assert len({t["method"] for t in told}) == 2
    modes = []
    for t in told:
        with Image.open(t["path"]) as made:
            modes.append(made.mode)
    assert modes == ["RGB"] * 2 + ["RGBA" if wanted == "fg" else "RGB"] * 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "--help"),
        ("bg-to-fg", "required: --bg"),
        ("bg-to-fg --bg a.png --bg-prompt x", "unrecognized arguments: --bg-prompt x"),
        ("fg-to-bg --fg gone.png", "There is no file gone.png. Check the name."),
        ("fg-to-bg --fg gone.png --second-stop-at 2", "Stop at must be between 0 and 1"),
    ],
)
def test_what_no_chain_can_do(capfd, family, arguments, said):
    assert said in fails(capfd, "chain", *arguments.split())


# layers in one file


def document(path: str) -> tuple[dict, list[np.ndarray]]:
    """Returns the list in a ZIP of layers, and the images from the bottom up."""
    with zipfile.ZipFile(path) as archive:
        listed = json.loads(archive.read("layers.json"))
        files = [entry["file"] for entry in listed["layers"]]
        return listed, [np.asarray(Image.open(archive.open(file))) for file in files]


def test_each_sets_layers_in_one_file(capfd, family):
    command = ["generate", "--method", "joint_sd15", *ONE_STEP, "--sets", "2", "--json", "--matte"]
    assert main([*command, "--layers", "zip,PSD"]) == 0
    told = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [t["path"] for t in told[8:]] == [
        f"out/0000{index}-{seed}-layers.{kind}"
        for index, seed in ((0, 5), (1, 8))
        for kind in ("zip", "psd")
    ]
    assert told[10] == {
        "path": "out/00001-8-layers.zip",
        "kind": "zip",
        "set": 1,
        "layers": ["Background 2", "Foreground 2", "Blended 2"],
    }
    listed, pictures = document("out/00001-8-layers.zip")
    order = [1, 0, 2]
    singles = [t for t in told[:8] if t["set"] == 1 and "extra" not in t]
    for place, entry, pixels in zip(order, listed["layers"], pictures, strict=True):
        np.testing.assert_array_equal(pixels, np.asarray(Image.open(singles[place]["path"])))
        assert entry["infotext"] == singles[place]["infotext"]
    with Image.open("out/00000-5-layers.psd") as psd:
        assert [name for name, *_ in psd.layers] == ["Background 1", "Foreground 1", "Blended 1"]
        assert psd.size == (SIDE, SIDE)


@pytest.mark.parametrize("direction", ["bg-to-fg", "fg-to-bg"])
def test_a_chains_file_holds_both_steps_and_the_given_picture(capfd, family, direction):
    given = direction.partition("-to-")[0]
    command = ["chain", direction, f"--{given}", picture("given.png"), "--seed", "3", "--quiet"]
    assert main([*command, "--steps", "2", "--layers", "ora,zip"]) == 0
    *_, ora, zipped = capfd.readouterr().out.split()
    assert (ora, zipped) == ("out/00000-3-layers.ora", "out/00000-3-layers.zip")
    listed, _ = document(zipped)
    names = [(entry["name"], entry["visible"]) for entry in listed["layers"]]
    assert names == [("Background", True), ("Foreground", True), ("Blended", False)]
    assert [not e["infotext"] for e in listed["layers"]] == [given == "bg", given == "fg", False]


def test_layers_are_trimmed_on_request(capfd, family):
    square = np.zeros((SIDE, SIDE, 4), np.uint8)
    square[8:24, 16:20] = 255
    Image.fromarray(square).save("fg.png")
    command = ["generate", "--method", "fg_to_bg_sd15", "--fg", "fg.png", *ONE_STEP, "--quiet"]
    assert main([*command, "--layers", "zip", "--trim"]) == 0
    listed, pictures = document(capfd.readouterr().out.split()[-1])
    fg = listed["layers"][1]
    assert [fg[key] for key in ("left", "top", "width", "height")] == [16, 8, 4, 16]
    assert (pictures[1] == 255).all()
    assert [listed["layers"][0][key] for key in ("width", "height")] == [SIDE, SIDE]


# From Python


def test_the_example_in_the_documents_works(capfd, family, monkeypatch):
    text = (ROOT / "docs" / "standalone.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert "seed=12345" in code
    code = code.replace("seed=12345", "seed=12345, width=64, height=64, steps=1")
    Path("juggernautXL.safetensors").symlink_to(tiny_diffusers.checkpoint(Arch.SDXL))
    Path("models").mkdir()
    Path("models/layer_model").symlink_to(family)
    exec(code, {})
    out = capfd.readouterr().out
    assert out.startswith("(64, 64, 4) an apple, high quality\nSteps: 1, ")


# help


@pytest.mark.parametrize(
    "command", ["generate", "chain", "chain bg-to-fg", "studio", "demo", "bench-alpha"]
)
def test_help_comes_without_heavy_libraries(command):
    program = (
        "import sys; from lib_layerdiffuse.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: sys.exit(sorted({'torch', 'numpy', 'gradio', 'diffusers'} & {*sys.modules}))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, *command.split(), "--help"],
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.stdout.startswith(f"usage: layerdiffuse {command} ")
    assert ran.stderr in ("", "[]\n")


# progress


class Console(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.slow
def test_bars_on_a_console_only(capfd, monkeypatch, family):
    console = Console()
    monkeypatch.setattr(sys, "stderr", console)
    random_family.see_eight_views(monkeypatch)
    command = ["generate", "--method", "fg_attn_sd15", *ONE_STEP]
    assert main(command) == 0
    assert main([*command, "--quiet"]) == 0
    assert main([*command, "--json"]) == 0
    shown = console.getvalue()
    assert re.search(r"sampling: +100%.* 1/1", shown)
    assert re.search(r"transparency: +100%.* 8/8", shown)
    assert len(re.findall(r"sampling: +100%", shown)) == 1


def test_bars_count_what_is_told(capfd):
    bars = Bars(True)
    bars.download("a.safetensors", 500, None)
    bars.download("a.safetensors", 2000, 4000)
    bars.note("half of it")
    assert bars.stage("sampling", 1, 2)
    assert bars.stage("sampling", 2, 2)
    bars.close()
    err = capfd.readouterr().err
    assert "a.safetensors: 50%" in err.replace("  ", " ")
    assert "layerdiffuse: half of it" in err
    assert "2/2" in err
    quiet = Bars(False)
    assert quiet.stage("sampling", 1, 2)
    assert capfd.readouterr().err == ""
