import dataclasses

import numpy as np
import pytest
import torch

from napari_unet.config import AugmentConfig, FinetuneConfig
from napari_unet.core.cells.instances import relative_distance, separate_touching, split_pieces
from napari_unet.core.network.unet import UNetConfig
from napari_unet.core.network.weight_map import border_weights
from napari_unet.engine.samples import AnnotatedPlane, Sampler, random_grid

CPU = torch.device("cpu")
NETWORK = UNetConfig(depth=2, width=2)
HALO = 20
PLAIN = AugmentConfig(elastic_sigma_px=0, rotate=False, flip=False, scale=1.0, grey=0.0, noise=0.0)
CONFIG = FinetuneConfig(steps=1, tile_px=92, balance=1.0)


def disc(shape, y, x, radius):
    rows, columns = np.indices(shape)
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def cells(shape=(120, 140), count: int = 15, seed: int = 0):
    """Discs, some of them touching."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    for cell in range(1, count + 1):
        labels[
            disc(shape, rng.uniform(0, shape[0]), rng.uniform(0, shape[1]), rng.uniform(5, 10))
        ] = cell
    return labels


def annotated(labels, trusted=None, channels: int = 1):
    image = np.repeat((labels > 0)[None].astype(np.float32), channels, axis=0)
    return AnnotatedPlane(image, labels, trusted)


def sampler(*planes, **changes) -> Sampler:
    config = dataclasses.replace(CONFIG, **changes)
    network = dataclasses.replace(NETWORK, in_channels=planes[0].image.shape[0])
    return Sampler(planes, network, config, CPU)


def test_shapes_and_types():
    drawn = sampler(annotated(cells(), channels=3))
    sample = drawn.draw()
    assert drawn.input_px == 92
    assert sample.image.shape == (3, 92, 92)
    assert sample.image.dtype == torch.float32
    assert sample.grid.shape == (1, 92, 92, 2)
    for truth, dtype in [
        (sample.classes, torch.int64),
        (sample.weight, torch.float32),
        (sample.seen, torch.bool),
        (sample.distance, torch.float32),
        (torch.from_numpy(sample.labels), torch.int32),
    ]:
        assert truth.shape == (52, 52)
        assert truth.dtype == dtype
    assert sampler(annotated(cells()), tile_px=95).input_px == 92


def test_a_sample_knows_its_plane():
    first, second = annotated(cells()), annotated(cells(seed=1))
    drawn = sampler(first, second)
    planes = [drawn.draw().plane for _ in range(20)]
    assert {id(plane) for plane in planes} == {id(first), id(second)}


def test_a_seed_reproduces_the_samples():
    def draws(seed):
        drawn = sampler(annotated(cells()), annotated(cells(seed=1)), seed=seed)
        return [drawn.draw() for _ in range(3)]

    for first, same, other in zip(draws(3), draws(3), draws(4), strict=True):
        assert torch.equal(first.image, same.image)
        assert torch.equal(first.weight, same.weight)
        assert torch.equal(first.grid, same.grid)
        np.testing.assert_array_equal(first.labels, same.labels)
        assert not torch.equal(first.image, other.image)
        # Not only another window, another deformation.
        shapes = [s.grid - s.grid[:, :1, :1] for s in (first, other)]
        assert not torch.allclose(*shapes, atol=0.01)


def test_samples_of_one_seed_differ_among_themselves():
    drawn = sampler(annotated(cells()))
    assert not torch.equal(drawn.draw().grid, drawn.draw().grid)


@pytest.mark.parametrize("seed", range(3))
def test_image_and_truth_get_the_same_deformation(seed):
    # The image shows the truth; with the same deformation they agree but for the outlines.
    labels = np.zeros((120, 140), np.int32)
    for cell, (y, x) in enumerate([(20, 20), (60, 70), (90, 30), (30, 110), (95, 110)], start=1):
        labels[disc(labels.shape, y, x, 14)] = cell
    shapes = AugmentConfig(grey=0.0, noise=0.0)
    drawn = sampler(annotated(labels), seed=seed, augment=shapes)
    for _ in range(5):
        sample = drawn.draw()
        image = sample.image[0, HALO:-HALO, HALO:-HALO]
        assert torch.equal(image > 0.999, (image > 0.999) & (sample.classes == 1))
        assert torch.equal(image < 0.001, (image < 0.001) & (sample.classes == 0))
        np.testing.assert_array_equal(sample.classes.numpy() > 0, sample.labels > 0)


def test_without_augmentation_a_sample_is_a_window():
    labels = cells()
    image = np.random.default_rng(0).random((1, *labels.shape), np.float32)
    sample = sampler(AnnotatedPlane(image, labels), augment=PLAIN).draw()
    height, width = labels.shape
    x = (sample.grid[0, ..., 0].numpy() + 1) / 2 * (width - 1)
    y = (sample.grid[0, ..., 1].numpy() + 1) / 2 * (height - 1)
    np.testing.assert_allclose(np.diff(x, axis=1), 1, atol=1e-3)
    np.testing.assert_allclose(np.diff(y, axis=0), 1, atol=1e-3)
    np.testing.assert_allclose(np.diff(x, axis=0), 0, atol=1e-3)


def test_the_distance_is_that_of_the_whole_cells():
    labels = cells()
    expected = relative_distance(split_pieces(separate_touching(labels)))
    for trusted in (None, labels >= 0):
        drawn = sampler(annotated(labels, trusted), augment=PLAIN)
        sample = drawn.draw()
        height, width = labels.shape
        inner = sample.grid[0, HALO:-HALO, HALO:-HALO].numpy()
        x = np.round((inner[..., 0] + 1) / 2 * (width - 1)).astype(int)
        y = np.round((inner[..., 1] + 1) / 2 * (height - 1)).astype(int)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        assert inside.mean() > 0.2
        # The window lies between pixels; a neighbour's distance is the nearest one's or almost.
        differ = np.abs(sample.distance.numpy()[inside] - expected[y[inside], x[inside]])
        assert np.median(differ) == 0
        assert differ.max() < 0.35


@pytest.mark.parametrize(("tile_px", "sigma_px"), [(72, 3.0), (92, 3.0), (156, 5.0)])
def test_the_weights_are_those_of_equation_2_on_the_whole_plane(tile_px, sigma_px):
    """Cells beside a tile's output have their part in them, however small the output is."""
    labels = cells((240, 240), 60)
    drawn = sampler(
        annotated(labels), augment=PLAIN, tile_px=tile_px, w0=7.0, sigma_px=sigma_px, seed=2
    )
    whole = border_weights(separate_touching(split_pieces(labels)), 7.0, sigma_px)
    compared = beside = 0
    for _ in range(30):
        sample = drawn.draw()
        assert sample.seen.all()
        border = sample.weight.numpy() - drawn.w_c[sample.classes.numpy()]
        place = sample.grid[0, HALO:-HALO, HALO:-HALO].numpy()
        x, y = np.moveaxis(np.rint((place + 1) / 2 * 239).astype(int), -1, 0)
        if min(x.min(), y.min()) < HALO or max(x.max(), y.max()) > 239 - HALO:
            continue  # outside the plane there are mirrored cells
        np.testing.assert_allclose(border, whole[y, x], atol=0.1)
        alone = border_weights(sample.labels, 7.0, sigma_px)
        compared, beside = compared + 1, beside + np.any(abs(alone - border) > 1)
    assert compared > 1
    assert beside > 0


