"""The optimisers beside torch's own."""

import dataclasses

import pytest
import torch

from napari_unet.config import train_config
from napari_unet.core.network.unet import UNet, UNetConfig, initialise
from napari_unet.engine.optimiser import make_optimiser, moments, set_moments


def network():
    network = UNet(UNetConfig(depth=1, width=2, dropout=0.0))
    initialise(network, 0)
    return network


def learn(network, optimiser, seed):
    image = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(seed))
    optimiser.zero_grad(set_to_none=True)
    network(image).square().mean().backward()
    optimiser.step()


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_steps_are_those_of_torch_bit_for_bit(kind):
    ours, theirs = network(), network()
    config = dataclasses.replace(train_config("fast"), optimiser=kind)
    optimiser = make_optimiser(ours, config)
    own, rate = (torch.optim.SGD, torch.optim.AdamW)[kind == "adam"], config.learning_rate
    options = {"momentum": 0.99} if kind == "sgd" else {"weight_decay": 1e-4, "fused": True}
    other = own(theirs.parameters(), lr=rate, **options)
    for seed in range(4):
        if seed == 2:
            kept = moments(optimiser)
            optimiser = make_optimiser(ours, config)
            set_moments(optimiser, kept)
        learn(ours, optimiser, seed)
        learn(theirs, other, seed)
    for name, value in ours.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name])
