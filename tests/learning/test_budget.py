import pytest

from napari_unet.jobs import TooShort, duration
from napari_unet.learning.budget import Gain


def test_what_is_too_short_says_what_would_do():
    assert str(TooShort(30.0, 6, 240.0)) == (
        "30 s is enough for 6 steps on this computer; a fine-tune needs about 40: 4 minutes"
    )
    assert str(TooShort(0.5, 1, 20.0, "gpu")) == (
        "0.5 s is enough for 1 step on gpu; a fine-tune needs about 40: 20 s"
    )
    assert str(TooShort(30.0, 60, 120.0, needed=120)) == (
        "30 s is enough for 60 steps on this computer; a fine-tune needs about 120: 2 minutes"
    )


def test_times_in_words():
    given = (0.5, 30, 59.0, 60, 90, 120.0, 600)
    told = ["0.5 s", "30 s", "59 s", "1 minute", "1.5 minutes", "2 minutes", "10 minutes"]
    assert [duration(seconds) for seconds in given] == told


def legs(gain, losses, scores=(None,) * 9):
    """Whether each leg brought a gain: 80 steps, then as many as before."""
    found, done = [], 0
    for loss, score in zip(losses, scores, strict=False):
        for _ in range(done or 80):
            gain.add(loss)
        done = 2 * done or 80
        found.append(gain.in_leg(score))
    return found


def test_a_leg_brings_a_gain_while_the_loss_falls_by_a_tenth():
    assert legs(Gain(), [1.0]) == [False]
    gain = Gain()
    for step in range(80):
        gain.add(1.0 - 0.005 * step)
    assert gain.in_leg(None)
    assert legs(Gain(), [1.0, 0.85, 0.8, 0.5]) == [False, True, False, True]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.5, 0.6, 0.605, 0.62], [True, True, False, True]),
        ([0.3, 0.4], [False, True]),
        ([0.3, 0.25], [False, False]),
    ],
)
def test_a_score_decides_where_there_is_one(scores, expected):
    assert legs(Gain(0.3), [1.0] * len(scores), scores) == expected


def test_of_a_new_kind_the_first_leg_need_not_find_a_cell():
    gain = Gain(0.0)
    for step in range(80):
        gain.add(1.0 - 0.01 * step)
    assert gain.in_leg(0.0)
    for _ in range(80):
        gain.add(0.1)
    assert not gain.in_leg(0.0)
