import pytest


@pytest.fixture
def again(docked_by_napari, settle, image):
    """The dock after two clicks on Segment, what the first one found, and the labels layer."""
    dock = docked_by_napari
    dock.viewer.add_image(image, name="cells")
    dock.segment_button.click()
    settle(dock)
    layer = dock.labels.value
    first = layer.data
    dock.segment_button.click()
    settle(dock)
    # Nothing was painted, so the layer shows the second result.
    assert dock.labels.value == layer
    assert layer.data is not first
    return dock, first, layer


def test_the_tint_and_the_keys_follow_to_the_second_result(again, hand, settle):
    dock, _, _ = again
    hand(dock.viewer).point((20, 20))
    hand(dock.viewer).press("C")
    settle(dock)
    assert "marked correct" in dock.correcting.count.text()
    assert "learnt from (U-Net)" in dock.viewer.layers


def test_the_same_cells_keep_their_ids_and_the_tool_stays(again, settle):
    dock, first, second = again
    assert (first == second.data).all()
    second.mode, second.brush_size = "erase", 7
    image = dock.image.value
    # One cell goes, another comes, the third stays where it is.
    image.data = image.data.copy()
    image.data[:50, :50], image.data[60:80, 60:80] = 20, 220
    before = second.data
    dock.segment_button.click()
    settle(dock)
    third = dock.labels.value
    assert third.data[30, 70] == before[30, 70]
    assert third.data[70, 70] not in before
    assert "since the last result 1 new, 1 gone" in dock.status.text()
    table = third.features.set_index("index")["since last result"]
    assert table[third.data[70, 70]] == "new"
    assert (str(third.mode), third.brush_size) == ("erase", 7)
    assert len(set(third.data.ravel().tolist()) - {0}) == 3
