import math

import pytest
import torch

from napari_unet.core.network.augment import jitter_grey, random_matrix


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def matrices(count: int = 400, **options) -> torch.Tensor:
    g = generator(1)
    return torch.stack([random_matrix(**options, generator=g) for _ in range(count)]).double()


def test_nothing_drawn_is_the_identity():
    drawn = matrices(5, rotate=False, flip=False, scale=1.0)
    assert torch.equal(drawn, torch.eye(2, dtype=torch.float64).expand(5, 2, 2))


def test_rotations_keep_lengths_and_cover_the_full_circle():
    drawn = matrices(rotate=True, flip=False, scale=1.0)
    identity = torch.eye(2, dtype=torch.float64).expand_as(drawn)
    torch.testing.assert_close(drawn @ drawn.mT, identity, rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.linalg.det(drawn), torch.ones(400).double(), rtol=0, atol=1e-6)
    angles = torch.atan2(drawn[:, 1, 0], drawn[:, 0, 0])
    quarters = torch.histc(angles, 4, -math.pi, math.pi)
    assert (quarters > 70).all(), "100 expected in each"


def test_half_of_the_draws_are_mirrored():
    drawn = matrices(rotate=False, flip=True, scale=1.0)
    mirrored = torch.linalg.det(drawn) < 0
    assert 0.4 < mirrored.double().mean() < 0.6
    expected = torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
    assert torch.equal(drawn[mirrored][0], expected)


def test_a_rotated_mirror_image_is_still_a_mirror_image():
    drawn = matrices(rotate=True, flip=True, scale=1.0)
    torch.testing.assert_close(
        torch.linalg.det(drawn).abs(), torch.ones(400).double(), atol=1e-6, rtol=0
    )
    identity = torch.eye(2, dtype=torch.float64).expand_as(drawn)
    torch.testing.assert_close(drawn @ drawn.mT, identity, rtol=0, atol=1e-6)


def test_zooms_are_log_uniform_within_their_limits():
    drawn = matrices(rotate=True, flip=True, scale=2.0)
    zoom = torch.linalg.det(drawn).abs().sqrt()
    assert 0.5 <= zoom.min() < 0.52
    assert 1.92 < zoom.max() <= 2.0 + 1e-6
    logarithm = zoom.log2()
    assert logarithm.mean().item() == pytest.approx(0, abs=0.1)
    assert logarithm.std().item() == pytest.approx(1 / math.sqrt(3), rel=0.1)


def test_no_jitter_is_the_identity():
    image = torch.randn(2, 9, 9)
    out = jitter_grey(image, grey=0.0, noise=0.0, invert=0.0, generator=generator())
    torch.testing.assert_close(out, image)


def test_inversion_turns_dark_into_bright():
    image = torch.rand(1, 9, 9)
    out = jitter_grey(image, grey=0.0, noise=0.0, invert=1.0, generator=generator())
    torch.testing.assert_close(out, 1 - image)


def test_inversion_has_the_probability_that_was_asked():
    g, image = generator(), torch.tensor([[[0.0, 1.0]]])
    outs = [jitter_grey(image, grey=0, noise=0, invert=0.25, generator=g) for _ in range(400)]
    share = sum(bool(out[0, 0, 0] > out[0, 0, 1]) for out in outs) / 400
    assert share == pytest.approx(0.25, abs=0.07)


@pytest.mark.parametrize("seed", range(10))
def test_grey_values_keep_their_order_and_are_finite(seed):
    image = torch.linspace(-1, 2, 300)[None, None]
    out = jitter_grey(image, grey=0.5, noise=0.0, generator=generator(seed))
    assert out.isfinite().all()
    assert (out.diff(dim=-1) > 0).all()


def test_grey_values_do_change():
    image = torch.rand(1, 9, 9)
    outs = [jitter_grey(image, grey=0.15, noise=0, generator=generator(s)) for s in range(200)]
    shift = torch.stack([(out - image).mean() for out in outs])
    assert 0.05 < shift.std() < 0.4


def test_noise_has_at_most_its_standard_deviation():
    levels = torch.stack(
        [
            jitter_grey(torch.zeros(1, 60, 60), grey=0.0, noise=0.2, generator=generator(s)).std()
            for s in range(60)
        ]
    )
    assert 0.17 < levels.max() < 0.21
    assert levels.min() < 0.05


def test_a_seed_reproduces_the_jitter():
    image = torch.rand(1, 9, 9)
    first = jitter_grey(image, generator=generator(4))
    assert torch.equal(first, jitter_grey(image, generator=generator(4)))
    assert not torch.equal(first, jitter_grey(image, generator=generator(5)))


def test_the_image_itself_is_left_alone():
    image = torch.rand(1, 9, 9)
    copy = image.clone()
    jitter_grey(image, invert=1.0, generator=generator())
    assert torch.equal(image, copy)
