import numpy as np


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
