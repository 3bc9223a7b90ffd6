import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.engine.samples import AnnotatedPlane
from napari_unet.learning.validation import Check, Elsewhere, Fit, compare, count, decide
from napari_unet.models.checkpoint import load_model
from napari_unet.models.device import Compute
from napari_unet.models.loaded import LoadedModel

CPU = Compute("cpu", "float32")


def quiet():
    pass


def unit(right=1.0, size=100.0):
    """Half background, half cell, of which this share is right."""
    wrong = (1 - right) * size / 2
    return np.array([[size / 2 - wrong, wrong], [wrong, size / 2 - wrong]])


def units(*right):
    return np.stack([unit(r) for r in right])


def check(before, after, noise=0.0):
    return Check(before, after, noise, 10, False)


@pytest.fixture
def bright(write_model, tmp_path):
    write_model(tmp_path / "m.safetensors")
    return LoadedModel(*load_model(tmp_path / "m.safetensors"))


@pytest.fixture
def plane(bright, blobs):
    image, labels = blobs()
    return AnnotatedPlane(bright.prepare(image[None]), labels)


# Comparing


def test_scores_are_the_agreement_beyond_chance_over_all_units():
    found = compare(units(0.5, 0.9, 0.7, 0.9), units(1.0, 1.0, 1.0, 1.0), weak=False)
    assert found.before == pytest.approx(0.5), "75 % are right, half of the rest by chance"
    assert found.after == 1
    assert (found.n_places, found.weak) == (4, False)
    assert 0 < found.noise < 0.3


def test_a_large_unit_weighs_more():
    before = np.stack([unit(0.5, 10), unit(1.0, 1000), unit(1.0, 1000)])
    assert compare(before, before, False).before > 0.98


def test_what_changes_everywhere_alike_is_no_noise():
    assert compare(units(*[0.8] * 5), units(*[0.9] * 5), False).noise == pytest.approx(0, abs=1e-9)
    scattered = compare(units(*[0.8] * 6), units(1, 0.6, 1, 0.6, 1, 0.6), False)
    assert scattered.noise > 0.05
    assert scattered == compare(units(*[0.8] * 6), units(1, 0.6, 1, 0.6, 1, 0.6), False)


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_places_are_a_weak_check_with_much_noise(n):
    found = compare(units(*[0.9] * n), units(*[0.95] * n), weak=False)
    assert found.weak
    assert found.noise == pytest.approx(0.25)
    assert not compare(units(*[0.9] * 3), units(*[0.95] * 3), weak=False).weak
    assert compare(units(*[0.9] * 3), units(*[0.95] * 3), weak=True).weak


def test_nothing_held_out_is_no_check():
    assert compare(np.zeros((0, 2, 2)), np.zeros((0, 2, 2)), False) is None


def test_units_that_were_not_counted_twice_are_left_out():
    before, after = units(0.5, 0.9, 0.8, 0.7), units(0.9, 0.9, 0.9, 0.9)
    after[0] = before[1] = 0
    found = compare(before, after, False)
    assert found == compare(before[2:], after[2:], False)
    assert found.n_places == 2
    assert compare(before * 0, after, False) is None


def test_a_check_is_a_sentence():
    assert str(Check(0.5, 0.876, 0.1, 12, False)) == "50 % → 88 % on 12 places"
    assert str(Check(0, 1, 0.1, 1, True)).endswith("on 1 place, a weak check")


# Judging


LEARNT = Fit(0.3, 0.9)


def elsewhere(before=20, after=20, steady=(0.6, 0.6), kept=1.0):
    return Elsewhere(before, after, 3, *steady, kept)


def test_a_drop_beyond_the_noise_is_refused():
    assert not decide(check(0.9, 0.8, noise=0.04), None, LEARNT).accepted
    assert "worse on test cells" in decide(check(0.9, 0.8), None, LEARNT).why
    assert decide(check(0.9, 0.8, noise=0.06), None, LEARNT).accepted
    assert decide(check(0.9, 0.89), None, LEARNT).accepted, "2 % are nothing"
    assert decide(check(0.8, 0.9), None, LEARNT).accepted


def test_what_could_not_be_learnt_is_refused_even_where_it_is_a_gain():
    verdict = decide(check(-0.3, 0.1), None, Fit(0.0, 0.1))
    assert not verdict.accepted
    assert "agrees with 10 % of what was painted (the old one: 0 %)" in verdict.why
    assert decide(check(-0.3, 0.1), None, LEARNT).accepted
    assert not decide(None, None, Fit(0.0, 0.1)).accepted


def test_a_poor_fit_that_is_far_better_than_before_is_accepted_where_it_helps_elsewhere():
    better = check(0.1, 0.3)
    assert decide(better, None, Fit(0.15, 0.42)).accepted
    assert not decide(better, None, Fit(0.35, 0.42)).accepted, "hardly better than before"
    assert not decide(check(0.1, 0.12), None, Fit(0.15, 0.42)).accepted, "learnt by heart"
    assert not decide(check(0.1, 0.3, noise=0.3), None, Fit(0.15, 0.42)).accepted, "by chance"


