"""Attention modules as the hosts have them, while frames share attention."""

from __future__ import annotations

import pytest
import sharing as reference
import torch
from torch import nn

from lib_layerdiffuse.errors import HostError
from lib_layerdiffuse.hosts.attention_swap import AttentionSwap
from lib_layerdiffuse.nets.attention_sharing import AttentionSharing, SharingRun
from lib_layerdiffuse.weights.patches import ATTENTION_SLOTS

CHANNELS, FRAMES = 16, 3
PARTS = ("to_q", "to_k", "to_v", "to_out.0")


class Attention(nn.Module):
    def __init__(self, context):
        super().__init__()
        self.heads = 2
        self.to_q = nn.Linear(CHANNELS, CHANNELS, bias=False)
        self.to_k, self.to_v = (nn.Linear(context, CHANNELS, bias=False) for _ in range(2))
        self.to_out = nn.Sequential(nn.Linear(CHANNELS, CHANNELS), nn.Dropout(0))

    def forward(self, x, context=None, mask=None):
        raise AssertionError("the host's own attention ran")


class Net(nn.Module):
    """Runs one attention module in the way that a host of a test's does."""

    def __init__(self, call):
        super().__init__()
        for i, slot in enumerate(ATTENTION_SLOTS):
            *parents, name = slot.split(".")
            node = self
            for parent in parents:
                if parent not in node._modules:
                    node.add_module(parent, nn.Module())
                node = node._modules[parent]
            node.add_module(name, Attention(12 if i % 2 else CHANNELS))
        self.call = call

    def forward(self, x):
        return self.call(self.get_submodule(ATTENTION_SLOTS[0]), x)


def by_keyword(module, x):
    return module(x, context=None, value=None, transformer_options={})


@pytest.fixture
def file():
    torch.manual_seed(0)
    return reference.random_file(FRAMES)


def shared(net, file, x):
    swap = AttentionSwap(net, SharingRun(AttentionSharing.from_state_dict(file, 1.0), None))
    with torch.no_grad(), swap.during_call(len(x)):
        return net(x)


@pytest.fixture
def x():
    return torch.randn(FRAMES, 4, CHANNELS, generator=torch.Generator().manual_seed(1))


class TestWhatIsPassed:
    def test_values_of_their_own_count_by_keyword(self, file, x):
        other = torch.randn(x.shape)
        plain = shared(Net(by_keyword), file, x)
        net = Net(lambda module, x: module(x, x, value=other))
        net.load_state_dict(Net(by_keyword).state_dict())
        assert not torch.allclose(shared(net, file, x), plain, atol=1e-3)

    @pytest.mark.parametrize("third", [None, torch.zeros(1)], ids=["none", "something"])
    def test_a_third_by_place_is_a_mask_in_one_host_and_values_in_another(self, file, x, third):
        net = Net(lambda module, x: module(x, None, third))
        if third is None:
            assert shared(net, file, x).shape == x.shape
            return
        with pytest.raises(HostError, match="in a way of its own"):
            shared(net, file, x)
        assert not any("forward" in vars(module) for module in net.modules())


@pytest.mark.parametrize("part", PARTS)
class TestProjections:
    """All that one computes counts, wherever its host keeps it."""

    @pytest.mark.parametrize("where", ["weight_function", "weight_lowvram_function"])
    def test_weights_that_are_merged_in_each_call(self, file, x, part, where):
        def forward(layer, x):
            weight = layer.weight
            for function in getattr(layer, where, ()):
                weight = function(weight)
            return nn.functional.linear(x, weight, layer.bias)

        net = Net(by_keyword)
        layer = net.get_submodule(ATTENTION_SLOTS[0]).get_submodule(part)
        plain = shared(net, file, x)
        setattr(layer, where, [lambda weight: weight + 0.5])
        layer.__class__ = type("Lazy", (nn.Linear,), {"forward": forward})
        lazy = shared(net, file, x)
        delattr(layer, where)
        layer.weight = nn.Parameter(layer.weight.detach() + 0.5)
        merged = shared(net, file, x)
        assert not torch.allclose(plain, merged, atol=1e-2)
        torch.testing.assert_close(lazy, merged, rtol=1e-4, atol=1e-4)

    def test_weights_of_a_type_of_their_own(self, file, x, part):
        class Packed(torch.Tensor):
            """Says that it is float, and is not."""

        net = Net(by_keyword)
        layer = net.get_submodule(ATTENTION_SLOTS[0]).get_submodule(part)
        plain = shared(net, file, x)
        weight = layer.weight.detach()
        layer.__class__ = type(
            "Unpacks",
            (nn.Linear,),
            {"forward": lambda layer, x: nn.functional.linear(x, weight, layer.bias)},
        )
        layer._parameters["weight"] = torch.zeros_like(weight).as_subclass(Packed)
        torch.testing.assert_close(shared(net, file, x), plain, rtol=1e-4, atol=1e-4)
