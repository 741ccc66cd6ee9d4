"""The posterior of an ldm VAE by its parts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lib_layerdiffuse.hosts.vae_moments import moments


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return nn.Conv2d(3, 8, 8, stride=8)


def test_mean_and_deviation_stand_beside_each_other(encoder):
    signed = torch.rand(2, 3, 16, 24) * 2 - 1
    mean, log_variance = encoder(signed).chunk(2, dim=1)
    found = moments(SimpleNamespace(encoder=encoder), signed)
    torch.testing.assert_close(found, torch.cat([mean, log_variance.exp().sqrt()], dim=1))
    assert not found.requires_grad


@pytest.mark.parametrize("quant_conv", [None, nn.Conv2d(8, 8, 1)], ids=["none", "one"])
def test_a_vae_may_have_a_convolution_behind_its_encoder(encoder, quant_conv):
    vae = SimpleNamespace(encoder=encoder, quant_conv=quant_conv)
    signed = torch.rand(1, 3, 8, 8) * 2 - 1
    through = encoder(signed) if quant_conv is None else quant_conv(encoder(signed))
    torch.testing.assert_close(moments(vae, signed)[:, :4], through[:, :4])


@pytest.mark.parametrize(("logarithm", "wanted"), [(99.0, 10.0), (-99.0, -15.0)])
def test_a_deviation_is_clipped_as_hosts_do(logarithm, wanted):
    vae = SimpleNamespace(encoder=lambda x: torch.full((1, 8, 1, 1), logarithm))
    std = moments(vae, torch.zeros(1, 3, 8, 8))[:, 4:]
    torch.testing.assert_close(std.log(), torch.full_like(std, wanted))
