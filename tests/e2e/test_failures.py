"""Each error is told, makes no image, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from client import ApiError, Client, Result
from flow_jobs import CHECKPOINTS
from forge_server import ForgeServer
from layers import assert_same, check_layers, difference, generate, notes, request
from random_loras import LORAS
from random_weights import SD15, SDXL
from server_process import link

from lib_layerdiffuse.methods import find_method

Plain = Callable[..., Result]
SMALL = {"width": 128, "height": 128}


def refused(client: Client, args: list[Any], status: int = 422, **options: Any) -> dict[str, Any]:
    """Returns the error that the server answers with."""
    with pytest.raises(ApiError) as caught:
        client.txt2img(scripts={"layerdiffuse": args}, **SMALL, **options)
    assert caught.value.status == status, caught.value
    return caught.value.body["detail"]


@pytest.mark.parametrize(
    ("args", "options", "error", "field"),
    [
        ([{"method": "fg_attn_sdxl"}], {}, "ArchMismatchError", "method"),
        ([{"method": "bg_to_fg_sd15"}], {}, "MissingLayerError", "bg_image"),
        ([{"method": "fg_to_bg_sd15", "fg_image": "?"}], {}, "SettingsError", "fg_image"),
        ([{"method": "joint_sd15", "wieght": 1}], {}, "SettingsError", "wieght"),
        ([{"method": "joint_sd15", "weight": 3}], {}, "SettingsError", "weight"),
        ([{"method": "no such"}], {}, "SettingsError", "method"),
        ([True, "no such"], {}, "SettingsError", "method"),
        (
            [{"method": "fg_attn_sd15"}],
            {"refiner_checkpoint": SDXL, "refiner_switch_at": 0.5},
            "MissingCapabilityError",
            None,
        ),
    ],
)
def test_refused_before_sampling(
    client: Client,
    plain: Plain,
    tmp_path: Path,
    args: list[Any],
    options: dict[str, Any],
    error: str,
    field: str | None,
) -> None:
    before = plain(SD15, **SMALL)
    client.use_checkpoint(SD15)
    detail = refused(client, args, **options)
    assert (detail["error"], detail["field"]) == (error, field)
    assert detail["message"].endswith(".")
    assert_same(before, client.txt2img(record=tmp_path / "after", **SMALL))


def test_sd15_method_on_an_sdxl_checkpoint(client: Client) -> None:
    client.use_checkpoint(SDXL)
    detail = refused(client, [{"method": "joint_sd15"}])
    assert "SD1.5" in detail["message"]
    assert "SDXL" in detail["hint"]


def test_weights_missing_offline(forge: ForgeServer, client: Client, tmp_path: Path) -> None:
    client.use_checkpoint(SD15)
    place = forge.data_dir / "models" / "layer_model" / "layer_sd15_joint.safetensors"
    target = place.resolve()
    place.unlink()
    try:
        detail = refused(client, [{"method": "joint_sd15"}], 503)
        assert detail["error"] == "WeightsNotFoundError"
        assert "layer_sd15_joint" in detail["message"] + detail["hint"]
        place.write_bytes(target.read_bytes()[:100_000])
        assert refused(client, [{"method": "joint_sd15"}], 503)["error"] == "ChecksumError"
    finally:
        link(target, place)
    check_layers(
        generate(client, "joint_sd15", tmp_path / "run", **SMALL),
        find_method("joint_sd15"),
        **SMALL,
    )


def test_an_opaque_foreground_is_warned_of(client: Client, tmp_path: Path) -> None:
    client.use_checkpoint(SD15)
    bg = request("bg_to_fg_sd15")["layerdiffuse"][0]["bg_image"]
    made = generate(client, "fg_to_bg_sd15", tmp_path / "run", settings={"fg_image": bg}, **SMALL)
    assert any("no transparency" in text for text in notes(made))


@pytest.mark.parametrize(
    ("checkpoint", "method_id"),
    [
        (SD15, "joint_sd15"),
        (SD15, "bg_to_fg_sd15"),
        (SDXL, "fg_to_blended_sdxl"),
        (SDXL, "fg_attn_sdxl"),
    ],
)
def test_an_exception_or_an_interrupt_mid_sampling_leaves_nothing(
    client: Client, plain: Plain, tmp_path: Path, checkpoint: str, method_id: str
) -> None:
    before = plain(checkpoint, **SMALL)
    client.use_checkpoint(checkpoint)
    with pytest.raises(ApiError) as caught:
        generate(client, method_id, tmp_path / "failed", fail_at=1, **SMALL)
    assert "E2E probe" in str(caught.value.body) or caught.value.status == 500
    after = client.txt2img(record=tmp_path / "after failure", **SMALL)
    assert_same(before, after)
    assert after.run["checksum"] == before.run["checksum"]
    assert after.run["overridden"] == []
    stopped = generate(client, method_id, tmp_path / "stopped", interrupt_at=0, steps=3, **SMALL)
    assert stopped.run["steps"] == 1
    again = client.txt2img(record=tmp_path / "after interrupt", **SMALL)
    assert_same(before, again)
    assert again.run["checksum"] == before.run["checksum"]


@pytest.mark.parametrize("method_id", ["fg_attn_sd15", "fg_attn_sdxl"])
def test_a_users_lora_before_during_and_after(
    client: Client, plain: Plain, tmp_path: Path, method_id: str
) -> None:
    arch = find_method(method_id).arch
    before = plain(CHECKPOINTS[arch], **SMALL)
    client.use_checkpoint(CHECKPOINTS[arch])
    prompt = f"a glass ball <lora:{LORAS[arch]}:1>"

    def lora(name: str) -> Result:
        return client.txt2img(prompt=prompt, record=tmp_path / name, **SMALL)

    first = lora("before")
    assert difference(first, before) > 0.05
    without = generate(client, method_id, tmp_path / "without", **SMALL)
    with_lora = generate(client, method_id, tmp_path / "with", prompt=prompt, **SMALL)
    assert difference(with_lora, without) > 0.05, "the LoRA was lost under the method"
    assert difference(with_lora, first) > 0.01, "the method was lost under the LoRA"
    assert_same(first, lora("after"))
    assert_same(without, generate(client, method_id, tmp_path / "again", **SMALL))
    assert_same(before, client.txt2img(record=tmp_path / "plain", **SMALL))


def test_the_original_beside_ours(make_forge: Callable[..., ForgeServer], tmp_path: Path) -> None:
    stand_in = tmp_path / "sd-forge-layerdiffuse"
    (stand_in / "scripts").mkdir(parents=True)
    (stand_in / "scripts" / "forge_layerdiffusion.py").write_text(
        "from modules import scripts\n"
        "class Original(scripts.Script):\n"
        "    def title(self): return 'LayerDiffuse'\n"
        "    def show(self, is_img2img): return scripts.AlwaysVisible\n"
        "    def ui(self, is_img2img): return []\n"
    )
    server = make_forge(tmp_path / "data")
    link(stand_in, server.data_dir / "extensions" / stand_in.name)
    with server:
        client = Client(server.url)
        infos = [i for i in client.script_info() if "layerdiffuse" in i["name"].lower()]
        assert sum(len(i["args"]) for i in infos) == 0, "ours must offer nothing"
        assert "installed too" in server.log
        made = client.txt2img(checkpoint=SD15, **SMALL)
        assert made.images[0].shape == (128, 128, 3)
