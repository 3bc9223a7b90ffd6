import dataclasses

import numpy as np
import pytest
import torch

from napari_unet.config import AugmentConfig, FinetuneConfig
from napari_unet.core.cells.instances import relative_distance, separate_touching
from napari_unet.core.network.unet import UNet, UNetConfig, initialise, output_px
from napari_unet.engine.samples import AnnotatedPlane
from napari_unet.engine.stack_samples import VolumeSampler, split_seen_pieces
from napari_unet.engine.trainer import Trainer

CPU = torch.device("cpu")
NETWORK = UNetConfig(depth=1, width=2, z_depth=1, distance=True)
PLAIN = AugmentConfig(elastic_sigma_px=0, rotate=False, flip=False, scale=1.0, grey=0.0, noise=0.0)
CONFIG = FinetuneConfig(steps=3, seconds=None, tile_px=40, sigma_px=2.0, balance=0.0)
HALO = 8


def stack(shape=(20, 40, 44), count=12, seed=0):
    """Balls, some of them touching, and an image that shows them."""
    rng = np.random.default_rng(seed)
    labels, places = np.zeros(shape, np.int32), np.indices(shape)
    for cell in range(1, count + 1):
        centre = [rng.uniform(0, n) for n in shape]
        near = sum((p - c) ** 2 for p, c in zip(places, centre, strict=True))
        labels[near <= rng.uniform(4, 7) ** 2] = cell
    return (labels > 0)[None].astype(np.float32), labels


def every_fourth(labels):
    trusted = np.zeros(labels.shape, bool)
    trusted[2::4] = True
    return trusted


def sampler(*planes, network=NETWORK, **changes):
    return VolumeSampler(planes, network, dataclasses.replace(CONFIG, **changes), CPU)


def test_shapes_and_types_of_a_sample():
    image, labels = stack()
    sample = sampler(AnnotatedPlane(np.repeat(image, 2, 0), labels)).draw()
    assert sample.image.shape == (2, 38, 40, 40)
    assert sample.grid.shape == (1, 38, 40, 40, 3)
    for truth, dtype in [
        (sample.classes, torch.int64),
        (sample.weight, torch.float32),
        (sample.seen, torch.bool),
        (sample.distance, torch.float32),
        (torch.from_numpy(sample.labels), torch.int32),
    ]:
        assert truth.shape == (22, 24, 24)
        assert truth.dtype == dtype


@pytest.mark.parametrize("z_depth", [0, 1, 2])
@pytest.mark.parametrize("planes", [1, 5, 60])
def test_windows_are_valid_and_flat_where_there_are_few_planes(z_depth, planes):
    network = UNetConfig(depth=2, width=1, z_depth=z_depth)
    empty = np.zeros((planes, 150, 140), np.int32)
    plane = AnnotatedPlane(empty[None].astype(np.float32), empty)
    drawn = sampler(plane, network=network, tile_px=380)
    side, height = drawn.input_px, drawn._n_planes(drawn._sources[0])
    assert output_px(side, 2) >= 50
    assert output_px(height, z_depth) >= min(planes, 50)
    assert height * side**2 <= 100**3
    assert side >= (100 if planes == 60 else 140), "few planes, wide windows"


def test_a_seed_reproduces_the_samples():
    image, labels = stack()

    def draws(seed):
        drawn = sampler(AnnotatedPlane(image, labels, every_fourth(labels)), seed=seed)
        return [drawn.draw() for _ in range(2)]

    for first, same, other in zip(draws(3), draws(3), draws(4), strict=True):
        assert torch.equal(first.image, same.image)
        assert torch.equal(first.weight, same.weight)
        np.testing.assert_array_equal(first.labels, same.labels)
        assert not torch.equal(first.image, other.image)


@pytest.mark.parametrize("seed", range(3))
def test_image_and_truth_get_the_same_deformation(seed):
    image, labels = stack(count=5)
    shapes = AugmentConfig(grey=0.0, noise=0.0)
    drawn = sampler(AnnotatedPlane(image, labels), seed=seed, augment=shapes)
    for _ in range(3):
        sample = drawn.draw()
        shown = sample.image[0, HALO:-HALO, HALO:-HALO, HALO:-HALO]
        # The gap between touching cells is truth alone.
        assert not (sample.classes[shown < 0.001] == 1).any()
        assert (sample.classes[shown > 0.999] == 1).float().mean() > 0.5
        np.testing.assert_array_equal(sample.classes.numpy() > 0, sample.labels > 0)


