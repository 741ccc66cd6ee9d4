"""The training programs: what they write is what the released files' code reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from lib_layerdiffuse.codec.transparent import TransparentDecoder, TransparentEncoder
from lib_layerdiffuse.codec.views import VIEWS, turn, turn_back
from lib_layerdiffuse.host import Injection
from lib_layerdiffuse.hosts.diffusers.attaching import attach
from lib_layerdiffuse.methods import DECODERS, ENCODERS, Arch, find_method
from lib_layerdiffuse.nets.attention_sharing import AttentionSharing
from lib_layerdiffuse.nets.unet1024 import UNet1024
from lib_layerdiffuse.tiny import shapes
from lib_layerdiffuse.weights.patches import read_patches
from training import codec, control, decoder, latents, method, symmetric, vae
from training.data import Scenes, draw, over
from training.loop import Plan, Trainer
from training.sharing_net import CONTROL_WIDTHS, ControlNet, Sharing

pytestmark = pytest.mark.slow


SIDE = shapes.SIDE // 8


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def _inputs(arch: Arch, rows: int) -> tuple[torch.Tensor, dict]:
    width = {Arch.SD15: 64, Arch.SDXL: 128}[arch]
    context = {"encoder_hidden_states": torch.randn(rows, 77, width)}
    if arch is Arch.SDXL:
        sizes = torch.tensor([[96.0, 96, 0, 0, 96, 96]]).expand(rows, -1)
        context["added_cond_kwargs"] = {"text_embeds": torch.randn(rows, 64), "time_ids": sizes}
    return torch.randn(rows, 4, SIDE, SIDE), context


def _twin(unet: nn.Module, arch: Arch, state: dict) -> nn.Module:
    twin = shapes.unet(arch).eval()
    twin.load_state_dict(state)
    return twin


@pytest.mark.parametrize("name", ["fg_attn_sd15", "joint_sd15", "bg_to_fg_sd15"])
def test_trained_sharing_is_what_the_released_files_code_computes(name: str) -> None:
    chosen = find_method(name)
    unet = shapes.unet(Arch.SD15).eval()
    state = {key: value.clone() for key, value in unet.state_dict().items()}
    twin = _twin(unet, Arch.SD15, state)
    x, context = _inputs(Arch.SD15, 2 * chosen.frames)
    picture = torch.rand(1, 3, 96, 96) * 2 - 1 if chosen.uses_control else None
    with torch.no_grad():
        plain = unet(x, 500, **context).sample
        net = Sharing(unet, chosen.frames, 4, method.CONTROL_WIDTHS if chosen.uses_control else ())
        net.look_at(picture)
        assert torch.allclose(unet(x, 500, **context).sample, plain, atol=1e-5)
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        net.look_at(picture)
        trained = unet(x, 500, **context).sample
        sharing = AttentionSharing.from_state_dict(net.tensors(), 1.0)
        injection = Injection(chosen, 1.0, "test", sharing=sharing, control=picture)
        attach(twin, injection, 1000, torch.device("cpu"))
        used = twin(x, 500, **context).sample
    assert not torch.allclose(trained, plain, atol=1e-2)
    assert torch.allclose(used, trained, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["fg_attn_sdxl", "fg_conv_sdxl", "fg_to_blended_sdxl", "bg_blended_to_fg_sdxl"]
)
def test_trained_weights_are_what_the_patches_make_of_the_base(name: str) -> None:
    chosen = find_method(name)
    unet = shapes.unet(Arch.SDXL).eval()
    state = {key: value.clone() for key, value in unet.state_dict().items()}
    twin = _twin(unet, Arch.SDXL, state)
    x, context = _inputs(Arch.SDXL, 2)
    concat = torch.randn(1, chosen.concat_channels, SIDE, SIDE) if chosen.inputs else None
    net, _call, tensors = method.weight_patches(unet, chosen)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn_like(parameter))
        wide = x if concat is None else torch.cat([x, concat.expand(2, -1, -1, -1)], dim=1)
        trained = unet(wide, 500, **context).sample
        patches = read_patches(tensors(), chosen)
        attach(
            twin,
            Injection(chosen, 1.0, "test", patches=patches, concat=concat),
            1000,
            torch.device("cpu"),
        )
        used = twin(x, 500, **context).sample
    assert torch.allclose(used, trained, atol=1e-4)


def test_the_patches_of_opaque_outputs_leave_the_transformers_alone() -> None:
    _, _, tensors = method.weight_patches(shapes.unet(Arch.SDXL), find_method("fg_to_blended_sdxl"))
    names = {key.partition("::")[0] for key in tensors()}
    assert "diffusion_model.input_blocks.0.0.weight" in names
    assert not any("transformer_blocks" in name or "time_embed" in name for name in names)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with scenes and an untrained, normalised VAE."""
    folder = tmp_path_factory.mktemp("training")
    draw(16, folder)
    torch.manual_seed(1)
    random = shapes.vae(Arch.SD15)
    for arch in Arch:
        made = vae.normalised(random, folder, arch, 64)
        torch.save(made.state_dict(), folder / f"vae_{arch.name}.pt")
    torch.save(random.state_dict(), folder / "random.pt")
    return folder


