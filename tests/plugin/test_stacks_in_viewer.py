import numpy as np
import pytest


def test_segment_shows_the_whole_stack_with_a_model_of_stacks(docked, settle, discs, add_model):
    add_model("deep", z_depth=0, normalisation={"low": 0.0, "high": 100.0}, anisotropy=1.0)
    plane = discs((20, 20), (60, 60))
    empty = np.full_like(plane, 20)
    widget = docked()
    widget.viewer.add_image(np.stack([empty, plane, plane, plane, empty]), name="stack")
    widget.model.value = "deep"
    widget.viewer.dims.set_point(0, 2)
    widget.segment_button.click()
    settle(widget)
    labels = np.asarray(widget.labels.value.data)
    assert labels.shape == (5, 96, 96)
    for y, x in ((20, 20), (60, 60)):
        assert labels[2, y, x] > 0
        assert (labels[1:4, y, x] == labels[2, y, x]).all(), "one cell on all its planes"
    assert labels[2, 20, 20] != labels[2, 60, 60]


def test_a_plane_with_a_model_of_stacks_is_told_so(docked, settle, image, add_model):
    add_model("deep", z_depth=0)
    widget = docked()
    widget.viewer.add_image(image, name="cells")
    widget.model.value = "deep"
    widget.segment_button.click()
    settle(widget)
    assert "works on stacks" in widget.status.text()
    assert len(widget.viewer.layers) == 1


@pytest.mark.slow
def test_in_3d_the_dock_says_where_it_is(docked_by_napari, settle, discs):
    widget = docked_by_napari
    widget.viewer.add_image(np.stack([discs((20, 20), (60, 60))] * 30), name="stack")
    widget.viewer.dims.set_current_step(0, 12)
    widget.advanced.link.value = "3d"
    said = []
    widget.controller.follower.progressed.connect(
        lambda progress: said.append(widget.status.text())
    )
    widget.segment_button.click()
    settle(widget)
    for side, planes in ((1, 30), (2, 48), (3, 48)):
        start = f"segmenting, side {side} of 3, plane {planes} of {planes}"
        assert any(text.startswith(start) for text in said), (start, said)


@pytest.mark.slow
def test_in_3d_at_the_scale_of_the_layer(docked, settle, discs, add_model):
    add_model("planes", normalisation={"low": 0.0, "high": 100.0})
    plane = discs((20, 20), (60, 60))
    stack = np.full((30, *plane.shape), 20, plane.dtype)
    stack[4:12], stack[18:26] = plane, plane
    widget = docked()
    widget.viewer.add_image(stack, name="stack", scale=(2.0, 0.5, 0.5))
    widget.model.value = "planes"
    widget.advanced.link.value = "3d"
    assert widget.advanced.predict_config().link == "none"
    asked = []
    segment = widget.controller.service.segment
    widget.controller.service.segment = lambda *args: asked.append(args[3]) or segment(*args)
    widget.segment_button.click()
    settle(widget)
    assert [(c.in_3d, c.anisotropy) for c in asked] == [(True, 4.0)]
    assert widget.status.text().startswith("4 cells,")
    labels = np.asarray(widget.labels.value.data)
    for y, x in ((20, 20), (60, 60)):
        upper, lower = labels[8, y, x], labels[22, y, x]
        assert 0 != upper != lower != 0
        assert (labels[5:11, y, x] == upper).all()
        assert (labels[19:25, y, x] == lower).all()


def test_a_plane_is_not_offered_in_3d(docked, image):
    widget = docked()
    widget.viewer.add_image(image, name="cells")
    assert widget.advanced.link.choices == ("none",)
    assert not widget.advanced.link.native.isVisible()
    widget.viewer.add_image(np.stack([np.stack([image] * 3)] * 2), name="movie")
    widget.advanced.link.value = "3dt"
    assert widget.advanced.predict_config().link == "t"
    assert widget.advanced.predict_config().in_3d