def places_of(sample, shape):
    """Where each voxel of the truth came from (3, Z, Y, X), and which are plainly in one voxel."""
    inner = sample.grid[0, HALO:-HALO, HALO:-HALO, HALO:-HALO].numpy()
    places = np.moveaxis((inner + 1) / 2 * (np.array(shape[::-1]) - 1), -1, 0)[::-1]
    last = np.array(shape)[:, None, None, None] - 1
    within = (places > -0.4) & (places < last + 0.4)
    return places, np.all(within & (np.abs(places - np.rint(places)) < 0.49), axis=0)


def test_without_augmentation_a_sample_is_a_window():
    _, labels = stack()
    image = np.random.default_rng(0).random((1, *labels.shape), np.float32)
    trusted = every_fourth(labels)
    drawn = sampler(AnnotatedPlane(image, labels, trusted), augment=PLAIN, w0=0.0)
    draws = [
        (sample, *places_of(sample, labels.shape)) for sample in (drawn.draw() for _ in "12345")
    ]
    sample, places, inside = max(draws, key=lambda draw: draw[2].mean())
    assert inside.mean() > 0.3
    np.testing.assert_allclose(places[0], np.rint(places[0]), atol=1e-3)
    index = tuple(np.rint(places[:, inside]).astype(int))
    seen = trusted[index]
    np.testing.assert_array_equal(sample.seen.numpy()[inside], seen)
    weight = sample.weight.numpy()[inside]
    assert (weight[~seen] == 0).all(), "unseen is not background"
    np.testing.assert_allclose(weight[seen], 1)
    apart = separate_touching(split_seen_pieces(labels, trusted))
    # At its sides the window may cut off one of two cells that touch.
    assert ((sample.labels[inside] > 0) == (apart[index] > 0)).mean() > 0.98
    told = relative_distance(apart, trusted)
    np.testing.assert_allclose(sample.distance.numpy()[inside], told[index], atol=1e-6)


def test_what_lies_in_unseen_planes_does_not_matter_for_the_weights():
    image, labels = stack()
    trusted = every_fourth(labels)
    first = sampler(AnnotatedPlane(image, np.where(trusted, labels, 0), trusted)).draw()
    assert first.weight.max() > 1, "there are borders"
    assert first.seen.float().mean() < 0.5
    assert not first.weight[~first.seen].any()


def test_pieces_of_a_cell_on_seen_planes_are_one_cell():
    labels = np.zeros((9, 12, 12), np.int32)
    labels[:, 2:6, 2:6] = 5
    labels[:, 8:11, 8:11] = 5
    trusted = every_fourth(labels)
    pieces = split_seen_pieces(np.where(trusted, labels, 0), trusted)
    assert sorted(np.unique(pieces)) == [0, 1, 2], "two cells, painted with one brush"
    assert (pieces[2] == pieces[6]).all()
    assert not pieces[3].any()
    np.testing.assert_array_equal(split_seen_pieces(labels, None) > 0, labels > 0)


@pytest.mark.slow
def test_a_network_of_stacks_learns_from_a_few_planes():
    image, labels = stack(count=6)
    trusted = every_fourth(labels)
    known = AnnotatedPlane(image, np.where(trusted, labels, 0), trusted)
    network = UNet(UNetConfig(depth=1, width=4, z_depth=1, dropout=0.0, distance=True))
    initialise(network, 0)
    config = dataclasses.replace(
        CONFIG, steps=40, learning_rate=1e-2, anchor=0.0, w0=0.0, augment=PLAIN, warmup_steps=1
    )
    trainer = Trainer(network, [known], config, CPU)
    losses = []
    while trainer.fraction < 1:
        losses.append(trainer.step().loss)
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_unseen_planes_hold_to_the_parent():
    image, labels = stack(count=3)
    trusted = every_fourth(labels)

    def drift(anchor):
        network = UNet(dataclasses.replace(NETWORK, dropout=0.0))
        initialise(network, 0)
        with torch.no_grad():  # all is background
            network.head.weight[:2] = 0
            network.head.bias[:2] = torch.tensor([6.0, -6.0])
        window = torch.from_numpy(image[None, :, :, :38, :40])
        window = torch.nn.functional.pad(window, (0, 0, 0, 0, 9, 9), mode="replicate")
        with torch.no_grad():
            before = network(window)
        config = dataclasses.replace(
            CONFIG, steps=12, learning_rate=2e-3, anchor=anchor, augment=PLAIN
        )
        trainer = Trainer(network, [AnnotatedPlane(image, labels, trusted)], config, CPU)
        while trainer.fraction < 1:
            trainer.step()
        with torch.no_grad():
            return float((network(window) - before).abs().mean())

    assert drift(100.0) < 0.7 * drift(0.0)
