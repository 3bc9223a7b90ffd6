import copy

import pytest
import torch

from napari_unet.core.network.unet import UNet, UNetConfig, initialise
from napari_unet.core.network.weight_standardisation import is_standardised, settle, standardise


@pytest.fixture
def network() -> UNet:
    network = UNet(UNetConfig(depth=2, width=4, distance=True, dropout=0.0)).eval()
    initialise(network, 0)
    return network


IMAGE = torch.rand(1, 1, 60, 60, generator=torch.Generator().manual_seed(0))


def filters(network: UNet) -> list[torch.Tensor]:
    return [m.weight for m in network.modules() if getattr(m, "kernel_size", None) == (3, 3)]


def test_filters_have_mean_0_and_keep_their_scale(network):
    before = [weight.detach().clone() for weight in filters(network)]
    assert not is_standardised(network)
    standardise(network)
    assert is_standardised(network)
    for weight, old in zip(filters(network), before, strict=True):
        assert weight.mean((1, 2, 3)).abs().max() < 1e-6
        deviations = [each.std((1, 2, 3), correction=0) for each in (weight, old)]
        torch.testing.assert_close(*deviations, rtol=1e-2, atol=0)


def test_what_is_learnt_becomes_plain_weights(network):
    names = set(network.state_dict())
    standardise(network)
    optimiser = torch.optim.SGD(network.parameters(), 0.1)
    for _ in range(3):
        optimiser.zero_grad()
        network(IMAGE).square().mean().backward()
        optimiser.step()
    learning = network(IMAGE)
    settle(network)
    assert set(network.state_dict()) == names
    assert is_standardised(network)
    torch.testing.assert_close(network(IMAGE), learning)


def test_standardised_weights_stay_what_they_are(network):
    standardise(network)
    settle(network)
    again = copy.deepcopy(network)
    standardise(again)
    torch.testing.assert_close(again(IMAGE), network(IMAGE))


def test_a_network_that_never_was_is_left_alone(network):
    before = network(IMAGE)
    settle(network)
    torch.testing.assert_close(network(IMAGE), before, rtol=0, atol=0)