def test_touching_cells_are_separated_in_the_truth():
    labels = np.ones((100, 100), np.int32)
    labels[:, 50:] = 2
    drawn = sampler(annotated(labels), w0=10.0)
    met = 0
    for _ in range(20):
        sample = drawn.draw()
        if {1, 2} <= set(np.unique(sample.labels)):
            met += 1
            assert (sample.labels == 0).any()
            between = sample.labels == 0
            assert (sample.weight.numpy()[between] > 5).mean() > 0.9
    assert met > 10


def test_unseen_pixels_weigh_nothing():
    labels = cells()
    trusted = disc(labels.shape, 60, 70, 25)
    drawn = sampler(annotated(labels, trusted), anchor=0.0)
    some = 0
    for _ in range(10):
        sample = drawn.draw()
        assert (sample.weight[~sample.seen] == 0).all()
        assert (sample.weight[sample.seen] > 0).all()
        some += bool(sample.seen.any() and not sample.seen.all())
    assert some > 5


def test_the_seen_mask_gets_the_deformation_of_the_image():
    labels = np.zeros((120, 140), np.int32)
    trusted = disc(labels.shape, 60, 70, 30)
    image = trusted[None].astype(np.float32)
    drawn = sampler(AnnotatedPlane(image, labels, trusted), augment=AugmentConfig(grey=0, noise=0))
    for _ in range(5):
        sample = drawn.draw()
        shown = sample.image[0, HALO:-HALO, HALO:-HALO]
        assert sample.seen[shown > 0.999].all()
        assert not sample.seen[shown < 0.001].any()


