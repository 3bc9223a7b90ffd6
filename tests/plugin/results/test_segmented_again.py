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
    assert "confirmed" in dock.correcting.count.text()
    assert "seen (napari-unet)" in dock.viewer.layers
