import pytest
import sharing as fakes
import torch
from thinned import thinned

from lib_layerdiffuse.errors import ChecksumError, HostError
from lib_layerdiffuse.methods import METHODS, Arch
from lib_layerdiffuse.nets.attention_sharing import AttentionSharing, BaseAttention, SharingRun
from lib_layerdiffuse.weights.patches import read_sharing

CHANNELS, CONTEXT, HEADS = 16, 12, 4
SELF, CROSS = 6, 7  # Both at level 1.


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def base_of(base: fakes.Attention) -> BaseAttention:
    return BaseAttention(base.heads, base.to_q, base.to_k, base.to_v, base.to_out)


def close(got, want, tolerance=1e-4):
    assert (got - want).norm() <= tolerance * want.norm()


def run_both(frames, *, slot, sets=2, tokens=6, strength=1.0, control=None, rank=4):
    file = fakes.random_file(frames, rank=rank, control=control is not None)
    base = fakes.Attention.random(CHANNELS, CONTEXT if slot % 2 else CHANNELS, HEADS)
    x = torch.randn(sets * frames, tokens, CHANNELS)
    context = torch.randn(sets * frames, 5, CONTEXT) if slot % 2 else None
    sharing = AttentionSharing.from_state_dict(file, strength)
    got = SharingRun(sharing, control)(slot, base_of(base), x, context)
    signals = None if control is None else fakes.reference_signals(file, control)
    with torch.no_grad():
        want = fakes.reference_attention(file, slot, base, x, context, frames, strength, signals)
    return got.detach(), want


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("slot", [SELF, CROSS])
@pytest.mark.parametrize("strength", [1.0, 0.35, 2.0])
def test_agrees_with_the_definition(frames, slot, strength):
    close(*run_both(frames, slot=slot, strength=strength))


@pytest.mark.parametrize("rank", [1, 8, 33])
def test_takes_the_rank_from_the_file(rank):
    close(*run_both(2, slot=CROSS, rank=rank))