def test_what_is_forgotten_is_refused():
    verdict = decide(check(0.5, 0.9), check(0.9, 0.7), LEARNT)
    assert not verdict.accepted
    assert "earlier" in verdict.why
    assert decide(check(0.5, 0.9), check(0.9, 0.89), LEARNT).accepted
    assert not decide(None, check(0.9, 0.7), LEARNT).accepted


def test_many_more_cells_where_nobody_looked_are_not_accepted_in_silence():
    better = check(0.5, 0.9)
    verdict = decide(better, None, LEARNT, elsewhere=elsewhere(20, 85))
    assert not verdict.accepted
    assert "the new one finds 85 cells and the old one 20" in verdict.why
    assert decide(better, None, LEARNT, elsewhere=elsewhere(20, 65)).accepted
    assert decide(better, None, LEARNT, elsewhere=elsewhere(0, 25)).accepted


def test_where_the_parent_was_sure_its_cells_have_to_stay():
    better = check(0.5, 0.9)
    verdict = decide(better, None, LEARNT, elsewhere(steady=(0.86, 0.92), kept=0.84))
    assert not verdict.accepted
    assert "only 84 % of the cells are the same" in verdict.why
    assert decide(better, None, LEARNT, elsewhere(steady=(0.86, 0.92), kept=0.95)).accepted
    assert decide(better, None, LEARNT, elsewhere(steady=(0.5, 0.92), kept=0.2)).accepted


def test_a_sure_parent_that_learns_little_is_told_apart_from_too_little_time():
    verdict = decide(check(0.4, 0.44), None, Fit(0.43, 0.44), elsewhere(steady=(0.96, 0.95)))
    assert not verdict.accepted
    assert "sure of what it finds in this image" in verdict.why
    assert (
        "50 % are needed; train for longer" in decide(check(0.4, 0.44), None, Fit(0.43, 0.44)).why
    )


def test_a_refusal_asks_for_time_or_for_corrections():
    assert decide(None, None, LEARNT, steps=3).wants_time
    assert decide(None, None, Fit(0.0, 0.1)).wants_time
    assert not decide(None, None, LEARNT).wants_time
    assert not decide(check(0.9, 0.8), None, LEARNT).wants_time


def test_a_version_that_is_less_sure_of_its_cells_is_refused():
    better = check(0.5, 0.9)
    verdict = decide(better, None, LEARNT, elsewhere(steady=(0.75, 0.64)))
    assert not verdict.accepted
    assert "64 % of its cells again, the old one 75 %" in verdict.why
    assert decide(better, None, LEARNT, elsewhere(steady=(0.75, 0.73))).accepted


def test_of_three_places_steadiness_tells_more_on_a_kind_that_the_parent_does_not_know():
    few = Check(0.46, 0.08, 0.1, 3, False)
    assert decide(few, None, LEARNT, elsewhere(steady=(0.45, 0.6))).accepted
    assert decide(few, None, LEARNT, elsewhere(steady=(0.45, 0.47))).accepted
    assert not decide(few, None, LEARNT, elsewhere(steady=(0.45, 0.45))).accepted
    assert not decide(few, None, LEARNT, elsewhere(steady=(0.85, 0.95))).accepted
    assert not decide(check(0.46, 0.08), None, LEARNT, elsewhere(steady=(0.45, 0.6))).accepted
    more = elsewhere(before=104, after=254, steady=(0.45, 0.6))
    assert decide(check(0.3, 0.4), None, LEARNT, more).accepted
    assert not decide(check(0.3, 0.4), None, LEARNT, elsewhere(104, 254)).accepted


def test_a_version_that_is_far_better_may_be_a_little_less_steady():
    a_little = elsewhere(steady=(0.45, 0.39))
    assert decide(check(0.1, 0.4), None, LEARNT, a_little).accepted
    assert not decide(check(0.1, 0.15), None, LEARNT, a_little).accepted
    assert not decide(check(0.1, 0.4), None, LEARNT, elsewhere(steady=(0.45, 0.3))).accepted
    assert not decide(check(0.1, 0.4), None, LEARNT, elsewhere(steady=(0.95, 0.89))).accepted


def test_a_version_that_has_become_surer_may_fit_poorly():
    surer = elsewhere(steady=(0.4, 0.6))
    assert decide(check(0.1, 0.24, noise=0.3), None, Fit(0.15, 0.42), surer).accepted
    guess = check(-0.1, 0.06)
    assert not decide(guess, None, Fit(0.0, 0.3), surer).accepted, "labels of another image"
    assert not decide(check(0.1, 0.24), None, Fit(0.35, 0.42), surer).accepted
    assert not decide(None, None, LEARNT, surer).accepted, "nothing checked it"


