import dataclasses

import pytest

from napari_unet.config import AugmentConfig, FinetuneConfig, PredictConfig, train_config


@pytest.mark.parametrize(
    ("kind", "wrong", "sentence"),
    [
        (PredictConfig, {"threshold": 0.0}, r"threshold is 0.0; give one in \(0, 1\)"),
        (PredictConfig, {"threshold": 1.0}, r"threshold is 1.0; give one in \(0, 1\)"),
        (PredictConfig, {"min_size_px": -1}, "min_size_px is -1; give 0 or more"),
        (PredictConfig, {"tile_px": 0}, "tile_px is 0; give a size in pixels"),
        (PredictConfig, {"diameter_px": 0.0}, "diameter_px is 0.0; give a size in pixels"),
        (PredictConfig, {"channel": -1}, "channel is -1; give 0 for the first, or more"),
        (FinetuneConfig, {"channel": -1}, "channel is -1; give 0 for the first, or more"),
        (AugmentConfig, {"elastic_sigma_px": -1.0}, "elastic_sigma_px is -1.0; give 0 or more"),
        (AugmentConfig, {"grey": -0.1}, "grey is -0.1; give 0 or more"),
        (AugmentConfig, {"noise": -0.1}, "noise is -0.1; give 0 or more"),
        (AugmentConfig, {"grid": 1}, "grid is 1; give 2 nodes or more"),
        (AugmentConfig, {"scale": 0.5}, "scale is 0.5; give a factor of 1 or more"),
        (AugmentConfig, {"invert": 1.5}, r"invert is 1.5; give one in \[0, 1\]"),
        (FinetuneConfig, {"seconds": None}, "neither steps nor seconds is given; give one"),
        (FinetuneConfig, {"steps": 0}, "steps is 0; give 1 or more"),
        (FinetuneConfig, {"seconds": 0.0}, "seconds is 0.0; give more than 0"),
        (
            FinetuneConfig,
            {"seconds": "long"},
            "seconds is 'long'; give a number above 0, or 'auto'",
        ),
        (FinetuneConfig, {"optimiser": "lion"}, "optimiser is 'lion'; give 'adam' or 'sgd'"),
        (FinetuneConfig, {"learning_rate": 0.0}, "learning_rate is 0.0; give more than 0"),
        (FinetuneConfig, {"tile_px": 0}, "tile_px is 0; give more than 0"),
        (FinetuneConfig, {"sigma_px": 0.0}, "sigma_px is 0.0; give more than 0"),
        (FinetuneConfig, {"warmup_steps": -1}, "warmup_steps is -1; give 0 or more"),
        (FinetuneConfig, {"w0": -1.0}, "w0 is -1.0; give 0 or more"),
        (FinetuneConfig, {"balance": -1.0}, "balance is -1.0; give 0 or more"),
        (FinetuneConfig, {"anchor": -1.0}, "anchor is -1.0; give 0 or more"),
        (FinetuneConfig, {"batch": 0}, "batch is 0; give 1 or more"),
        (FinetuneConfig, {"workers": -1}, "workers is -1; give 0 or more"),
        (PredictConfig, {"anisotropy": 0.0}, "anisotropy is 0.0; give the distance of the planes"),
        (FinetuneConfig, {"diameter_px": -1.0}, "diameter_px is -1.0; give a size in pixels"),
        (FinetuneConfig, {"held_out": 1.0}, r"held_out is 1.0; give one in \[0, 1\)"),
        (FinetuneConfig, {"threshold": 1.0}, r"threshold is 1.0; give one in \(0, 1\)"),
        (FinetuneConfig, {"min_size_px": -1}, "min_size_px is -1; give 0 or more"),
        (FinetuneConfig, {"average": 1.0}, r"average is 1.0; give one in \[0, 1\)"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_needed(kind, wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        kind(**wrong)


@pytest.mark.parametrize("kind", [PredictConfig, AugmentConfig, FinetuneConfig])
def test_settings_are_frozen_and_comparable(kind):
    first = kind()
    assert first == kind()
    name = dataclasses.fields(first)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(first, name, None)


def test_the_paper_preset_is_the_paper():
    config = train_config("paper", steps=7, seed=3)
    assert (config.optimiser, config.tile_px, config.batch) == ("sgd", 572, 1)
    assert (config.w0, config.sigma_px, config.balance) == (10.0, 5.0, 1.0)
    assert (config.augment.elastic_sigma_px, config.augment.grid) == (10.0, 3)
    assert config.precision == "float32"
    assert (config.steps, config.seconds, config.seed) == (7, None, 3)


def test_the_fast_preset_trains_from_nothing():
    config = train_config()
    assert config == train_config("fast")
    assert config.anchor == 0, "there is no parent to stay near"
    assert 0 < config.average < 1


def test_a_fine_tune_holds_something_out_and_a_training_does_not():
    assert 0 < FinetuneConfig().held_out < 0.5
    assert train_config("paper").held_out == train_config("fast").held_out == 0


@pytest.mark.parametrize(
    ("tile_px", "steps"),
    [(None, 40), (572, 40), (236, 40), (200, 60), (172, 80), (148, 100), (132, 120), (60, 120)],
)
def test_small_tiles_need_more_steps(tile_px, steps):
    assert FinetuneConfig(tile_px=tile_px).scaled_steps(40) == steps


def test_images_are_read_and_kept_as_far_around_corrections_whatever_the_tile():
    reaches = [FinetuneConfig(tile_px=side).reach_px for side in (None, 132, 236, 572)]
    assert reaches == [236, 236, 236, 572]


@pytest.mark.parametrize("preset", ["paper", "fast"])
def test_the_budget_is_ten_minutes_where_none_is_given(preset):
    assert (train_config(preset).steps, train_config(preset).seconds) == (None, 600.0)
    assert (train_config(preset, steps=5).steps, train_config(preset, steps=5).seconds) == (5, None)
    both = train_config(preset, steps=5, seconds=9.0)
    assert (both.steps, both.seconds) == (5, 9.0)


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="the preset is 'slow'; give 'paper' or 'fast'"):
        train_config("slow")
