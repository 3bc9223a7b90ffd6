import numpy as np
import pytest

from napari_unet.corrections.annotations import PaintedPlane, annotate, corrections_of


@pytest.fixture
def planes():
    before = np.zeros((40, 50), np.int32)
    before[5:10, 5:10] = 1
    after = before.copy()
    after[30:33, 40:44] = 2
    return [PaintedPlane((0,), before, before.copy()), PaintedPlane((1,), before, after)]


def test_only_changed_planes_teach(planes):
    (correction,) = corrections_of(planes, ring_px=3)
    assert correction.index == (1,)
    assert correction.labels is planes[1].after
    expected = np.zeros((40, 50), bool)
    expected[27:36, 37:47] = True
    assert not correction.trusted[~expected].any()
    assert correction.trusted[30:33, 37:47].all()
    assert not correction.trusted[5:10, 5:10].any()
    assert corrections_of(planes[:1], ring_px=3) == ()


def test_a_wider_ring_trusts_more(planes):
    narrow, wide = (corrections_of(planes, ring_px)[0].trusted for ring_px in (0, 8))
    assert narrow.sum() == 12
    assert wide[narrow].all()
    assert wide.sum() > 100


def test_all_planes_of_a_stack_are_annotated():
    labels = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).astype(">u2")
    image = np.zeros((2, 3, 4, 5, 2))
    annotated = annotate(image, "TZYXC", labels)
    assert annotated.image is image
    assert annotated.axes == "TZYXC"
    assert [c.index for c in annotated.corrections] == [(t, z) for t in range(2) for z in range(3)]
    for correction in annotated.corrections:
        assert correction.labels.dtype == np.int32
        np.testing.assert_array_equal(correction.labels, labels[correction.index])
        assert correction.trusted is None


def test_axes_in_another_order():
    labels = np.arange(3 * 4 * 5).reshape(5, 3, 4)
    annotated = annotate(np.zeros((5, 2, 3, 4)), "XCZY", labels)
    assert [c.index for c in annotated.corrections] == [(0,), (1,), (2,)]
    np.testing.assert_array_equal(annotated.corrections[1].labels, labels[:, 1].T)


def test_planes_without_a_seen_pixel_are_left_out():
    labels = np.ones((3, 4, 5), np.int64)
    trusted = np.zeros((3, 4, 5), np.uint8)
    trusted[1, 2, 3] = 1
    (correction,) = annotate(np.zeros((3, 4, 5)), "ZYX", labels, trusted).corrections
    assert correction.index == (1,)
    assert correction.trusted.dtype == bool
    assert np.argwhere(correction.trusted).tolist() == [[2, 3]]


def test_annotations_are_copies():
    labels, trusted = np.zeros((4, 5), np.int32), np.ones((4, 5), bool)
    (correction,) = annotate(np.zeros((4, 5)), "YX", labels, trusted).corrections
    labels[:], trusted[:] = 7, False
    assert not correction.labels.any()
    assert correction.trusted.all()


@pytest.mark.parametrize(
    ("labels", "trusted", "words"),
    [
        (np.zeros((5, 4), int), None, r"the labels are \(5, 4\) and the image is \(4, 5\); give"),
        (np.zeros((4, 5, 2), int), None, r"the labels are \(4, 5, 2\) and the image is \(4, 5\)"),
        (np.zeros((4, 5), int), np.ones(5), r"the trusted mask is \(5,\) and the image is \(4, 5"),
        (np.full((4, 5), 0.5), None, "the labels are float64; give whole numbers"),
        (np.full((4, 5), -3), None, "the labels go from -3 to -3"),
    ],
)
def test_what_does_not_fit(labels, trusted, words):
    with pytest.raises(ValueError, match=words):
        annotate(np.zeros((4, 5, 2)), "YXC", labels, trusted)