@pytest.mark.parametrize("slot", [0, SELF, CROSS, 30])
@pytest.mark.parametrize("frames", [1, 2])
def test_control_picture_acts_at_its_own_resolution(slot, frames):
    # 72 × 40 pixels: 45 latents, rounded up to 5×3, 3×2, 2×1 below; 3×2 and 2×1 differ by count.
    tokens = [9 * 5, 5 * 3, 3 * 2, 2 * 1][fakes.LEVELS[slot // 2]]
    control = torch.rand(1, 3, 72, 40) * 2 - 1
    close(*run_both(frames, slot=slot, tokens=tokens, control=control, strength=0.7))


def test_control_picture_of_another_shape_is_refused():
    with pytest.raises(HostError, match="tokens"):
        run_both(2, slot=SELF, tokens=7, control=torch.zeros(1, 3, 64, 64))


def test_strength_zero_is_the_plain_attention_exactly():
    file = fakes.random_file(2, control=True)
    base = fakes.Attention.random(CHANNELS, CONTEXT, HEADS)
    x, context = torch.randn(4, 4 * 4, CHANNELS), torch.randn(4, 5, CONTEXT)
    run = SharingRun(AttentionSharing.from_state_dict(file, 0.0), torch.randn(1, 3, 64, 64))
    close(run(CROSS, base_of(base), x, context).detach(), base(x, context).detach(), 1e-6)


def test_each_row_reads_its_own_context():
    file, base = fakes.random_file(1), fakes.Attention.random(CHANNELS, CONTEXT, HEADS)
    run = SharingRun(AttentionSharing.from_state_dict(file, 1.0))
    x, context = torch.randn(3, 6, CHANNELS), torch.randn(3, 77 * 2, CONTEXT)
    together = run(CROSS, base_of(base), x, context)
    for i in range(3):
        close(run(CROSS, base_of(base), x[i : i + 1], context[i : i + 1]), together[i : i + 1])


def test_values_may_come_from_another_tensor_than_keys():
    file, base = fakes.random_file(1), fakes.Attention.random(CHANNELS, CONTEXT, HEADS)
    run = SharingRun(AttentionSharing.from_state_dict(file, 1.0))
    x, context, value = (torch.randn(1, 6, c) for c in (CHANNELS, CONTEXT, CONTEXT))
    same = run(CROSS, base_of(base), x, context, context.clone())
    close(same, run(CROSS, base_of(base), x, context))
    assert not torch.allclose(run(CROSS, base_of(base), x, context, value), same)


def test_rows_that_are_no_whole_sets_are_refused():
    sharing = AttentionSharing.from_state_dict(fakes.random_file(3), 1.0)
    base = base_of(fakes.Attention.random(CHANNELS, CHANNELS, HEADS))
    with pytest.raises(HostError, match="whole sets of 3"):
        SharingRun(sharing)(SELF, base, torch.randn(4, 6, CHANNELS))


def test_quantised_layers_run_as_they_are_and_the_delta_is_added():
    file, base = fakes.random_file(2), fakes.Attention.random(CHANNELS, CHANNELS, HEADS)
    x = torch.randn(4, 6, CHANNELS)
    merged = SharingRun(AttentionSharing.from_state_dict(file, 0.8))(SELF, base_of(base), x)
    layers = (base.to_q, base.to_k, base.to_v, base.to_out)
    hidden = BaseAttention(HEADS, *(layer.forward for layer in layers))
    close(SharingRun(AttentionSharing.from_state_dict(file, 0.8))(SELF, hidden, x), merged)


def merge(layer, delta, how):
    if how == "new parameter":
        layer.weight = torch.nn.Parameter(layer.weight.detach() + delta)
    else:
        with torch.no_grad():
            layer.weight += delta


@pytest.mark.parametrize("how", ["new parameter", "in place"])
def test_a_lora_merged_by_the_host_between_two_calls_counts(how):
    file, base = fakes.random_file(2), fakes.Attention.random(CHANNELS, CHANNELS, HEADS)
    sharing = AttentionSharing.from_state_dict(file, 1.0)
    x = torch.randn(2, 6, CHANNELS)
    before = SharingRun(sharing)(SELF, base_of(base), x)
    merge(base.to_q, torch.randn(CHANNELS, CHANNELS), how)
    after = SharingRun(sharing)(SELF, base_of(base), x)
    fresh = SharingRun(AttentionSharing.from_state_dict(file, 1.0))(SELF, base_of(base), x)
    assert not torch.allclose(before, after)
    assert torch.equal(after, fresh)


def test_merges_once_for_unchanged_layers():
    sharing = AttentionSharing.from_state_dict(fakes.random_file(2), 1.0)
    base = base_of(fakes.Attention.random(CHANNELS, CHANNELS, HEADS))
    x = torch.randn(2, 6, CHANNELS)
    SharingRun(sharing)(SELF, base, x)
    merged = sharing.layers[SELF].q.weight
    SharingRun(sharing)(SELF, base, x)
    assert sharing.layers[SELF].q.weight is merged


def test_a_memory_manager_that_puts_back_the_first_parameters_is_noticed():
    """They are from before the merge: empty. ComfyUI's dynamic VRAM puts them back at each load."""
    file, x = fakes.random_file(2), torch.randn(2, 6, CHANNELS)
    base = base_of(fakes.Attention.random(CHANNELS, CHANNELS, HEADS))
    sharing = AttentionSharing.from_state_dict(file, 1.0)
    first = {name: value.clone() for name, value in sharing.named_parameters()}
    want = SharingRun(sharing)(SELF, base, x)
    for name, value in first.items():
        path, _, last = name.rpartition(".")
        setattr(sharing.get_submodule(path), last, torch.nn.Parameter(value, requires_grad=False))
    assert torch.equal(SharingRun(sharing)(SELF, base, x), want)


def test_leaves_the_base_layers_alone():
    base = fakes.Attention.random(CHANNELS, CHANNELS, HEADS)
    kept = [layer.weight.detach().clone() for layer in (base.to_q, base.to_k, base.to_v)]
    run_twice = SharingRun(AttentionSharing.from_state_dict(fakes.random_file(2), 1.0))
    run_twice(SELF, base_of(base), torch.randn(2, 6, CHANNELS))
    for layer, weight in zip((base.to_q, base.to_k, base.to_v), kept, strict=True):
        assert torch.equal(layer.weight, weight)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 0.02), (torch.bfloat16, 0.1)])
