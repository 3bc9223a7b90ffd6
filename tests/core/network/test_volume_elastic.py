import pytest
import torch

from napari_unet.core.network.elastic import displacement_field, sampling_grid, warp
from napari_unet.core.network.volume_elastic import stack_grid


def plane_grid(sigma_px=0.0, size=6, shape=(9, 8), centre=(3.5, 4.5)):
    generator = torch.Generator().manual_seed(0)
    field = displacement_field(size, sigma_px, generator=generator)
    return sampling_grid(field, torch.eye(2), centre, shape)


@pytest.mark.parametrize("nearest", [True, False])
@pytest.mark.parametrize("flip", [True, False])
def test_without_deformation_a_window_is_cut_out(nearest, flip):
    stack = torch.rand(2, 7, 9, 8)
    grid = stack_grid(plane_grid(), 2, 4, 7, flip=flip)
    assert grid.shape == (1, 4, 6, 6, 3)
    expected = stack[:, 2:6, 1:7, 2:8]
    expected = expected.flip(1) if flip else expected
    torch.testing.assert_close(warp(stack, grid, nearest=nearest), expected, rtol=0, atol=1e-5)


def test_planes_beyond_the_stack_are_mirrored():
    stack = torch.arange(4.0)[None, :, None, None].expand(1, 4, 9, 8)
    grid = stack_grid(plane_grid(), -2, 8, 4, flip=False)
    planes = warp(stack, grid, nearest=True)[0, :, 0, 0]
    assert planes.tolist() == [2, 1, 0, 1, 2, 3, 2, 1]


def test_a_single_plane_is_repeated():
    stack = torch.rand(1, 1, 9, 8)
    window = warp(stack, stack_grid(plane_grid(), -1, 3, 1, flip=False), nearest=True)
    torch.testing.assert_close(window, stack[:, :, 1:7, 2:8].expand(1, 3, 6, 6))


def test_each_plane_is_deformed_as_a_plane_alone_and_none_mixes_with_its_neighbours():
    stack, within = torch.rand(1, 5, 9, 8), plane_grid(sigma_px=2.0)
    window = warp(stack, stack_grid(within, 1, 3, 5, flip=False))
    for z in range(3):
        alone = warp(stack[:, z + 1], within)
        torch.testing.assert_close(window[:, z], alone, rtol=0, atol=1e-5)
