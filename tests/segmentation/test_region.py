import numpy as np
import pytest

from napari_unet.config import PredictConfig
from napari_unet.jobs import JobFailed

SOON = 60.0
EXACT = PredictConfig(device="cpu", precision="float32")


def same_cells(one: np.ndarray, other: np.ndarray) -> None:
    """The same objects under other numbers."""
    np.testing.assert_array_equal(one > 0, other > 0)
    pairs = np.unique(np.stack([one[one > 0], other[one > 0]]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(
    "box",
    [
        (slice(0, 40), slice(0, 50)),
        (slice(61, 133), slice(30, 101)),
        (slice(150, 999), slice(-7, None)),
        (slice(0, 200), slice(0, 180)),
    ],
)
def test_inside_the_labels_are_those_of_the_whole_plane(service, add_model, blobs, depth, box):
    # So large a weight of noise gives ragged outlines, which tell shifts.
    add_model("wide", depth=depth, width=3, noise=0.2, postprocess={"min_size_px": 1})
    rng = np.random.default_rng(3)
    image = blobs(shape=(200, 180))[0] + rng.normal(0, 40, (200, 180))
    whole = service.segment(image, "YX", "wide", EXACT).wait(SOON)
    part = service.segment(image, "YX", "wide", EXACT, [()], box).wait(SOON)
    assert part.n_cells > 1
    same_cells(part.labels[box], whole.labels[box])
    outside = np.ones(image.shape, bool)
    outside[box] = False
    assert not part.labels[outside].any()
    assert set(np.unique(part.labels)) == set(range(part.n_cells + 1))
    assert len(part.kinds) == part.n_cells
    rows, columns = (np.arange(n)[side] for n, side in zip(image.shape, box, strict=True))
    for _, place in part.places:
        assert rows[0] <= place.y <= rows[-1] + 1
        assert columns[0] <= place.x <= columns[-1] + 1


def test_one_plane_and_one_channel_of_a_stack(service, add_model, blobs):
    add_model("bright")
    stack = np.zeros((2, 3, 72, 80), np.uint8)
    stack[1, 2] = blobs()[0]
    config = PredictConfig(device="cpu", precision="float32", channel=2)
    box = slice(0, 30), slice(0, 80)
    done = service.segment(stack, "ZCYX", "bright", config, [(1,)], box).wait(SOON)
    assert done.labels.shape == (2, 72, 80)
    assert done.planes == ((1,),)
    assert not done.labels[0].any()
    assert done.labels[1, :30].any()
    assert not done.labels[1, 30:].any()


def test_nothing_in_view_is_a_sentence(service, add_model, blobs):
    add_model("bright")
    box = slice(90, 95), slice(0, 10)
    job = service.segment(blobs()[0], "YX", "bright", EXACT, [()], box)
    with pytest.raises(JobFailed, match="nothing of the image is in view"):
        job.wait(SOON)
