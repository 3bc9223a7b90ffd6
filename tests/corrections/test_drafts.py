import json
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_unet.corrections.drafts import Drafts, fingerprint

INFO = {"image": "cells", "model": "nuclei@2", "confirmed": [[0, 0, 5, 5]], "ä": None}


@pytest.fixture
def drafts(tmp_path):
    return Drafts(tmp_path / "drafts")


@pytest.fixture
def baseline():
    return np.arange(3 * 20 * 30, dtype=np.int32).reshape(3, 20, 30) // 7


def paint(drafts, baseline, index, *strokes, key="k"):
    """Saves strokes (y, x, label); returns the labels that are to come back."""
    labels = baseline.copy()
    for y, x, value in strokes:
        labels[index][y, x] = value
    changed = np.flatnonzero(labels[index] != baseline[index])
    drafts.save_plane(key, index, changed, labels[index].ravel()[changed])
    return labels


def files(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def info_file(drafts, key="k"):
    return drafts.root / key / "info.json"


def folder_of(drafts, key="k"):
    return drafts.root / key / json.loads(info_file(drafts, key).read_text())["folder"]


def test_there_is_none(drafts):
    assert drafts.load("k") is None
    assert not drafts.has_strokes("k")
    assert not drafts.root.exists()
    for save in (
        lambda: drafts.save_info("k", {}),
        lambda: paint(drafts, np.zeros((2, 2), int), ()),
    ):
        with pytest.raises(ValueError, match="there is no draft of 'k'; segment the image again"):
            save()


def test_strokes_come_back_on_what_segment_wrote(drafts, baseline):
    drafts.begin("k", baseline, INFO)
    assert not drafts.has_strokes("k")
    untouched = drafts.load("k")
    np.testing.assert_array_equal(untouched.labels, baseline)
    labels = paint(drafts, baseline, (1,), (0, 0, 9), (19, 29, 0), (3, 4, 2**31 - 1))
    draft = Drafts(drafts.root).load("k")
    assert drafts.has_strokes("k")
    for found, expected in ((draft.baseline, baseline), (draft.labels, labels)):
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, expected)
    assert draft.info == INFO
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", draft.created)
    assert draft.damaged == ()
    draft.labels[:] = 0
    np.testing.assert_array_equal(draft.baseline, baseline)


def test_the_last_strokes_on_a_plane_count(drafts, baseline):
    drafts.begin("k", baseline, {})
    paint(drafts, baseline, (0,), (1, 1, 5))
    other = paint(drafts, baseline, (2,), (1, 1, 6))
    labels = paint(drafts, baseline, (0,), (2, 2, 7))
    labels[2] = other[2]
    np.testing.assert_array_equal(drafts.load("k").labels, labels)
    # All undone on both.
    paint(drafts, baseline, (0,))
    paint(drafts, baseline, (2,))
    paint(drafts, baseline, (1,))
    assert not drafts.has_strokes("k")
    np.testing.assert_array_equal(drafts.load("k").labels, baseline)


@pytest.mark.slow
@given(
    arrays(np.int32, st.sampled_from([(4, 5), (2, 4, 5), (2, 3, 1, 6)])),
    st.data(),
)
def test_any_labels_come_back(tmp_path_factory, baseline, data):
    drafts = Drafts(tmp_path_factory.mktemp("drafts"))
    drafts.begin("k", np.asfortranarray(baseline), {})
    labels = data.draw(arrays(np.int32, baseline.shape, elements=st.integers(0, 2**31 - 1)))
    for index in np.ndindex(baseline.shape[:-2]):
        changed = np.flatnonzero(labels[index] != baseline[index])
        changed = np.random.default_rng(0).permutation(changed)
        drafts.save_plane("k", index, changed, labels[index].ravel()[changed])
    draft = drafts.load("k")
    np.testing.assert_array_equal(draft.labels, labels)
    np.testing.assert_array_equal(draft.baseline, baseline)


def test_strokes_that_do_not_fit_their_values(drafts, baseline):
    drafts.begin("k", baseline, {})
    with pytest.raises(ValueError, match=r"are \(2,\) and their values \(3,\); give one value"):
        drafts.save_plane("k", (0,), np.arange(2), np.ones(3, np.int32))