def test_windows_lie_where_something_was_seen():
    labels = np.zeros((600, 700), np.int32)
    labels[disc(labels.shape, 500, 100, 8)] = 1
    trusted = disc(labels.shape, 500, 100, 16)
    drawn = sampler(annotated(labels, trusted), anchor=0.0)
    shares = [drawn.draw().seen.float().mean().item() for _ in range(60)]
    assert np.mean(np.array(shares) > 0) > 0.9
    # The region is 0.2% of the plane and 30% of a window.
    assert np.mean(shares) > 0.08


def test_half_of_the_windows_are_centred_near_an_object():
    labels = np.zeros((500, 500), np.int32)
    labels[disc(labels.shape, 400, 400, 6)] = 1
    drawn = sampler(annotated(labels), augment=PLAIN)
    hits = sum(bool((drawn.draw().labels > 0).any()) for _ in range(100))
    assert 35 < hits < 70, "anywhere would be 1 of 100"


@pytest.mark.parametrize("background", [True, False])
def test_every_object_is_visited(background):
    labels = np.repeat(np.repeat(np.arange(1, 5, dtype=np.int32).reshape(2, 2), 150, 0), 150, 1)
    if background:
        labels[140:160] = labels[:, 140:160] = 0
    drawn = sampler(annotated(labels), augment=PLAIN)
    visits = np.bincount([drawn.draw().labels[26, 26] for _ in range(120)], minlength=5)
    assert (visits[1:] > 12).all()


def test_only_seen_cells_are_visited():
    labels = np.zeros((300, 300), np.int32)
    labels[disc(labels.shape, 60, 60, 10)] = 1
    labels[disc(labels.shape, 240, 240, 10)] = 2
    drawn = sampler(annotated(labels, disc(labels.shape, 60, 60, 20)), augment=PLAIN)
    for _ in range(30):
        assert 2 not in drawn.draw().labels


@pytest.mark.parametrize(("anchor", "tile_px", "far"), [(0, 92, 0), (2, 92, 1 / 3), (2, 236, 0)])
def test_with_an_anchor_small_windows_reach_as_far_as_large_ones(anchor, tile_px, far):
    labels = np.zeros((600, 600), np.int32)
    seen = disc(labels.shape, 300, 300, 4)
    drawn = sampler(annotated(labels, seen), augment=PLAIN, anchor=anchor, tile_px=tile_px)
    windows = [drawn.draw() for _ in range(60)]
    middles = [(sample.grid.mean((0, 1, 2)).numpy() + 1) / 2 * 599 for sample in windows]
    reach = np.abs(np.array(middles) - 300).max(1) + (drawn.input_px - 2 * HALO) / 2
    assert reach.max() <= 0.75 * 196 + 5
    unseen = np.mean([not sample.seen.any() for sample in windows])
    assert 0.5 * far <= unseen <= 1.3 * far
    if far:
        assert reach.max() > 0.75 * 196 - 20
    dense = [
        sampler(annotated(cells()), anchor=strength, tile_px=tile_px).draw().image
        for strength in (0, 2)
    ]
    assert torch.equal(*dense), "there is nothing unseen"


def test_pieces_of_one_id_are_told_apart():
    labels = np.zeros((100, 100), np.int32)
    labels[20:80, 20:49] = labels[20:80, 51:80] = 9
    sample = sampler(annotated(labels), augment=PLAIN, tile_px=140, seed=1).draw()
    ids = np.unique(sample.labels[sample.labels > 0])
    assert len(ids) == 2
    assert (sample.weight[sample.labels == 0] > 5).any(), "they have a border between them"


def test_ids_beyond_the_floats_stay_exact():
    labels = np.zeros((100, 100), np.int32)
    labels[20:80, 20:50], labels[20:80, 50:80] = 2**24 + 1, 2**24 + 2
    sample = sampler(annotated(labels), augment=PLAIN, tile_px=140).draw()
    assert len(np.unique(sample.labels[sample.labels > 0])) == 2


def test_planes_are_drawn_in_proportion_to_the_root_of_their_seen_area():
    labels = np.zeros((200, 200), np.int32)
    trusted = np.zeros(labels.shape, bool)
    trusted[:20] = True  # a tenth of the other's
    bright = AnnotatedPlane(np.ones((1, 200, 200), np.float32), labels, trusted)
    dark = AnnotatedPlane(np.zeros((1, 200, 200), np.float32), labels)
    drawn = sampler(bright, dark, augment=PLAIN)
    share = np.mean([drawn.draw().image.mean().item() for _ in range(300)])
    assert share == pytest.approx(np.sqrt(0.1) / (1 + np.sqrt(0.1)), abs=0.08)