def test_a_few_steps_that_the_time_allowed_are_not_accepted():
    verdict = decide(check(0.5, 0.9), None, LEARNT, steps=6)
    assert not verdict.accepted
    assert "only 6 training steps" in verdict.why
    assert decide(check(0.5, 0.9), None, LEARNT, steps=40).accepted
    small = decide(check(0.5, 0.9), None, LEARNT, steps=40, scaled=lambda steps: 3 * steps)
    assert "about 120 are needed" in small.why
    assert decide(check(0.5, 0.9), None, LEARNT, steps=120, scaled=lambda steps: 3 * steps).accepted


def test_what_could_not_be_checked_is_not_accepted():
    verdict = decide(None, None, LEARNT)
    assert not verdict.accepted
    assert "correct two more" in verdict.why


def test_no_gain_where_there_is_room_for_one_is_refused():
    verdict = decide(check(0.43, 0.45), None, LEARNT)
    assert not verdict.accepted
    assert "no better on test cells" in verdict.why
    assert decide(check(0.43, 0.5), None, LEARNT).accepted
    assert decide(check(0.95, 0.95), None, LEARNT).accepted, "there is no room"
    assert decide(check(0.43, 0.43), check(0.6, 0.65), LEARNT).accepted, "better on earlier ones"


@given(*[st.floats(-1, 1)] * 4, st.floats(0.5, 1), st.floats(0, 0.3))
def test_no_fall_beyond_noise_is_ever_accepted(before, after, earlier, later, fit, noise):
    verdict = decide(check(before, after, noise), check(earlier, later, noise), Fit(0.0, fit))
    worst = max(before - after, earlier - later)
    helps = before >= 0.9 or after - before >= 0.03 or later - earlier >= 0.03
    assert verdict.accepted == (worst <= max(0.02, 2 * noise) and helps)
    assert verdict.why


# Counting


def test_only_held_out_units_count(bright, plane):
    held = np.zeros(plane.labels.shape, np.int32)
    held[:30, :25], held[40:60, 50:75] = 2, 1
    counts = count(bright, [plane], [held], 2, CPU, quiet)
    assert counts.shape == (2, 2, 2)
    assert counts[1].sum() >= (held == 2).sum()
    # What the truth says elsewhere does not matter: far from what is held.
    other = plane.labels.copy()
    other[62:, 60:] = 99
    same = count(bright, [AnnotatedPlane(plane.image, other)], [held], 2, CPU, quiet)
    np.testing.assert_allclose(same[1], counts[1])
    assert all(each[0, 1] + each[1, 0] < 0.1 * each.sum() for each in counts)


def test_planes_without_units_are_not_looked_at(bright, plane):
    held = np.zeros(plane.labels.shape, np.int32)
    held[10:20, 10:20] = 1
    broken = AnnotatedPlane(np.full_like(plane.image, np.nan), plane.labels)
    counts = count(bright, [broken, plane], [np.zeros_like(held), held], 2, CPU, quiet)
    np.testing.assert_array_equal(counts, count(bright, [plane], [held], 2, CPU, quiet))
    assert count(bright, [plane], [np.zeros_like(held)], 0, CPU, quiet).shape == (0, 2, 2)


def test_the_wrong_classes_are_counted(bright, plane):
    held = np.ones(plane.labels.shape, np.int32)
    right = count(bright, [plane], [held], 2, CPU, quiet)[0]
    inverted = AnnotatedPlane(1 - plane.image, plane.labels)
    wrong = count(bright, [inverted], [held], 2, CPU, quiet)[0]
    assert compare(right[None], wrong[None], False).before > 0.9
    assert compare(right[None], wrong[None], False).after < 0


def test_the_gap_between_two_cells_weighs_more_than_its_pixels(bright):
    labels = np.zeros((60, 60), np.int32)
    labels[20:40, 10:29], labels[20:40, 31:50] = 1, 2
    # The model sees one cell where there are two.
    image = np.zeros((1, 60, 60), np.float32)
    image[0, 20:40, 10:50] = 1
    held = np.ones(labels.shape, np.int32)
    counts = count(bright, [AnnotatedPlane(image, labels)], [held], 2, CPU, quiet)[0]
    gap = 20 * 2
    assert counts[0, 1] > 5 * gap
    assert counts[1].sum() == pytest.approx((labels > 0).sum(), rel=0.01)


def test_classes_are_told_apart(bright, plane):
    from napari_unet.core.network.unet import with_classes

    three = LoadedModel(with_classes(bright.network, 3), bright.header)
    three.network.head.bias.data[1] += 1  # always the first
    kinds = np.where(plane.labels % 2, 1, 2).astype(np.uint8)
    mixed = AnnotatedPlane(plane.image, plane.labels, None, kinds)
    held = np.ones(plane.labels.shape, np.int32)
    counts = count(three, [mixed], [held], 2, CPU, quiet)[0]
    assert counts.shape == (3, 3)
    assert counts[1, 1] > 0.9 * counts[1].sum()
    assert counts[2, 1] > 0.9 * counts[2].sum()


def test_counting_can_be_stopped(bright, plane):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        count(bright, [plane], [np.ones(plane.labels.shape, np.int32)], 1, CPU, stop)