def test_half_precision_stays_close(dtype, tolerance):
    file, base = fakes.random_file(2), fakes.Attention.random(CHANNELS, CHANNELS, HEADS)
    x = torch.randn(2, 6, CHANNELS)
    want = SharingRun(AttentionSharing.from_state_dict(file, 1.0))(SELF, base_of(base), x)
    for layer in (base.to_q, base.to_k, base.to_v, base.to_out):
        layer.to(dtype)
    sharing = AttentionSharing.from_state_dict(file, 1.0).to(dtype)
    got = SharingRun(sharing)(SELF, base_of(base), x.to(dtype))
    assert got.dtype == dtype
    close(got.float(), want, tolerance)


LAYER = "hookers.layers.31."
WRONG = {
    "missing": {f"{LAYER}temporal_i.weight": None},
    "another file's": {"diffusion_model.out.2.weight::diff::0": torch.zeros(1)},
    "a 33rd layer": {"hookers.layers.32.temporal_i.bias": torch.zeros(CHANNELS)},
    "a frame of one layer": {f"{LAYER}to_q_lora.1.up.weight": torch.zeros(CHANNELS, 4)},
    "unknown in a layer": {f"{LAYER}extra": torch.zeros(1)},
    "control of one layer": {f"{LAYER}control_convs.0.0.bias": torch.zeros(8)},
    "another width": {f"{LAYER}temporal_q.weight": torch.zeros(CHANNELS, 8)},
    "another rank": {f"{LAYER}to_k_lora.0.up.weight": torch.zeros(CHANNELS, 5)},
    "no dimensions": {f"{LAYER}temporal_n.weight": torch.tensor(1.0)},
    "whole numbers": {f"{LAYER}temporal_n.bias": torch.zeros(CHANNELS, dtype=torch.int32)},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_another_files_tensors_are_refused(change):
    file = {k: t for k, t in (fakes.random_file(1) | change).items() if t is not None}
    with pytest.raises(ChecksumError, match="damaged"):
        AttentionSharing.from_state_dict(file, 1.0)


@pytest.mark.parametrize("file", [{}, {"a": torch.zeros(1)}])
def test_what_is_no_sharing_file_is_refused(file):
    with pytest.raises(ChecksumError, match=r"not one of an SD1\.5 method: it holds"):
        AttentionSharing.from_state_dict(file, 1.0)


@pytest.mark.parametrize("method", [m for m in METHODS if m.arch is Arch.SD15], ids=lambda m: m.id)
@pytest.mark.parametrize(
    ("frames", "control"), thinned([(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (4, 0)], 2)
)
def test_a_file_is_checked_against_its_method(method, frames, control):
    file = fakes.random_file(frames, control=bool(control))
    if (frames, bool(control)) == (method.frames, method.uses_control):
        assert read_sharing(file, method, 1.0).frames == frames
        return
    with pytest.raises(ChecksumError, match="is the file of another method: it makes "):
        read_sharing(file, method, 1.0)


class TestRows:
    """Each layer's rows belong to the UNet call's own batch."""

    @staticmethod
    def run(frames=3):
        sharing = AttentionSharing.from_state_dict(fakes.random_file(frames), 1.0)
        return SharingRun(sharing), base_of(fakes.Attention.random(CHANNELS, CHANNELS, HEADS))

    @pytest.mark.parametrize("rows", [3, 9])
    def test_whole_sets_of_another_batch_are_refused(self, rows):
        run, base = self.run()
        run.begin_call(6)
        with pytest.raises(HostError, match=f"{rows} rows .* for 6"):
            run(SELF, base, torch.randn(rows, 6, CHANNELS))

    @pytest.mark.parametrize(("rows", "part"), [(4, None), (4, 2), (6, 2)])
    def test_a_call_without_whole_sets_is_refused(self, rows, part):
        with pytest.raises(HostError, match="whole sets of 3"):
            self.run()[0].begin_call(rows, part)

    def test_a_conditioning_repeated_as_a_whole_keeps_its_sets(self):
        """Regions: the rows without a prompt once, those with one once for each region."""
        run, base = self.run()
        x = torch.randn(6, 6, CHANNELS)
        run.begin_call(6, 3)
        plain = run(SELF, base, x)
        regions = run(SELF, base, torch.cat([x[:3], x[3:], x[3:]]))
        close(regions[:6], plain, 1e-6)
        close(regions[6:], plain[3:], 1e-6)
        with pytest.raises(HostError, match="regroups"):
            run(SELF, base, torch.randn(8, 6, CHANNELS))
        with pytest.raises(HostError, match="regroups"):
            run(SELF, base, torch.randn(3, 6, CHANNELS))

    def test_empty_rows_that_fill_a_batch_up_stay_empty(self):
        """Regions: an odd number of rows is made even."""
        run, base = self.run()
        x = torch.randn(9, 6, CHANNELS)
        run.begin_call(6, 3)
        filled = run(SELF, base, torch.cat([x, torch.zeros(1, 6, CHANNELS)]))
        close(filled[:9], run(SELF, base, x), 1e-6)
        assert not filled[9:].any()

    @pytest.mark.parametrize("given", ["context", "value"])
    def test_own_keys_and_values_of_a_patch_see_the_control_image(self, given):
        """A patch hands over queries, keys and values as three, also where it leaves them."""
        file = fakes.random_file(2, control=True)
        control = torch.rand(1, 3, 64, 64)
        run = SharingRun(AttentionSharing.from_state_dict(file, 0.7), control)
        base = base_of(fakes.Attention.random(CHANNELS, CHANNELS, HEADS))
        x = torch.randn(4, 4 * 4, CHANNELS)
        run.begin_call(4, 2)
        others = (x.clone(), x.clone() if given == "value" else None)
        close(run(SELF, base, x, *others), run(SELF, base, x), 1e-5)


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_cast_to_half_and_back_loses_nothing(frames, dtype):
    file = fakes.random_file(frames, control=True)
    base = base_of(fakes.Attention.random(CHANNELS, CHANNELS, HEADS))
    x, control = torch.randn(frames, 4 * 4, CHANNELS), torch.rand(1, 3, 64, 64)
    sharing = AttentionSharing.from_state_dict(file, 0.7)
    want = SharingRun(sharing, control)(SELF, base, x)
    before = {name: value.clone() for name, value in sharing.state_dict().items()}
    sharing.to(dtype).to(torch.float32)
    after = sharing.state_dict()
    merged = {name for name in before if name.endswith((".q.weight", ".k.weight", ".v.weight"))}
    kept = {name for name in before.keys() - merged if not name.endswith(".out.weight")}
    assert kept
    assert all(torch.equal(before[name], after[name]) for name in kept)
    assert torch.equal(SharingRun(sharing, control)(SELF, base, x), want)


def test_scores_that_only_half_cannot_hold_are_scaled_before_the_product():
    """q · k is 8 heads' width × 100 × 100 = 80 000, over half's 65 504, and 28 284 when scaled."""
    file = fakes.random_file(2, channels=8)
    key = f"hookers.layers.{SELF}.temporal_"
    for name in "iqkvo":
        file[f"{key}{name}.weight"].zero_()
        file[f"{key}{name}.bias"].zero_()
    for name in "qk":
        file[f"{key}{name}.bias"].fill_(100)
    file[f"{key}v.bias"].fill_(1)
    file[f"{key}o.weight"].copy_(torch.eye(8))
    sharing = AttentionSharing.from_state_dict(file, 1.0).half()
    cross = sharing.layers[SELF].cross
    assert torch.equal(cross(torch.randn(2, 4, 8).half(), 1), torch.ones(2, 4, 8).half())
