"""Next place: the camera goes where a correction helps most."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet.core.cells.suggestions import Place
from napari_unet.plugin.results.suggestions import CHECK, NEXT, Places


@pytest.fixture
def doubtful(docked, settle, discs):
    """The dock on an image with two cells that the model is unsure of, and one that it finds."""
    widget = docked()
    image = discs((20, 20))
    for y, x in ((20, 70), (70, 30)):
        image[y - 5 : y + 6, x - 5 : x + 6] = 118
    widget.viewer.add_image(image, name="cells", scale=(0.5, 0.5), translate=(3, 4))
    widget.segment_button.click()
    settle(widget)
    return widget


def centre(viewer) -> tuple[float, float]:
    """In pixels of the image."""
    camera = getattr(viewer, "scene", viewer).camera
    layer = viewer.layers["cells"]
    return tuple(layer.world_to_data(camera.center[-layer.ndim :])[-2:])


def near(at, *places) -> bool:
    return any(np.hypot(at[0] - y, at[1] - x) < 12 for y, x in places)


def test_the_next_place_is_a_click_or_a_key_away(doubtful, settle, hand):
    widget, viewer = doubtful, doubtful.viewer
    layer = widget.labels.value
    assert NEXT not in viewer.layers
    widget.correcting.next_place.click()
    first = centre(viewer)
    assert near(first, (20, 70), (70, 30))
    assert widget.status.text().startswith("Doubtful cell 1 of 2, in the bright ring: ")
    assert viewer.layers.selection.active is layer
    points = viewer.layers[NEXT]
    assert len(points.data) == 2
    assert points.border_color[:, 3].tolist() == [1.0, pytest.approx(0.3)]
    np.testing.assert_allclose(points.data[0], first, atol=1e-6)
    camera = getattr(viewer, "scene", viewer).camera
    canvas = hand(viewer).canvas
    shown_px = min(canvas.height(), canvas.width()) / camera.zoom / 0.5
    assert 60 <= shown_px <= 160  # eight cells of some 12 px
    hand(viewer).press("N")
    second = centre(viewer)
    assert near(second, (20, 70), (70, 30))
    assert not near(second, first)
    assert points.border_color[:, 3].tolist() == [pytest.approx(0.3), 1.0]
    widget.correcting.next_place.click()
    assert widget.status.text().startswith("You have seen every doubtful cell")
    widget.correcting.next_place.click()
    assert near(centre(viewer), first)


def test_what_was_corrected_since_is_left_out(doubtful, settle, hand):
    widget, viewer = doubtful, doubtful.viewer
    layer = widget.labels.value
    widget.correcting.next_place.click()
    first = centre(viewer)
    layer.mode, layer.brush_size = "paint", 10
    at = viewer.layers["cells"].data_to_world(first)
    hand(viewer).drag([tuple(at), tuple(np.add(at, 0.5))])
    settle(widget)
    hand(viewer).press("N")
    assert not near(centre(viewer), first)
    hand(viewer).press("N")
    assert widget.status.text().startswith("You have seen every doubtful cell")
    hand(viewer).press("N")
    assert not near(centre(viewer), first)


def test_a_new_result_has_places_of_its_own(doubtful, settle):
    widget, viewer = doubtful, doubtful.viewer
    widget.correcting.next_place.click()
    assert NEXT in viewer.layers
    widget.segment_button.click()
    settle(widget)
    assert NEXT not in viewer.layers
    widget.correcting.next_place.click()
    assert [layer.name for layer in viewer.layers].count(NEXT) == 1
    widget.viewer.window.remove_dock_widget(widget)
    assert NEXT not in viewer.layers


@pytest.mark.slow
def test_slips_come_first_and_lie_where_it_was_painted(viewer, qtbot):
    image = viewer.add_image(np.zeros((3, 50, 60)), name="cells", scale=(4, 1, 1))
    places = Places(viewer)
    places.offer(image, NEXT, [((0,), Place(10.0, 10.0, 0.5)), ((2,), Place(40.0, 50.0, 0.4))], 5)
    places.offer(image, CHECK, [((1,), Place(20.0, 30.0, 0.9))])
    seen = {(1,): np.ones((50, 60), np.uint8), (0,): np.ones((50, 60), np.uint8)}
    assert "slip" in str(places.go_on(image, seen))
    assert viewer.dims.point[0] == 4
    assert centre(viewer) == (20, 30)
    slip = str(viewer.layers[CHECK].border_color[0])
    assert str(places.go_on(image, seen)).startswith("Doubtful cell 2 of 2")
    assert viewer.dims.point[0] == 8
    assert centre(viewer) == (40, 50)
    assert CHECK not in viewer.layers, "the rings of one kind are shown"
    assert str(viewer.layers[NEXT].border_color[0]) != slip
    assert places.go_on(image, seen) is None
    qtbot.waitUntil(lambda: len(viewer.layers) == 1)
