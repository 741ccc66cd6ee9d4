"""The command line: its table of methods, its help, and one line for every error."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_runs import DECODER, ROOT, done, fails, python
from thinned import thinned

from lib_layerdiffuse import cli
from lib_layerdiffuse.cli import main
from lib_layerdiffuse.cli.batch_progress import Progress
from lib_layerdiffuse.errors import WeightsError
from lib_layerdiffuse.methods import METHODS


def test_json_equals_the_table(capfd):
    rows = json.loads(done(capfd, "methods", "--json"))
    assert [row["id"] for row in rows] == [m.id for m in METHODS]
    for row, method in zip(rows, METHODS, strict=True):
        files = [row.pop("weights"), *row.pop("weight_files")]
        assert files == [f.filename for f in (method.weights, *method.weight_files)]
        for name, value in row.items():
            expected = getattr(method, name)
            assert value == (list(expected) if isinstance(expected, tuple) else expected), name
        assert row.keys() == {
            *("id", "label", "arch", "patch", "inputs", "outputs", "frames", "layer_prompts"),
            *("decodes", "fg_frame", "concat_channels", "uses_control"),
        }


def test_the_text_names_every_method_in_100_columns(capfd):
    out = done(capfd, "methods")
    lines = out.splitlines()
    assert len(lines) == 1 + 3 * len(METHODS)
    assert max(map(len, lines)) <= 100
    for method, first, label, how in zip(
        METHODS, lines[1::3], lines[2::3], lines[3::3], strict=True
    ):
        assert first.startswith(f"{method.id} ")
        assert re.search(rf" {', '.join(x.value for x in method.outputs)} +{method.frames} ", first)
        assert first.endswith("yes" if method.uses_control else "no")
        assert label.strip() == method.label
        assert how.split(": ")[1].split(", ") == [file.stem for file in method.weight_files]


def test_methods_start_without_heavy_libraries():
    heavy = ("torch", "numpy", "cv2", "safetensors", "huggingface_hub")
    program = (
        "import sys; from lib_layerdiffuse.cli import main; status = main(['methods']);"
        f"print([m for m in {heavy} if m in sys.modules], file=sys.stderr); sys.exit(status)"
    )
    ran = python("-c", program)
    assert (ran.returncode, ran.stderr) == (0, "[]\n")


def test_the_package_runs_as_a_program():
    ran = python("-m", "lib_layerdiffuse", "methods", "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(json.loads(ran.stdout)) == len(METHODS)


def test_the_program_refuses_in_one_line():
    pytest.importorskip("torch")
    ran = python("-m", "lib_layerdiffuse", "decode")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert re.fullmatch(
        r"layerdiffuse: .*--pixels, .*See `layerdiffuse decode --help`\.\n", ran.stderr
    )


def test_a_reader_that_has_seen_enough_is_no_error():
    program = (
        "import os, sys; r, w = os.pipe(); os.close(r); os.dup2(w, 1);"
        "from lib_layerdiffuse.cli import main; sys.exit(main(['methods']))"
    )
    ran = python("-c", program)
    assert (ran.returncode, ran.stderr) == (141, "")


@pytest.mark.parametrize(
    "command",
    [
        "",
        "methods",
        "weights",
        "weights list",
        "weights fetch",
        "weights verify",
        "decode",
        "encode",
    ],
)
def test_help(capfd, command):
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    assert stop.value.code == 0
    assert capfd.readouterr().out.startswith(f"usage: layerdiffuse {command}".rstrip())


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "nothing",
        "methods --yaml",
        "weights",
        "weights burn",
        "weights list --models-dir",
        "decode",
        "encode --image a.png",
        "decode --views 9",
        "decode --views many",
    ],
)
def test_wrong_arguments_are_told_in_one_line(capfd, arguments):
    assert " --help`." in fails(capfd, *arguments.split())


@pytest.mark.slow
def test_a_path_that_the_console_cannot_show(tmp_path):
    (tmp_path / "Bäume").mkdir()
    command = ("-m", "lib_layerdiffuse", "weights", "list", DECODER, "--models-dir", "Bäume")
    ran = python(*command, PYTHONIOENCODING="ascii")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("Folder: B\\xe4ume\n")


@pytest.mark.parametrize(("page", "least"), [("batch", 4), ("command-line", 6), ("standalone", 6)])
def test_the_commands_of_the_pages_are_understood(page, least):
    text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
    lines = re.findall(r"^ {4}layerdiffuse (.*)$", text, re.M)
    assert len(lines) >= least
    for line in lines:
        cli._parser().parse_args(shlex.split(line))


def test_the_page_of_the_command_line_shows_each_command_for_files():
    text = (ROOT / "docs" / "command-line.md").read_text("utf-8")
    lines = re.findall(r"^ {4}layerdiffuse ([a-z ]+?)(?= --|$)", text, re.M)
    assert set(lines) == {"methods", "decode", "encode"} | {
        f"weights {verb}" for verb in ("list", "fetch", "verify")
    }


@pytest.mark.parametrize("typed", ["[a:" * 3000, "9" * 5000, "x " * 9000])
@pytest.mark.parametrize(
    "command",
    [
        ["chain", "{}"],
        ["{}"],
        ["methods", "{}"],
        ["generate", "--method=fg_attn_sd15", "--sets={}"],
        ["generate", "--method=fg_attn_sd15", "--size={}"],
        ["decode", "--pixels={}", "--latent=a", "--decoder=a", "--out=a.png"],
    ],
)
def test_a_long_text_is_not_told_at_length(capfd, command, typed):
    line = fails(capfd, *(part.format(typed) for part in command))
    assert len(line) < 1000


def test_interrupted(capfd, monkeypatch):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(json, "dumps", interrupt)
    assert main(["methods", "--json"]) == 130
    assert capfd.readouterr().err == "layerdiffuse: interrupted\n"


def test_a_full_memory_is_told_wherever_it_is_met(capfd, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(json, "dumps", full)
    assert fails(capfd, "methods", "--json").startswith("layerdiffuse: The memory is full. Close")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no such device")
def test_a_log_on_a_full_disk_changes_no_status(monkeypatch):
    with open("/dev/full", "w", encoding="utf-8") as log:
        monkeypatch.setattr(sys, "stderr", log)
        assert main(["decode", "none.png"]) == 2
        with Progress(quiet=False, as_json=False) as progress:
            progress.note("1 of 2 rows")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no such device")
def test_what_cannot_be_written_any_more_changes_no_status(monkeypatch):
    """What a library leaves is tried again by the interpreter, which then ends with a status."""

    def leaves(*_: object, **__: object) -> None:
        print("left by a library")
        raise MemoryError

    monkeypatch.setattr(json, "dumps", leaves)
    with open("/dev/full", "w", encoding="utf-8") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert main(["methods", "--json"]) == 2
        output.flush()


def test_warnings_are_notes_of_the_command(capfd, monkeypatch):
    def warn(*_: object, **__: object) -> str:
        logging.getLogger("lib_layerdiffuse.hosts").warning("The LoRA acts, but for %d parts.", 1)
        return "{}"

    monkeypatch.setattr(json, "dumps", warn)
    assert main(["methods", "--json"]) == 0
    assert set(capfd.readouterr().err.splitlines()) == {
        "layerdiffuse: The LoRA acts, but for 1 parts."
    }
    assert not logging.getLogger("lib_layerdiffuse").handlers


def test_an_error_after_an_interrupt_is_the_interrupts(capfd, monkeypatch):
    """Libraries say that a file is damaged where they could not read it to its end."""
    seen: list[int] = []

    def half_read(*_: object, **__: object) -> None:
        seen.append(2)
        raise WeightsError("a.safetensors is damaged.", "Download it again.")

    monkeypatch.setattr(json, "dumps", half_read)
    assert main(["methods", "--json"], interrupts=seen) == 130
    assert capfd.readouterr().err == "layerdiffuse: interrupted\n"


def slow_module(folder: Path, body: str) -> None:
    """Writes a package that says when it is being imported, in the place of torch."""
    (folder / "torch").mkdir()
    text = f"import sys, time\nprint('now', flush=True)\n{body}\n"
    (folder / "torch" / "__init__.py").write_text(text)


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no such signal")
@pytest.mark.parametrize(
    "body",
    [
        "time.sleep(60)",
        "try:\n    time.sleep(60)\nexcept BaseException:\n    raise ImportError('lost')",
        "try:\n    time.sleep(60)\nexcept BaseException:\n    raise SystemError('lost')",
        "class Cleared:\n    __del__ = lambda self: time.sleep(60)\nCleared()\n"
        "for _ in range(600):\n    time.sleep(0.1)",
    ],
)
@pytest.mark.parametrize("by_script", thinned([False, True], 2))
@pytest.mark.usefixtures("interruptible")
def test_interrupted_while_libraries_are_imported(tmp_path, body, by_script):
    """Libraries may turn the interrupt into an error of their own."""
    slow_module(tmp_path, body)
    script = "import sys; from lib_layerdiffuse.__main__ import run; sys.exit(run())"
    entry = ["-c", script] if by_script else ["-m", "lib_layerdiffuse"]
    names = ("pixels", "latent", "decoder", "out")
    files = [part for name in names for part in (f"--{name}", "a")]
    command = ["decode", *files, "--device", "cpu"]
    ran = subprocess.Popen(
        [sys.executable, *entry, *command],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert ran.stdout is not None
    assert ran.stdout.readline() == "now\n"
    ran.send_signal(signal.SIGINT)
    _, err = ran.communicate(timeout=60)
    assert (ran.returncode, err) == (130, "layerdiffuse: interrupted\n")


def test_the_commands_script_is_the_entry_that_knows_interrupts():
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    assert 'layerdiffuse = "lib_layerdiffuse.__main__:run"' in text
