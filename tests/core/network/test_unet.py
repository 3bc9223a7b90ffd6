import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from napari_unet.core.network.unet import (
    UNet,
    UNetConfig,
    halo_px,
    initialise,
    output_px,
    with_classes,
    with_distance,
)


def make(seed: int = 0, **config) -> UNet:
    network = UNet(UNetConfig(**config)).eval()
    initialise(network, seed)
    return network


@contextmanager
def recorded(network: UNet, kinds: tuple[type[nn.Module], ...], look) -> Iterator[list]:
    """What `look(module, input, output)` says of each module of these kinds, in order of call."""
    seen: list = []
    handles = [
        module.register_forward_hook(lambda m, args, out: seen.append(look(m, args[0], out)))
        for module in network.modules()
        if isinstance(module, kinds)
    ]
    yield seen
    for handle in handles:
        handle.remove()


def test_every_size_and_channel_count_of_figure_1():
    with torch.device("meta"):
        network, image = UNet(), torch.empty(1, 1, 572, 572)

    def look(module, source, out):
        assert source.shape[-1] == source.shape[-2]
        assert out.shape[-1] == out.shape[-2]
        return type(module).__name__, (source.shape[1], source.shape[2]), (out.shape[1:3])

    with recorded(network, (nn.Conv2d, nn.ConvTranspose2d), look) as seen:
        logits = network(image)
    down = [(64, 572), (128, 284), (256, 140), (512, 68), (1024, 32)]
    up = [(512, 56), (256, 104), (128, 200), (64, 392)]
    expected = []
    channels = 1
    for width, size in down:
        expected.append(("Conv2d", (channels, size), (width, size - 2)))
        expected.append(("Conv2d", (width, size - 2), (width, size - 4)))
        channels = width
    for width, size in up:
        expected.append(("ConvTranspose2d", (2 * width, size // 2), (width, size)))
        # The copied half and the upsampled half.
        expected.append(("Conv2d", (2 * width, size), (width, size - 2)))
        expected.append(("Conv2d", (width, size - 2), (width, size - 4)))
    expected.append(("Conv2d", (64, 388), (2, 388)))
    assert seen == expected
    assert logits.shape == (1, 2, 388, 388)


def test_parameter_count_of_figure_1():
    blue = [(1, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512)]
    blue += [(512, 512), (512, 1024), (1024, 1024), (1024, 512), (512, 512), (512, 256)]
    blue += [(256, 256), (256, 128), (128, 128), (128, 64), (64, 64)]
    green = [(1024, 512), (512, 256), (256, 128), (128, 64)]
    count = sum(9 * i * o + o for i, o in blue) + sum(4 * i * o + o for i, o in green) + 2 * 64 + 2
    assert count == 31_030_658
    with torch.device("meta"):
        network = UNet()
    assert sum(p.numel() for p in network.parameters()) == count
    assert sum(isinstance(m, nn.Conv2d | nn.ConvTranspose2d) for m in network.modules()) == 23


def test_up_convolution_is_the_transposed_matrix_of_its_convolution():
    up = make(depth=1, width=3).up[0].double()
    n_in, n_out, size = up.in_channels, up.out_channels, 4
    basis = torch.eye(n_out * (2 * size) ** 2, dtype=torch.float64)
    columns = F.conv2d(basis.reshape(-1, n_out, 2 * size, 2 * size), up.weight, stride=2)
    matrix = columns.reshape(len(basis), -1).T  # (n_in size^2, n_out (2 size)^2)
    x = torch.randn(n_in * size**2, dtype=torch.float64)
    y = (matrix.T @ x).reshape(n_out, 2 * size, 2 * size) + up.bias[:, None, None]
    torch.testing.assert_close(up(x.reshape(1, n_in, size, size))[0], y)


def test_weights_are_drawn_with_the_standard_deviation_of_the_paper():
    network = make(width=16, n_classes=8)
    for module in network.modules():
        if isinstance(module, nn.ConvTranspose2d):
            nodes = 2 * module.in_channels  # no ReLU behind it, see `initialise`
        elif isinstance(module, nn.Conv2d):
            nodes = module.in_channels * module.kernel_size[0] * module.kernel_size[1]
        else:
            continue
        count = module.weight.numel()
        expected = math.sqrt(2 / nodes)
        assert module.weight.std().item() == pytest.approx(expected, rel=4 / math.sqrt(2 * count))
        assert module.weight.mean().item() == pytest.approx(0, abs=4 * expected / math.sqrt(count))
        assert not module.bias.any()


@pytest.mark.parametrize("seed", range(3))
def test_every_layer_keeps_the_mean_square_of_what_it_is_given(seed):
    # A ReLU halves what a convolution doubles; an up-convolution has no ReLU behind it.
    network = make(seed, width=32)
    image = torch.randn(1, 1, 236, 236, generator=torch.Generator().manual_seed(seed))

    def gain(module, source, out):
        return type(module), (out.square().mean() / source.square().mean()).item()

    with torch.no_grad(), recorded(network, (nn.Conv2d, nn.ConvTranspose2d), gain) as seen:
        network(image)
    for kind, ratio in seen[:-1]:
        expected = 1 if kind is nn.ConvTranspose2d else 2
        assert expected / 1.6 < ratio < expected * 1.6


@pytest.mark.parametrize("seed", range(3))
def test_feature_maps_keep_about_unit_variance(seed):
    # Of white noise, a pooling takes the maxima: the worst case for the variance.
    network = make(seed, width=16)
    image = torch.randn(1, 1, 236, 236, generator=torch.Generator().manual_seed(seed))
    spread = lambda module, source, out: out.std().item()  # noqa: E731
    with torch.no_grad(), recorded(network, (nn.ReLU, nn.ConvTranspose2d), spread) as seen:
        network(image)
    assert min(seen) > 0.5
    assert max(seen) < 4


def test_initialise_is_reproduced_by_its_seed():
    first, same, other = make(1, width=2), make(1, width=2), make(2, width=2)
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), same.parameters(), strict=True)
    )
    assert not torch.equal(first.head.weight, other.head.weight)