def test_the_info_can_be_replaced(drafts, baseline):
    drafts.begin("k", baseline, INFO)
    labels = paint(drafts, baseline, (1,), (5, 5, 8))
    created = drafts.load("k").created
    drafts.save_info("k", {"classes": {"3": "dividing"}})
    draft = drafts.load("k")
    assert (draft.info, draft.created) == ({"classes": {"3": "dividing"}}, created)
    np.testing.assert_array_equal(draft.labels, labels)
    with pytest.raises(TypeError):
        drafts.save_info("k", {"array": np.zeros(2)})
    assert drafts.load("k").info == draft.info


def test_a_new_draft_keeps_the_one_before_if_it_was_painted_on(drafts, baseline):
    drafts.begin("k", baseline, {"n": 1})
    assert drafts.load("k", previous=True) is None
    painted = paint(drafts, baseline, (1,), (5, 5, 8))
    drafts.begin("k", baseline + 1, {"n": 2})
    for _ in range(2):
        previous = drafts.load("k", previous=True)
        np.testing.assert_array_equal(previous.labels, painted)
        assert previous.info == {"n": 1}
        assert drafts.has_strokes("k", previous=True)
        assert not drafts.has_strokes("k")
        np.testing.assert_array_equal(drafts.load("k").labels, baseline + 1)
        # Nothing was painted on this one, which does not take the place of the other.
        drafts.begin("k", baseline + 1, {"n": 3})
    assert len(files(drafts.root)) == 5
    paint(drafts, baseline + 1, (0,), (1, 1, 99))
    drafts.begin("k", baseline, {"n": 4})
    assert drafts.load("k", previous=True).info == {"n": 3}


def test_any_text_is_a_key(drafts, baseline):
    keys = ["k", "K", "..", "a/b", "a b", "a-b", "a_b", "con", "nul", "", "細胞", "x" * 300,
            "y" * 80, "z.previous", "é", "0123456789abcdef"]  # fmt: skip
    for number, key in enumerate(keys):
        drafts.begin(key, baseline, {"n": number})
    assert [drafts.load(key).info["n"] for key in keys] == list(range(len(keys)))
    for path in drafts.root.iterdir():
        assert re.fullmatch(r"[a-z0-9_-]{1,80}", path.name)
        assert path.name not in ("con", "nul")
    assert len({path.name.lower() for path in drafts.root.iterdir()}) == len(keys)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b"\xff\0", b'{"format": 1}', b'{"format": "other 9"}']
)
def test_an_info_that_cannot_be_read(drafts, baseline, content):
    drafts.begin("k", baseline, {})
    paint(drafts, baseline, (1,), (5, 5, 8))
    whole = info_file(drafts).read_bytes()
    info_file(drafts).write_bytes(content)
    before = files(drafts.root)
    assert drafts.load("k") is None
    assert not drafts.has_strokes("k")
    with pytest.raises(ValueError, match="there is no draft"):
        drafts.save_info("k", {})
    assert files(drafts.root) == before
    # A new draft takes its place, and it is kept beside.
    drafts.begin("k", baseline, {"n": 2})
    assert drafts.load("k").info == {"n": 2}
    previous = drafts.root / "k.previous"
    assert files(previous) == {name.partition("/")[2] for name in before}
    (previous / "info.json").write_bytes(whole)
    assert drafts.load("k", previous=True).labels[1, 5, 5] == 8


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.99])
def test_a_baseline_that_cannot_be_read(drafts, baseline, share):
    drafts.begin("k", baseline, {})
    paint(drafts, baseline, (1,), (5, 5, 8))
    path = folder_of(drafts) / "baseline.npz"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    before = files(drafts.root)
    assert drafts.load("k") is None
    assert files(drafts.root) == before
    path.write_bytes(content)
    assert drafts.load("k") is not None


@pytest.mark.parametrize("damage", ["cut", "flip", "beyond", "other plane"])
def test_strokes_that_cannot_be_read_cost_one_plane(drafts, baseline, damage):
    drafts.begin("k", baseline, {})
    labels = paint(drafts, baseline, (0,), (5, 5, 8))
    paint(drafts, baseline, (2,), (5, 5, 8), (7, 7, 7))
    path, damaged = folder_of(drafts) / "plane-2.npz", (2,)
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-40])
    elif damage == "flip":
        at = content.index(b"steps.npy") + 60
        path.write_bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :])
    elif damage == "beyond":
        drafts.save_plane("k", (2,), np.array([600]), np.ones(1, np.int32))
    else:
        damaged = (7,)
        path.rename(path.with_name("plane-7.npz"))
    draft = drafts.load("k")
    assert draft.damaged == (damaged,)
    np.testing.assert_array_equal(draft.labels, labels)
    assert drafts.has_strokes("k")