def test_the_classes_are_balanced_by_what_was_seen():
    labels = np.zeros((100, 100), np.int32)
    labels[:10] = 1
    trusted = np.zeros(labels.shape, bool)
    trusted[5:25] = True  # a quarter is foreground
    w_c = sampler(annotated(labels, trusted), balance=1.0).w_c
    np.testing.assert_allclose(w_c, [2 / 3, 2], rtol=1e-6)
    np.testing.assert_allclose(sampler(annotated(labels, trusted), balance=0.0).w_c, [1, 1])


def test_planes_without_a_seen_pixel_are_passed_over():
    nothing = np.zeros((120, 140), bool)
    drawn = sampler(annotated(cells(), nothing), annotated(cells(seed=1)))
    assert all(drawn.draw().seen.all() for _ in range(10))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_nothing_seen_is_nothing_to_learn_from(count):
    nothing = np.zeros((120, 140), bool)
    planes = [annotated(cells(), nothing)] * count
    with pytest.raises(ValueError, match="nothing to learn from: no pixel was corrected; paint at"):
        Sampler(planes, NETWORK, CONFIG, CPU)


def test_a_plane_smaller_than_the_tile_is_mirrored():
    labels = cells((30, 25), 3)
    sample = sampler(annotated(labels)).draw()
    # The plane, the halo on both sides, and one step of the lattice at most.
    assert sample.image.shape == (1, 72, 72)
    assert sample.image.isfinite().all()
    assert sample.seen.all()


def test_planes_of_different_sizes_can_be_mixed():
    drawn = sampler(
        annotated(cells((60, 200))), annotated(cells((150, 80))), annotated(cells((1, 1)))
    )
    for _ in range(10):
        assert drawn.draw().image.shape == (1, 92, 92)


@pytest.mark.parametrize("shape", [(1, 1), (30, 25), (50, 60), (400, 20)])
def test_windows_are_no_larger_than_the_largest_plane_needs(shape):
    planes = [annotated(cells((20, 20))), annotated(cells(shape))]
    drawn = sampler(*planes, tile_px=300)
    shown = drawn.input_px - 2 * HALO
    assert min(max(*shape, 20), 300 - 4 - 2 * HALO) <= shown <= max(*shape, 20) + 4
    assert drawn.draw().image.shape == (1, drawn.input_px, drawn.input_px)


def test_the_kinds_of_the_cells_become_classes():
    labels = np.zeros((60, 60), np.int32)
    labels[10:25, 10:25], labels[35:50, 35:50] = 4, 7
    kinds = np.where(labels == 7, 2, 1).astype(np.uint8)
    plane = AnnotatedPlane(np.zeros((1, 60, 60), np.float32), labels, None, kinds)
    np.testing.assert_array_equal(plane.classes, (labels == 4) + 2 * (labels == 7))
    network = dataclasses.replace(NETWORK, n_classes=3)
    config = dataclasses.replace(CONFIG, augment=PLAIN, tile_px=140)
    drawn = Sampler([plane], network, config, CPU)
    assert drawn.w_c.shape == (3,)
    seen = set()
    for _ in range(10):
        sample = drawn.draw()
        classes = sample.classes.numpy()
        np.testing.assert_array_equal(classes > 0, sample.labels > 0)
        for cell in set(np.unique(sample.labels)) - {0}:
            (kind,) = np.unique(classes[sample.labels == cell])
            seen.add((cell, kind))
    assert seen == {(1, 1), (2, 2)}, "ids are counted anew, kinds stay"


def test_without_kinds_every_cell_is_of_the_first():
    plane = annotated(cells())
    np.testing.assert_array_equal(plane.classes, plane.labels > 0)


def test_classes_of_another_size_are_refused():
    with pytest.raises(ValueError, match="differ in size"):
        AnnotatedPlane(
            np.zeros((1, 20, 30), np.float32),
            np.zeros((20, 30), np.int32),
            None,
            np.ones((20, 29), np.uint8),
        )


def test_truth_of_another_size_is_refused():
    image, labels = np.zeros((1, 20, 30), np.float32), np.zeros((20, 30), np.int32)
    with pytest.raises(ValueError, match=r"image \(20, 30\), labels \(20, 29\) and mask of seen"):
        AnnotatedPlane(image, labels[:, 1:])
    with pytest.raises(ValueError, match="differ in size; give labels of this image"):
        AnnotatedPlane(image, labels, np.ones((19, 30), bool))


def test_a_random_grid_is_reproduced_by_its_generator():
    def draw(seed):
        return random_grid(
            (90, 80), (40, 30), 50, AugmentConfig(), torch.Generator().manual_seed(seed)
        )

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