def test_dropout_is_at_the_end_of_the_contracting_path():
    network = make(width=2, depth=3, dropout=0.5).train()
    kinds = (nn.Sequential, nn.ConvTranspose2d)
    with recorded(network, kinds, lambda module, source, out: (source, out)) as seen:
        network(torch.randn(1, 1, 100, 100))
    levels = seen[:4]
    assert [out.shape[1] for _, out in levels] == [2, 4, 8, 16]
    for (_, out), (source, _) in pairwise(levels[:3]):
        assert torch.equal(source, F.max_pool2d(out, 2)), "nothing is dropped higher up"
    assert not torch.equal(levels[3][0], F.max_pool2d(levels[2][1], 2))
    (_, lowest), (dropped, _) = seen[3:5]
    kept = dropped != 0
    assert torch.equal(dropped[kept], 2 * lowest[kept])
    assert 0.4 < kept[lowest != 0].float().mean() < 0.6


def test_what_dropout_keeps_is_scaled():
    network = make(width=2, depth=1, dropout=0.25).train()
    x = torch.ones(1, 2, 200, 200)
    dropped = network._drop(x, torch.Generator().manual_seed(0))
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], torch.full_like(dropped[kept], 1 / 0.75))
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.01)
    assert network._drop(x.bfloat16(), None).dtype == torch.bfloat16


def test_dropout_acts_in_training_only():
    network, image = make(width=4, depth=1), torch.randn(1, 1, 30, 30)
    assert torch.equal(network(image), network(image))
    network.train()
    assert not torch.equal(network(image), network(image))


