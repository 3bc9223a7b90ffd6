"""Held-out images judge models, and the curve says whether correcting still pays."""

from __future__ import annotations

import pytest

from napari_unet.projects.manifest import Score
from napari_unet.projects.rest import segment_rest
from napari_unet.projects.scoring import curve, curve_words, score_models


def test_models_are_scored_on_held_out_images_that_are_done(service, project, correct, nuclei):
    with pytest.raises(ValueError, match="no held-out image is done"):
        score_models(service, project, [nuclei])
    segment_rest(service, project, "nuclei").wait()
    for name in ("a.tif", "b.tif"):
        project.set_held_out(name, True)
    project.set_done("a.tif", True)
    correct(project, "c.tif")
    (point,) = score_models(service, project, [nuclei]).wait()
    assert (point.ap, point.images, point.n_corrected) == (1.0, ("a.tif",), 1)
    assert score_models(service, project, [nuclei]).wait() == ()
    assert curve(project) == (point,)
    # With another held-out image, what was scored before says nothing.
    project.set_done("b.tif", True)
    assert curve(project) == ()


def test_the_curve_in_words():
    def points(*aps):
        images = ("a", "b", "c")
        return [Score(f"m@{n}", 5 * n, ap, images) for n, ap in enumerate(aps, 1)]

    assert curve_words([]) == ""
    assert curve_words(points(0.61, 0.74, 0.79)) == (
        "AP on 3 held-out images: 0.61, 0.74, 0.79 after 5, 10, 15 cells"
    )
    assert curve_words(points(0.61, 0.74), {"m@2"}) == (
        "AP on 3 held-out images: 0.61, (0.74) after 5, 10 cells"
    )
    assert "+0.01: more correcting hardly pays" in curve_words(points(0.61, 0.79, 0.80, 0.80))
