import pytest


@pytest.fixture
def again(docked_by_napari, settle, image, qtbot):
    """The dock after two clicks on Segment, and both results; nothing was painted."""
    dock = docked_by_napari
    dock.viewer.add_image(image, name="cells")
    found = []
    for _ in range(2):
        dock.segment_button.click()
        settle(dock)
        qtbot.wait(300)  # the result before leaves a moment later
        found.append(dock.labels.value)
    return dock, *found


def test_the_tint_and_the_keys_follow_to_the_second_result(again, hand, settle):
    dock, _, second = again
    assert second in dock.viewer.layers
    hand(dock.viewer).point((20, 20))
    hand(dock.viewer).press("C")
    settle(dock)
    assert "marked correct" in dock.correcting.count.text()
    assert "seen (napari-unet)" in dock.viewer.layers


def test_the_same_cells_keep_their_ids_and_the_tool_stays(again, settle, qtbot):
    dock, first, second = again
    assert (first.data == second.data).all()
    second.mode, second.brush_size = "erase", 7
    image = dock.image.value
    # One cell goes, another comes, the third stays where it is.
    image.data = image.data.copy()
    image.data[:50, :50], image.data[60:80, 60:80] = 20, 220
    kept = second.data[30, 70]
    dock.segment_button.click()
    settle(dock)
    third = dock.labels.value
    assert third != second
    assert third.data[30, 70] == kept
    assert third.data[70, 70] not in second.data
    assert "since the last result 1 new, 1 gone (" in dock.status.text()
    table = third.features.set_index("index")["since last result"]
    assert table[third.data[70, 70]] == "new"
    assert (str(third.mode), third.brush_size) == ("erase", 7)
    assert len(set(third.data.ravel().tolist()) - {0}) == 3