def test_dropout_draws_from_the_generator_that_it_is_given():
    network, image = make(width=4, depth=1).train(), torch.randn(1, 1, 30, 30)
    before = torch.get_rng_state()
    first, same, other = (network(image, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("known", [2, 3])
@pytest.mark.parametrize("more", [0, 1, 2])
def test_new_classes_share_the_probability_of_the_last_one(known, more):
    network = make(depth=1, width=3, n_classes=known)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    wider = with_classes(network, known + more)
    assert wider.config.n_classes == known + more
    assert not wider.training
    image = torch.randn(1, 1, 40, 40)
    old, new = network(image).softmax(1), wider(image).softmax(1)
    torch.testing.assert_close(new[:, 0], old[:, 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(new[:, : known - 1], old[:, : known - 1], rtol=0, atol=1e-5)
    for kind in range(known - 1, known + more):
        torch.testing.assert_close(new[:, kind], old[:, -1] / (more + 1), rtol=0, atol=1e-5)
    # A copy: what it learns does not reach the other.
    with torch.no_grad():
        for parameter in wider.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert with_classes(network.train(), known).training


def test_the_distance_is_one_more_output_that_new_classes_leave_alone():
    network = make(depth=1, width=3, distance=True)
    image = torch.randn(1, 1, 40, 40)
    assert network.config.n_outputs == 3
    old, new = network(image), with_classes(network, 4)(image)
    assert (old.shape[1], new.shape[1]) == (3, 5)
    torch.testing.assert_close(new[:, -1], old[:, -1], rtol=0, atol=1e-5)
    torch.testing.assert_close(
        new[:, :4].softmax(1)[:, 0], old[:, :2].softmax(1)[:, 0], rtol=0, atol=1e-5
    )


def test_a_network_that_is_given_the_distance_says_of_cells_what_it_said():
    network, image = make(depth=1, width=3), torch.randn(1, 1, 40, 40)
    telling = with_distance(network)
    torch.testing.assert_close(telling(image)[:, :2], network(image), rtol=0, atol=1e-6)
    assert (telling(image)[:, 2] == 0).all()
    with pytest.raises(ValueError, match="tells the distance already"):
        with_distance(telling)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"depth": 0}, "depth is 0; give 1 or more"),
        ({"width": 0}, "width is 0; give 1 or more"),
        ({"in_channels": -1}, "in_channels is -1; give 1 or more"),
        ({"n_classes": 1}, "n_classes is 1; give background and one more"),
        ({"dropout": 1.0}, r"dropout is 1.0; give one in \[0, 1\)"),
    ],
)
def test_a_wrong_architecture_is_named_with_what_is_needed(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        UNetConfig(**wrong)


@pytest.mark.parametrize(
    ("depth", "source", "out"),
    [(4, 572, 388), (4, 204, 20), (4, 188, 4), (4, 1020, 836), (1, 20, 4), (1, 22, 6), (3, 92, 4)],
)
def test_output_sizes(depth, source, out):
    assert output_px(source, depth) == out
    assert source - out == 2 * halo_px(depth)
    with torch.device("meta"):
        network = UNet(UNetConfig(depth=depth, width=1))
        assert network(torch.empty(1, 1, source, source)).shape[-2:] == (out, out)


@pytest.mark.parametrize("size", [571, 573, 580, 172, 0, -4])
def test_an_invalid_size_is_named_with_what_is_needed(size):
    sentence = f"^{size} px is no input size of a U-Net of depth 4; give 16 b \\+ 60 with b of 8"
    with pytest.raises(ValueError, match=sentence):
        output_px(size, 4)


def test_the_network_refuses_invalid_sizes():
    network = make(depth=2, width=1)
    with pytest.raises(ValueError, match="45 px is no input size of a U-Net of depth 2"):
        network(torch.zeros(1, 1, 44, 45))


def test_inputs_need_not_be_square():
    network = make(depth=2, width=2, in_channels=3, n_classes=4)
    assert network(torch.zeros(2, 3, 44, 60)).shape == (2, 4, 4, 20)


def test_skips_are_cropped_about_their_centre():
    # With symmetric kernels, the mirror image of the input gives that of the output.
    network = make(depth=3, width=3).double()
    with torch.no_grad():
        for weight in (p for p in network.parameters() if p.ndim == 4):
            weight.copy_((weight + weight.flip(-1) + weight.flip(-2) + weight.flip(-1, -2)) / 2)
        image = torch.randn(1, 1, 108, 116, dtype=torch.float64)
        logits = network(image)
        assert logits.std() > 0.1
        for axes in [(-1,), (-2,), (-1, -2)]:
            torch.testing.assert_close(network(image.flip(*axes)), logits.flip(*axes))


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_shifts_by_the_lattice_commute_with_the_network(depth):
    step = 2**depth
    size = 10 * step + 4 * (step - 1)
    network = make(depth=depth, width=2).double()
    image = torch.randn(1, 1, size + step, size + step, dtype=torch.float64)
    with torch.no_grad():
        here = network(image[..., :size, :size])
        there = network(image[..., step:, step:])
        beside = network(image[..., 1 : size + 1, 1 : size + 1])
    torch.testing.assert_close(here[..., step:, step:], there[..., :-step, :-step])
    # Pooling knows where it stands: no other shift will do.
    assert (here[..., 1:, 1:] - beside[..., :-1, :-1]).abs().max() > 0.01


# Stacks


STACKS = [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (3, 1)]


@pytest.mark.parametrize(("depth", "z_depth"), STACKS)
def test_output_sizes_of_stacks_are_those_of_each_axis(depth, z_depth):
    with torch.device("meta"):
        network = UNet(UNetConfig(depth=depth, width=1, z_depth=z_depth, distance=True))
        sizes = [13 * 2**d - 4 for d in (z_depth, depth, depth)]
        sizes[2] += 2**depth
        out = [output_px(n, d) for n, d in zip(sizes, network.config.depths, strict=True)]
        assert network(torch.empty(2, 1, *sizes)).shape == (2, 3, *out)


@pytest.mark.parametrize(("depth", "z_depth"), STACKS)
def test_a_network_of_stacks_sees_its_halo_and_no_further(depth, z_depth):
    network = make(depth=depth, width=4, z_depth=z_depth).double()
    sizes = [12 * 2**d - 4 for d in network.config.depths]
    stack = torch.rand(1, 1, *sizes, dtype=torch.float64, requires_grad=True)
    logits = network(stack)
    assert logits.shape[2:] == (4, 4, 4)
    logits.sum().backward()
    for axis in (2, 3, 4):
        line = stack.grad.abs().sum([a for a in range(5) if a != axis])
        assert (line > 0).all(), "the halo is no larger than what is looked at"


@pytest.mark.parametrize(("depth", "z_depth"), STACKS)
def test_shifts_by_the_lattice_of_each_axis_commute_with_a_network_of_stacks(depth, z_depth):
    network = make(depth=depth, width=2, z_depth=z_depth).double()
    steps = [2**d for d in network.config.depths]
    sizes = [13 * step - 4 for step in steps]
    stack = torch.randn(1, 1, *(2 * s + n for s, n in zip(steps, sizes, strict=True))).double()

    def at(z, y, x):
        starts = zip((z, y, x), sizes, strict=True)
        window = (slice(None), slice(None), *(slice(start, start + n) for start, n in starts))
        with torch.no_grad():
            return network(stack[window])

    here, there = at(0, 0, 0), at(*steps)
    overlap = [slice(step, None) for step in steps]
    ahead = [slice(None, -step) for step in steps]
    torch.testing.assert_close(here[(..., *overlap)], there[(..., *ahead)])
    if z_depth:
        beside = at(1, 0, 0)
        assert (here[:, :, 1:] - beside[:, :, :-1]).abs().max() > 1e-3


def test_levels_above_coarse_planes_look_at_single_planes():
    with torch.device("meta"):
        network = UNet(UNetConfig(depth=3, width=1, z_depth=1))
    assert [convs[0].kernel_size[0] for convs in network.down] == [1, 1, 3, 3]
    assert [up.stride[0] for up in network.up] == [2, 1, 1]
    assert [convs[2].kernel_size[0] for convs in network.join] == [3, 1, 1]
    assert {conv.kernel_size[1:] for convs in network.down for conv in (convs[0], convs[2])} == {
        (3, 3)
    }


def test_weights_of_stacks_are_drawn_like_those_of_planes():
    network = make(depth=2, width=16, z_depth=1)
    conv, up = network.down[2][2], network.up[0]
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (27 * 64)), rel=0.02)
    assert up.weight.std().item() == pytest.approx(math.sqrt(2 / (2 * 64)), rel=0.05)
    assert not conv.bias.any()


def test_a_network_of_stacks_learns_new_classes_and_the_distance():
    network, stack = make(depth=1, width=3, z_depth=1), torch.randn(1, 1, 22, 22, 22)
    telling = with_distance(with_classes(network, 3))
    assert telling.config.z_depth == 1
    assert telling(stack).shape[1] == 4
    torch.testing.assert_close(
        telling(stack)[:, :3].softmax(1)[:, 0], network(stack).softmax(1)[:, 0], rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("z_depth", [-1, 3])
def test_a_wrong_depth_along_z_is_named(z_depth):
    with pytest.raises(ValueError, match=f"z_depth is {z_depth}; give one from 0 to depth 2"):
        UNetConfig(depth=2, z_depth=z_depth)