def test_what_cannot_be_written_leaves_what_there_was(drafts, baseline, monkeypatch):
    drafts.begin("k", baseline, INFO)
    labels = paint(drafts, baseline, (1,), (5, 5, 8))

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    for write in (
        lambda: paint(drafts, baseline, (1,), (6, 6, 9)),
        lambda: drafts.save_info("k", {}),
        lambda: drafts.begin("k", baseline + 1, {}),
    ):
        with pytest.raises(OSError, match="No space"):
            write()
    monkeypatch.undo()
    draft = drafts.load("k")
    np.testing.assert_array_equal(draft.labels, labels)
    assert draft.info == INFO


def test_a_draft_is_small(drafts):
    baseline = np.zeros((4, 512, 512), np.int32)
    rows, columns = np.indices((512, 512))
    baseline[:] = np.where(
        (rows % 32 < 24) & (columns % 32 < 24), rows // 32 * 16 + columns // 32, 0
    )
    drafts.begin("k", baseline, {})
    assert (folder_of(drafts) / "baseline.npz").stat().st_size < baseline.nbytes / 50
    disc = (rows - 200) ** 2 + (columns - 200) ** 2 < 400
    drafts.save_plane("k", (1,), np.flatnonzero(disc), np.full(disc.sum(), 7, np.int32))
    assert (folder_of(drafts) / "plane-1.npz").stat().st_size < 2000


WRITER = """
import sys
import numpy as np
from napari_unet.corrections.drafts import Drafts
drafts, number = Drafts(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
while True:
    number += 1
    if number % 5 == 0:
        drafts.begin("k", np.full((300, 400), number, np.int32), {"begun": number})
    elif number % 5 == 1:
        drafts.save_info("k", {"begun": number - 1, "rest": "x" * 20000})
    else:
        changed = np.arange(0, 120000, 3)
        drafts.save_plane("k", (), changed, np.full(changed.size, number, np.int32))
    print(number, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_a_kill_at_any_moment_loses_one_stroke_at_most(drafts):
    done, pause = 4, random.Random(0)
    for _ in range(6):
        command = [sys.executable, "-c", WRITER, str(drafts.root), str(done // 5 * 5 + 4)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
            assert program.stdout.readline() == "ready\n"
            time.sleep(pause.uniform(0.05, 0.4))
            program.send_signal(signal.SIGKILL)
            lines = program.stdout.read().splitlines()
        if not lines:
            continue
        done = int(lines[-1])
        draft = drafts.load("k")
        # The state of the last finished write, or of the one that was cut off.
        states = []
        for number in (done, done + 1):
            begun = number // 5 * 5
            painted = number if number % 5 > 1 else begun
            states.append((begun, painted))
        found = int(draft.baseline[0, 0]), int(draft.labels[0, 0])
        assert found in states
        assert draft.info["begun"] == found[0]
        assert (draft.baseline == found[0]).all()
        assert (draft.labels.ravel()[::3] == found[1]).all()
        assert (draft.labels.ravel()[1::3] == found[0]).all()
        assert draft.damaged == ()
    assert done > 4
    # What the kills left behind goes with the next draft.
    drafts.begin("k", np.zeros((2, 2), np.int32), {})
    assert len(files(drafts.root / "k")) == 2


def test_images_have_fingerprints(blobs):
    image = np.stack([blobs(seed)[0] for seed in range(2)])
    found = fingerprint(image, "ZYX", "cells")
    assert re.fullmatch("[0-9a-f]{16}", found)
    assert fingerprint(image.copy(), "ZYX", "cells") == found
    others = [
        fingerprint(image, "TYX", "cells"),
        fingerprint(image, "ZYX", "other"),
        fingerprint(image[:1], "ZYX", "cells"),
        fingerprint(image.astype(np.uint16), "ZYX", "cells"),
        fingerprint(image[::-1], "ZYX", "cells"),
    ]
    assert len({found, *others}) == 6
    assert fingerprint(np.zeros((0, 5, 5)), "ZYX", "")


def test_one_plane_of_a_lazy_image_is_read():
    class Lazy:
        shape, dtype, read = (5, 3, 40, 50), np.dtype(np.uint16), []

        def __getitem__(self, key):
            self.read.append(key)
            return np.zeros(self.shape, self.dtype)[key]

    lazy = Lazy()
    assert fingerprint(lazy, "TCYX", "x") == fingerprint(np.zeros(lazy.shape, "u2"), "TCYX", "x")
    assert lazy.read == [(0, slice(None), slice(None), slice(None))]
