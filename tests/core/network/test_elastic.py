import numpy as np
import pytest
import torch

from napari_unet.core.network.elastic import (
    displacement_field,
    interpolate_nodes,
    sampling_grid,
    warp,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cubic(t: float, a: float = -0.75) -> float:
    """Keys' cubic convolution kernel."""
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def middle(shape: tuple[int, int]) -> tuple[float, float]:
    return (shape[0] - 1) / 2, (shape[1] - 1) / 2


def random_deformation(size: int, shape: tuple[int, int], seed: int):
    """A field of a few pixels, a matrix, a centre, and where each pixel then comes from."""
    g = generator(seed)
    field = displacement_field(size, 2.0, generator=g)
    matrix = torch.eye(2) + 0.2 * torch.randn(2, 2, generator=g)
    centre = (shape[0] * 0.45, shape[1] * 0.55)
    line = np.arange(size) - (size - 1) / 2
    offset = np.stack(np.meshgrid(line, line, indexing="ij")) + field.numpy()
    origin = np.einsum("ij,jyx->iyx", matrix.numpy(), offset) + np.reshape(centre, (2, 1, 1))
    return sampling_grid(field, matrix, centre, shape), origin


@pytest.mark.parametrize("size", [3, 5, 101, 389])
def test_the_field_takes_the_drawn_values_at_the_nodes(size):
    field = displacement_field(size, generator=generator(5))
    drawn = 10 * torch.randn(2, 3, 3, generator=generator(5))
    half = (size - 1) // 2
    torch.testing.assert_close(field[:, ::half, ::half], drawn, rtol=0, atol=1e-4)
    assert field.shape == (2, size, size)


def test_the_nodes_of_an_even_size_are_its_corners():
    nodes = torch.randn(1, 2, 3, 3, generator=generator())
    field = interpolate_nodes(nodes, 388)
    torch.testing.assert_close(field[..., ::387, ::387], nodes[..., ::2, ::2], rtol=0, atol=1e-5)


def test_between_the_nodes_the_field_is_bicubic():
    nodes, size = torch.randn(1, 1, 3, 3, generator=generator(1)), 21
    field = interpolate_nodes(nodes, size)[0, 0]
    for y, x in [(3, 7), (10, 1), (19, 13)]:
        expected = 0.0
        for i in range(-2, 6):
            for j in range(-2, 6):
                value = nodes[0, 0, min(max(i, 0), 2), min(max(j, 0), 2)].item()
                expected += value * cubic(y / 10 - i) * cubic(x / 10 - j)
        assert field[y, x].item() == pytest.approx(expected, abs=1e-5)


def test_the_nodes_are_gaussian_with_sigma_10_px():
    g = generator(3)
    values = torch.stack([displacement_field(3, generator=g) for _ in range(1000)])
    assert values.std().item() == pytest.approx(10, rel=0.03)
    assert values.mean().item() == pytest.approx(0, abs=0.3)
    assert (values.abs() < 10).float().mean().item() == pytest.approx(0.6827, abs=0.015)


def test_sigma_and_grid_are_what_was_asked():
    g = generator(3)
    values = torch.stack([displacement_field(4, 2.5, 4, generator=g) for _ in range(500)])
    assert values.std().item() == pytest.approx(2.5, rel=0.03)
    assert not displacement_field(50, 0.0, generator=g).any()


def test_a_seed_reproduces_the_field():
    first = displacement_field(40, generator=generator(8))
    assert torch.equal(first, displacement_field(40, generator=generator(8)))
    assert not torch.equal(first, displacement_field(40, generator=generator(9)))


@pytest.mark.parametrize("shape", [(31, 31), (30, 30)])
def test_no_deformation_reproduces_the_source(shape):
    source = torch.rand(2, *shape, generator=generator())
    grid = sampling_grid(torch.zeros(2, *shape), torch.eye(2), middle(shape), shape)
    torch.testing.assert_close(warp(source, grid), source, rtol=0, atol=1e-4)
    ids = torch.arange(shape[0] * shape[1], dtype=torch.float32).reshape(1, *shape)
    assert torch.equal(warp(ids, grid, nearest=True), ids)


def test_a_shift_shifts():
    source = torch.rand(1, 40, 50, generator=generator())
    expected = source[:, 13:24, 25:36]
    centred = sampling_grid(torch.zeros(2, 11, 11), torch.eye(2), (18, 30), (40, 50))
    torch.testing.assert_close(warp(source, centred), expected, rtol=0, atol=1e-4)
    field = torch.tensor([3.0, -2.0])[:, None, None].expand(2, 11, 11)
    displaced = sampling_grid(field, torch.eye(2), (15, 32), (40, 50))
    torch.testing.assert_close(warp(source, displaced), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [20, 21])
def test_a_quarter_turn_is_that_of_numpy(size):
    source = torch.rand(1, size, size, generator=generator())
    matrix = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    grid = sampling_grid(torch.zeros(2, size, size), matrix, middle((size, size)), (size, size))
    expected = np.rot90(source[0].numpy(), -1)
    np.testing.assert_allclose(warp(source, grid)[0].numpy(), expected, atol=1e-4)


def test_beyond_its_edges_the_source_is_mirrored():
    source = torch.rand(1, 8, 9, generator=generator())
    grid = sampling_grid(torch.zeros(2, 30, 30), torch.eye(2), (3.5, 4.5), (8, 9))
    padded = np.pad(source[0].numpy(), ((11, 11), (10, 11)), mode="reflect")
    np.testing.assert_allclose(warp(source, grid)[0].numpy(), padded, atol=1e-4)


def test_a_source_of_one_pixel_is_constant():
    grid = sampling_grid(displacement_field(9, generator=generator()), torch.eye(2), (0, 0), (1, 1))
    torch.testing.assert_close(warp(torch.full((1, 1, 1), 7.0), grid), torch.full((1, 9, 9), 7.0))


@pytest.mark.parametrize("seed", range(5))
def test_the_image_comes_from_where_the_grid_says(seed):
    shape = (90, 110)
    grid, origin = random_deformation(41, shape, seed)
    ramps = torch.from_numpy(np.indices(shape).astype(np.float32))
    inside = ((origin >= 0) & (origin <= np.reshape(shape, (2, 1, 1)) - 1)).all(0)
    assert inside.mean() > 0.9
    np.testing.assert_allclose(warp(ramps, grid).numpy()[:, inside], origin[:, inside], atol=1e-2)


@pytest.mark.parametrize("seed", range(5))
def test_labels_get_the_deformation_of_the_image(seed):
    shape = (90, 110)
    grid, _ = random_deformation(41, shape, seed)
    ids = torch.arange(shape[0] * shape[1], dtype=torch.float32).reshape(1, *shape)
    taken = warp(ids, grid, nearest=True)[0].numpy().astype(int)
    ramps = torch.from_numpy(np.indices(shape).astype(np.float32))
    image = warp(ramps, grid).numpy()
    # Each label is the source pixel nearest to where the image was read.
    assert np.abs(np.stack(np.unravel_index(taken, shape)) - image).max() < 0.51