def test_normalised_latents_have_deviation_1_and_decode_to_the_same(data: Path) -> None:
    random = shapes.vae(Arch.SD15)
    random.load_state_dict(torch.load(data / "random.pt", weights_only=True))
    seen = vae.images(Scenes.open(data), 16, np.random.default_rng(0)) * 2 - 1
    for arch in Arch:
        made = vae.load(data, arch)
        with torch.no_grad():
            before, after = random.encode(seen).latent_dist, made.encode(seen).latent_dist
            assert float((after.mean * shapes.SCALING[arch]).std()) == pytest.approx(1, abs=0.4)
            ratio = after.std / before.std
            assert torch.allclose(ratio, ratio[:1, :, :1, :1].expand_as(ratio), rtol=1e-3)
            same = made.decode(after.mean).sample
            assert torch.allclose(same, random.decode(before.mean).sample, atol=1e-3)


def test_each_step_trains_and_its_files_run(data: Path) -> None:
    net = codec.train(data, Plan(0.02), batch=2)
    folder = data / "layer_model"
    codec.write(net, folder)
    fg, _ = Scenes.open(data).layers(np.arange(2))
    found = {}
    for arch in Arch:
        encoder = TransparentEncoder.from_state_dict(load_file(folder / ENCODERS[arch].filename))
        decoder = TransparentDecoder.from_state_dict(load_file(folder / DECODERS[arch].filename))
        posterior = vae.load(data, arch).encode(over(fg, 0.5) * 2 - 1).latent_dist
        latent = posterior.mean + posterior.std * 300 * encoder.offset(fg)
        pixels = (vae.load(data, arch).decode(latent).sample / 2 + 0.5).clamp(0, 1)
        found[arch] = decoder.decode(pixels, latent, views=1)
    # The two families' codecs differ in the latents' scale alone.
    assert torch.allclose(found[Arch.SD15], found[Arch.SDXL], atol=2e-2)
    latents.encode(data, (*latents.OPAQUE, *latents.TRANSPARENT))
    offset = latents.load(data, "fg").float() - latents.load(data, "grey").float()
    assert float(offset.abs().mean()) > 0


