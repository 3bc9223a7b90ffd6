import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from napari_unet.core.cells.blockwise import Decoding, label_block, number_cells, plan_blocks
from napari_unet.core.cells.instances import label_instances


def by_blocks(foreground, distance, decoding, side_px, margin_px):
    def read(box):
        return foreground[box], None if distance is None else distance[box]

    shape = foreground.shape
    blocks = plan_blocks(shape, side_px)
    found = [label_block(read, shape, block, decoding, margin_px) for block in blocks]
    numbers, count = number_cells([(b.keys, b.seams) for b in found])
    labels = np.full(shape, -1, np.int32)
    for block, cells, ids in zip(blocks, found, numbers, strict=True):
        labels[block] = ids[cells.labels]
    return labels, count


def assert_same_but_for_names(labels, expected):
    pairs = np.unique(np.stack([labels.ravel(), expected.ravel()]), axis=1)
    # One to one, and background is background.
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
    np.testing.assert_array_equal(labels > 0, expected > 0)


def scores(seed: int, shape, smooth: float, level: float):
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=shape), smooth)
    field = (field - field.mean()) / max(field.std(), 1e-9)
    return (1 / (1 + np.exp(-2 * (field - level)))).astype(np.float32)


@pytest.mark.slow
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    smooth=st.floats(0.5, 6),
    level=st.floats(-0.8, 1.5),
    side_px=st.integers(12, 90),
    largest_px=st.integers(8, 60),
    gap_px=st.integers(0, 2),
    seed_threshold=st.none() | st.floats(0.5, 0.9),
    radius_px=st.none() | st.floats(2, 9),
    min_size_px=st.integers(0, 30),
    told=st.booleans(),
    peak_threshold=st.none() | st.floats(0.5, 0.99),
)
# A network of foreground that no block sees whole, and specks in its holes.
@example(1, (150, 150), 2.0, -0.5, 40, 12, 1, 0.7, 4.0, 8, True, 0.8)
@example(2, (140, 150), 1.0, 0.0, 12, 10, 2, None, 3.0, 0, False, None)
# A line of which a block sees fewer pixels than the smallest cell has.
@example(172, (1, 36), 2.0, 0.0, 12, 8, 0, None, None, 13, False, None)
def test_blocks_give_the_labels_of_the_whole_plane(
    seed, shape, smooth, level, side_px, largest_px, gap_px, seed_threshold, radius_px,
    min_size_px, told, peak_threshold,
):  # fmt: skip
    foreground = scores(seed, shape, smooth, level)
    distance = scores(seed + 1, shape, smooth, level) if told else None
    decoding = Decoding(
        seed_threshold=seed_threshold,
        min_size_px=min_size_px,
        gap_px=gap_px,
        radius_px=radius_px,
        largest_px=largest_px,
        peak_threshold=peak_threshold,
    )
    whole = label_instances(foreground, distance=distance, **vars(decoding))
    labels, count = by_blocks(foreground, distance, decoding, side_px, margin_px=8)
    assert count == whole.max(initial=0)
    np.testing.assert_array_equal(np.unique(labels[labels > 0]), np.arange(1, count + 1))
    assert_same_but_for_names(labels, whole)


def test_what_no_block_sees_whole_is_one_cell_still():
    # A spiral, and in its arms a second one.
    rows, columns = np.indices((200, 200)) - 100
    angle, radius = np.arctan2(rows, columns), np.hypot(rows, columns)
    turn = (radius - 8 * angle / np.pi) % 16
    foreground = np.where(turn < 5, 0.9, np.where((turn > 8) & (turn < 13), 0.8, 0.1))
    decoding = Decoding(largest_px=20)
    whole = label_instances(foreground.astype(np.float32), largest_px=20)
    labels, count = by_blocks(foreground.astype(np.float32), None, decoding, 32, 8)
    assert count == whole.max()
    assert_same_but_for_names(labels, whole)


def test_no_block_misses_a_pixel():
    for shape in ((1, 1), (64, 64), (65, 130), (10, 200)):
        covered = np.zeros(shape, int)
        for block in plan_blocks(shape, 64):
            covered[block] += 1
        assert (covered == 1).all()
