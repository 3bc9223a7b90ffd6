import threading

from napari.layers import Labels


def test_what_a_result_shows_is_computed_beside_the_main_thread(
    docked_by_napari, settle, image, monkeypatch
):
    plain, seen = Labels._raw_to_displayed, []

    def noted(self, *args, **options):
        seen.append((self.name, threading.current_thread()))
        return plain(self, *args, **options)

    monkeypatch.setattr(Labels, "_raw_to_displayed", noted)
    docked_by_napari.viewer.add_image(image, name="cells")
    docked_by_napari.segment_button.click()
    settle(docked_by_napari)
    threads = [thread for name, thread in seen if name == "cells cells"]
    assert threads
    assert threading.main_thread() not in threads
