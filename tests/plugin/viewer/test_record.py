import numpy as np
from napari.layers import Labels

from napari_unet.plugin.viewer.record import (
    Entry,
    LayerRecord,
    helper_metadata,
    is_helper,
    record_of,
)

# Scripts read these in `layer.metadata["napari_unet"]`.
KEYS = {
    "axes",
    "baseline",
    "channel",
    "classes",
    "diameter_px",
    "draft",
    "draft_cells",
    "draft_owner",
    "file_axes",
    "file_channels",
    "gone_outlines",
    "handed_on",
    "helper",
    "holds_labels",
    "image",
    "marks",
    "measured",
    "model",
    "retired",
    "seen",
    "shown",
    "since_last",
    "source",
    "unit",
}


def labels(**options) -> Labels:
    return Labels(np.zeros((8, 9), np.int32), **options)


def test_names_of_the_keys_stay():
    assert {e.key for e in vars(LayerRecord).values() if isinstance(e, Entry)} == KEYS


def test_reading_stores_nothing():
    layer = labels()
    for key in KEYS:
        getattr(record_of(layer), key)
    assert not record_of(layer).has_channel
    assert not is_helper(layer)
    assert layer.metadata == {}


def test_values_are_those_of_the_metadata():
    layer = labels()
    record_of(layer).model = "nuclei@1"
    record_of(layer).channel = None
    assert layer.metadata == {"napari_unet": {"model": "nuclei@1", "channel": None}}
    assert record_of(layer).has_channel
    layer.metadata["napari_unet"]["model"] = "nuclei@2"
    assert record_of(layer).model == "nuclei@2"


def test_a_deleted_value_is_gone_from_the_metadata():
    layer = labels()
    record_of(layer).retired = True
    assert layer.metadata["napari_unet"] == {"retired": True}
    del record_of(layer).retired
    del record_of(layer).handed_on
    assert layer.metadata["napari_unet"] == {}
    assert not record_of(layer).retired


def test_marks_and_classes_of_one_layer_are_not_those_of_another():
    first, second = labels(), labels()
    record_of(first).writable_marks().append({"index": [0]})
    record_of(first).writable_classes()[5] = "lobed"
    assert record_of(first).marks == [{"index": [0]}]
    assert first.metadata["napari_unet"]["classes"] == {5: "lobed"}
    assert record_of(second).marks == []
    assert record_of(second).classes == {}


def test_a_helper_says_so_in_its_metadata():
    assert helper_metadata() == {"napari_unet": {"helper": True}}
    assert is_helper(labels(metadata=helper_metadata()))
