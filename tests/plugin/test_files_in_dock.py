"""What a file or an array is, as the dock takes it."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from napari.layers import Image, Labels

from napari_unet.plugin.viewer.layers import image_from_layer


@pytest.fixture
def colour(add_model):
    """A model of 3 channels, as the one that ships."""
    add_model("colour", in_channels=3, normalisation={"low": 0.0, "high": 100.0})


@pytest.fixture
def dock(colour, docked_by_napari):
    """The dock as napari opens it, with that model."""
    docked_by_napari.model.value = "colour"
    return docked_by_napari


def click(dock, settle):
    dock.segment_button.click()
    settle(dock)
    return dock.status.text()


def lay_over(dock, settle, data, **options):
    """Shows an image alone, and segments it: what is said, and the labels; None if there are none.

    The pixels stay as they are.
    """
    dock.viewer.layers.clear()
    layer = Image(data, name="cells", **options)
    before = np.array(layer.data)
    dock.viewer.add_layer(layer)
    said = click(dock, settle)
    np.testing.assert_array_equal(np.asarray(layer.data), before)
    found = [other.data for other in dock.viewer.layers if isinstance(other, Labels)]
    return said, (found[0] if found else None)


def test_channels_that_napari_opens_as_a_stack(dock, settle, image, tmp_path):
    path = tmp_path / "i.tif"
    noise = np.random.default_rng(0).integers(0, 20, image.shape, np.uint8)
    tifffile.imwrite(path, np.stack([noise, noise, image]), imagej=True, metadata={"axes": "CYX"})
    (layer,) = dock.viewer.open(path, plugin="napari")
    dock.viewer.dims.set_current_step(0, 2)
    assert image_from_layer(layer).axes == "CYX"
    said = click(dock, settle)
    assert said.startswith("3 cells,")
    assert "seen in channel 2 (0 to 2)" in said
    assert dock.labels.value.data.shape == image.shape


def test_a_movie_that_napari_opens_as_a_stack(dock, settle, image, tmp_path):
    path = tmp_path / "i.tif"
    tifffile.imwrite(path, np.stack([image] * 2), imagej=True, metadata={"axes": "TYX"})
    (layer,) = dock.viewer.open(path, plugin="napari")
    assert image_from_layer(layer).axes == "TYX"
    # The user knows better.
    dock.advanced.axes.value = "zyx"
    assert image_from_layer(layer).axes == "ZYX"


def test_planes_a_few_pixels_wide(dock, settle, image):
    dock.viewer.add_image(np.dstack([image, image // 2]))
    said = click(dock, settle)
    assert "the image is 96 x 96 x 2: its last axis is too short for columns" in said
    assert "write YXC under More settings, Axes" in said
    dock.advanced.axes.value = "yxc"
    assert "choose the one that shows the cells under Channel" in click(dock, settle)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning:napari")
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning:numpy")
def test_an_empty_image(dock, settle):
    dock.viewer.add_image(np.zeros((0, 64, 64), np.uint8))
    assert "the image is empty, 0 x 64 x 64; give pixels" in click(dock, settle)


def test_missing_pixels_are_counted(dock, settle, image):
    holed = image.astype(np.float32)
    holed[::10, ::10] = np.nan
    dock.viewer.add_image(holed)
    said = click(dock, settle)
    assert said.startswith("3 cells,")
    assert "100 pixels are no numbers and were filled in from the neighbours (1 %)" in said


def test_a_plane_that_cannot_be_read(dock, settle, caplog):
    def block(block_info=None):
        if block_info[None]["chunk-location"][0] == 2:
            raise RuntimeError("disk gone")
        return np.ones(block_info[None]["chunk-shape"], np.uint8)

    lazy = da.map_blocks(block, chunks=((1, 1, 1), (64,), (64,)), dtype=np.uint8)
    dock.viewer.add_image(lazy, contrast_limits=(0, 2))
    dock.viewer.dims.set_current_step(0, 0)
    dock.advanced.scope.value = "everything"
    said = click(dock, settle)
    assert "the plane Z 2 " in said
    assert "of the image cannot be read: disk gone" in said
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_labels_of_planes_with_channels_are_measured(dock, settle, image):
    dock.viewer.add_image(np.stack([np.stack([image] * 2)] * 2), axis_labels=["z", "c", "y", "x"])
    assert click(dock, settle).startswith("3 cells,")
    dock.measuring.measure.click()
    settle(dock)
    assert dock.status.text().startswith("3 cells measured")
    assert len(dock.labels.value.features["area"]) >= 3


# The dock as napari opens it, and arrays of every kind.


def test_nan_and_both_infinities_are_filled_in_and_counted_once(docked_by_napari, settle, image):
    holed = image.astype(np.float32)
    holed[::10, ::10] = np.nan
    holed[5::10, ::10] = np.inf
    holed[5::10, 5::10] = -np.inf
    said, labels = lay_over(docked_by_napari, settle, holed)
    assert said.startswith("3 cells,")
    assert said.count("300 pixels are no numbers and were filled in from the neighbours") == 1
    assert labels.max() == 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning:napari")
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning:numpy")
def test_what_is_no_image_is_refused_and_the_dock_works_on(docked_by_napari, settle, image):
    seen = {"contrast_limits": (0, 1)}
    for data, words in (
        (np.full((40, 50), np.nan), "the image holds no finite number"),
        (np.zeros((0, 64, 64), np.uint8), "the image is empty, 0 x 64 x 64; give pixels"),
    ):
        said, labels = lay_over(docked_by_napari, settle, data, **seen)
        assert words in said
        assert labels is None
        assert docked_by_napari.segment_button.isEnabled()
    said, labels = lay_over(docked_by_napari, settle, image)
    assert (said.startswith("3 cells,"), labels.max()) == (True, 3)


@pytest.mark.slow
def test_images_of_one_value_have_no_cells(docked_by_napari, settle, subtests):
    for dtype, value in (("?", True), ("u1", 0), ("u2", 2**16 - 1), ("f4", np.finfo("f4").max)):
        with subtests.test(dtype=dtype, value=value):
            flat = np.full((64, 70), value, dtype)
            said, labels = lay_over(docked_by_napari, settle, flat, contrast_limits=(0, 1))
            assert said.startswith("0 cells")
            assert labels.shape == flat.shape
            assert not labels.any()


KINDS = {
    "the end of uint32": lambda image: 2**32 - 256 + image.astype(np.uint32),
    "2^60": lambda image: 2**60 + (image.astype(np.int64) << 50),
    "beyond 2^63": lambda image: 2**63 + (image.astype(np.uint64) << 50),
    "subnormal": lambda image: image * 1e-312,
    "bool": lambda image: image > 100,
    "big-endian": lambda image: image.astype(">u2"),
    "big-endian floats": lambda image: image.astype(">f4"),
}


@pytest.mark.slow
def test_numbers_of_every_kind_give_the_same_cells(docked_by_napari, settle, image, subtests):
    _, expected = lay_over(docked_by_napari, settle, image.astype(np.float64))
    for kind, convert in KINDS.items():
        with subtests.test(kind):
            data = convert(image)
            said, labels = lay_over(docked_by_napari, settle, data, contrast_limits=(0, 1))
            assert said.startswith("3 cells,")
            np.testing.assert_array_equal(labels, expected)


@pytest.mark.slow
def test_views_give_what_their_copies_give(docked_by_napari, settle, image):
    view = np.kron(image, np.ones((2, 1), np.uint8))[::2, ::-1]
    assert not view.flags.contiguous
    _, expected = lay_over(docked_by_napari, settle, np.ascontiguousarray(view))
    said, labels = lay_over(docked_by_napari, settle, view)
    assert said.startswith("3 cells,")
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.slow
def test_images_of_any_size_get_labels_of_that_size(docked_by_napari, settle):
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (1, 300), (50, 1), (17, 301)):
        _, labels = lay_over(docked_by_napari, settle, rng.integers(0, 255, shape, np.uint8))
        assert labels.shape == shape


@pytest.mark.slow
def test_what_becomes_of_channels_is_said(docked_by_napari, settle, image):
    """By a model that takes one."""
    blue = np.zeros((*image.shape, 3), np.uint8)
    blue[..., 2] = image
    said, _ = lay_over(docked_by_napari, settle, blue, rgb=True)
    assert said.startswith("3 cells,")
    assert ", its colours seen as grey" in said
    two = np.stack([image // 9, image])
    said, _ = lay_over(docked_by_napari, settle, two, axis_labels=["c", "y", "x"])
    assert ", seen in channel 0 (0 to 1)" in said
    said, _ = lay_over(docked_by_napari, settle, image)
    assert "seen" not in said


def test_a_chunk_that_was_never_written_holds_the_fill_value(
    docked_by_napari, settle, image, tmp_path
):
    store = zarr.create_array(
        tmp_path / "i.zarr", shape=(96, 144), dtype="u1", chunks=(48, 48), fill_value=20
    )
    store[:, :96] = image
    assert not (tmp_path / "i.zarr" / "c" / "0" / "2").exists()
    said, labels = lay_over(docked_by_napari, settle, store)
    assert said.startswith("3 cells,")
    assert labels.shape == (96, 144)
    assert not labels[:, 100:].any()


@pytest.mark.slow
def test_a_plane_with_a_damaged_chunk_is_named_and_nothing_is_shown(
    docked_by_napari, settle, image, tmp_path, qtbot
):
    path = tmp_path / "i.zarr"
    store = zarr.create_array(path, data=np.stack([image] * 3), chunks=(1, 96, 48))
    (path / "c" / "2" / "0" / "1").write_bytes(b"garbage")
    dock = docked_by_napari
    layer = dock.viewer.add_image(store)
    dock.viewer.dims.set_current_step(0, 0)
    dock.advanced.scope.value = "everything"
    said = click(dock, settle)
    assert "the plane Z 2 of the image cannot be read: " in said
    assert "see that its files are there and whole" in said
    # What had arrived is hidden at once and removed a moment later.
    assert [each.name for each in dock.viewer.layers if each.visible] == [layer.name]
    qtbot.waitUntil(lambda: list(dock.viewer.layers) == [layer])
    np.testing.assert_array_equal(np.asarray(layer.data[0]), image)
    dock.advanced.scope.value = "this plane"
    assert click(dock, settle).startswith("3 cells,")


@pytest.mark.slow
def test_labels_lie_over_the_image_whatever_its_transform(docked_by_napari, settle, image):
    """Of a pyramid, too, whose finest level is segmented."""
    fine = np.kron(image, np.ones((2, 2), np.uint8))
    affine = np.array([[1, 0.1, 3], [0.2, 1, 4], [0, 0, 1]])
    given = {"scale": (0.5, 0.25), "translate": (3, 4), "rotate": 30, "shear": [0.2]}
    given |= {"affine": affine, "units": ("um", "um"), "axis_labels": ("y", "x")}
    for pyramid in (False, True):
        dock = docked_by_napari
        dock.viewer.layers.clear()
        data = [fine, fine[::2, ::2]] if pyramid else fine
        dock.viewer.add_layer(Image(data, multiscale=pyramid, **given))
        assert click(dock, settle).startswith("3 cells,")
        shown, labels = dock.viewer.layers
        assert labels.data.shape == fine.shape
        for name in ("scale", "translate", "rotate", "shear"):
            np.testing.assert_array_equal(getattr(labels, name), getattr(shown, name))
        np.testing.assert_array_equal(labels.affine.affine_matrix, shown.affine.affine_matrix)
        assert labels.units == shown.units
        corners = np.array([[0, 0], [191, 0], [0, 191]])
        for corner in corners:
            np.testing.assert_allclose(labels.data_to_world(corner), shown.data_to_world(corner))