def views_apart(net: nn.Module, side: int = 32) -> float:
    """Returns how far a decoder's results of the eight views of noise are apart, turned back."""
    pixels, latent = torch.rand(1, 3, side, side), torch.randn(1, 4, side // 8, side // 8)
    with torch.no_grad():
        upright = net(pixels, latent)
        made = [turn_back(net(turn(pixels, *v), turn(latent, *v)), *v) for v in VIEWS]
    return max(float((one - upright).abs().max()) for one in made)


def test_convolutions_that_are_held_symmetric_make_all_views_one() -> None:
    net = UNet1024(codec.DECODER)
    names = {name: tensor.shape for name, tensor in net.state_dict().items()}
    assert views_apart(net) > 0.01
    symmetric.hold(net)
    assert views_apart(net) < 1e-5
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    net(torch.rand(2, 3, 32, 32), torch.randn(2, 4, 4, 4)).square().mean().backward()
    before = net(torch.ones(1, 3, 32, 32), torch.ones(1, 4, 4, 4))
    optimizer.step()
    assert not torch.allclose(net(torch.ones(1, 3, 32, 32), torch.ones(1, 4, 4, 4)), before)
    symmetric.release(net)
    assert {name: tensor.shape for name, tensor in net.state_dict().items()} == names
    assert views_apart(net) < 1e-5


def test_the_decoder_is_trained_on_and_goes_on(data: Path) -> None:
    codec.write(codec.train(data, Plan(0.02), batch=2), data / "layer_model")
    before = codec.load(data).decoder.state_dict()
    seen = decoder.look(data, codec.load(data))
    again = decoder.look(data, codec.load(data))
    assert all(np.array_equal(one, other) for one, other in zip(seen, again, strict=True))
    assert 0 <= seen[0].min() < seen[0].max() <= 1
    net = decoder.train(data, Plan(0.03, rate=1e-3, average=0.5), batch=2)
    assert net.state_dict().keys() == before.keys()
    assert views_apart(net) < 1e-5
    codec.write_decoder(net, data / "layer_model")
    written = codec.load(data)
    assert views_apart(written.decoder) < 1e-2  # float16
    moved = {
        name: bool((p != before[name]).any()) for name, p in written.decoder.named_parameters()
    }
    assert sum(moved.values()) > len(moved) / 2


def test_a_control_encoder_learns_to_tell_the_latents(data: Path) -> None:
    latents.encode(data, ("bg", "grey"))
    file = control.train(data, Plan(0.05))
    encoder = ControlNet(CONTROL_WIDTHS)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    encoder.load_state_dict(torch.load(file, weights_only=True))
    assert all(bool((before[name] != p).any()) for name, p in encoder.state_dict().items())


@pytest.mark.parametrize(
    ("first", "then", "shared"),
    [
        ("fg_attn_sd15", "joint_sd15", {0: 0}),
        ("joint_sd15", "bg_to_fg_sd15", {0: 0, 2: 1}),
        ("joint_sd15", "fg_to_bg_sd15", {1: 0, 2: 1}),
    ],
)
def test_a_method_starts_from_the_same_layers_of_another(
    first: str, then: str, shared: dict[int, int]
) -> None:
    old, new = find_method(first), find_method(then)
    tensors = Sharing(shapes.unet(Arch.SD15), old.frames, method.RANK).tensors()
    tensors = {key: torch.randn_like(tensor) for key, tensor in tensors.items()}
    net = Sharing(shapes.unet(Arch.SD15), new.frames, method.RANK)
    before = {key: tensor.clone() for key, tensor in net.tensors().items()}
    method.start_from(net, new, tensors, old)
    for key, tensor in net.tensors().items():
        module, lora, rest = key.partition("_lora.")
        source = {to: frame for frame, to in shared.items()}.get(int(rest[0])) if lora else None
        if source is not None:
            assert torch.equal(tensor, tensors[f"{module}_lora.{source}{rest[1:]}"]), key
        elif not lora and old.frames > 1:
            assert torch.equal(tensor, tensors[key]), key
        else:
            assert torch.equal(tensor, before[key]), key


def test_a_run_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    torch.manual_seed(0)
    truth = torch.randn(4)

    class Stop(Exception):
        pass

    def training(stop_at: int | None) -> tuple[nn.Module, Trainer]:
        net = nn.Linear(4, 1)
        trainer = Trainer(net, Plan(0.02, rate=0.1, save_every=0), tmp_path / "run.pt")

        def loss() -> torch.Tensor:
            if stop_at is not None and trainer.steps >= stop_at:
                raise Stop
            x = torch.randn(8, 4)
            return (net(x).squeeze(-1) - x @ truth).square().mean()

        if stop_at is not None:
            with pytest.raises(Stop):
                trainer.run(loss)
        else:
            trainer.run(loss)
        return net, trainer

    _, first = training(20)
    net, second = training(None)
    assert first.steps == 20
    assert second.steps > 20
    assert torch.allclose(net.weight.detach().squeeze(), truth, atol=0.2)
