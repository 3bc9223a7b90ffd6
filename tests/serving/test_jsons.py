import dataclasses
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.learning.training import NewModel
from napari_unet.serving.jsons import Unfit, from_json, parse, to_json
from napari_unet.serving.messages import SentModel, TrainMessage


@dataclass(frozen=True)
class Inner:
    box: tuple[slice, slice]


@dataclass(frozen=True)
class Outer:
    number: int
    share: float
    names: tuple[str, ...]
    table: Mapping[int, str]
    inner: Inner | None
    word: Literal["a", "b"] = "a"


GOOD = Outer(1, 0.5, ("x",), {3: "y"}, Inner((slice(0, 2), slice(1, 1))))


@pytest.mark.parametrize(
    "thing",
    [
        GOOD, dataclasses.replace(GOOD, inner=None, share=3),
        PredictConfig(channel="stain", diameter_px=12), FinetuneConfig(seconds="auto", steps=3),
        TrainMessage((), NewModel(depth=1), FinetuneConfig(), "m", ()),
        TrainMessage((), SentModel("m", 1, "a" * 64), FinetuneConfig(), "m", ("x",)),
    ],
)  # fmt: skip
def test_a_data_class_comes_back(thing):
    again = from_json(type(thing), parse(json.dumps(to_json(thing))))
    assert again == thing
    # 60 and 60.0 are equal, and written into the header of a model as they are.
    assert repr(again) == repr(thing)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"number": True}, "number should be a whole number"),
        ({"number": 1 << 70}, "a whole number"),
        ({"share": "1"}, "share should be a number"),
        ({"names": "x"}, "names should be a list"),
        ({"names": [1]}, r"names\[0\] should be text"),
        ({"table": {"x": "y"}}, "keys are whole numbers"),
        ({"inner": {"box": [[0, 2]]}}, "box should be a list of 2"),
        ({"inner": {"box": [[0, 2], [2, 1]]}}, "a start and a stop"),
        ({"word": "c"}, "one of 'a', 'b'"),
        ({"more": 1}, "has 'more', and should have none but"),
    ],
)
def test_what_does_not_fit_is_named(change, words):
    with pytest.raises(Unfit, match=words):
        from_json(Outer, to_json(GOOD) | change)


def test_what_is_missing_is_named():
    content = to_json(GOOD)
    del content["names"]
    with pytest.raises(Unfit, match="lacks 'names'"):
        from_json(Outer, content)


def test_what_the_class_refuses():
    content = to_json(PredictConfig()) | {"threshold": 3.0}
    with pytest.raises(Unfit, match=r"threshold is 3.0; give one in \(0, 1\)"):
        from_json(PredictConfig, content)


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "[" * 100_000, "", "1" * 5000, b"\xff"])
def test_what_is_no_json(text):
    with pytest.raises(Unfit, match="this is no JSON"):
        parse(text)


def test_numbers_of_numpy():
    assert json.dumps(to_json((np.float32(0.5), np.int64(3)))) == "[0.5, 3]"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from([*to_json(GOOD), "box"]), inner)
        ),
    )
)
def test_nothing_else_than_unfit_is_raised(content):
    with suppress(Unfit):
        assert to_json(from_json(Outer, content))["number"] == content["number"]
