"""Loops over tensors: prediction in tiles, samples to learn from, training steps.

Words: a *sample* is one deformed window of an annotated plane; a *step* is one optimiser step.
Entry: `predict.Predictor`, `samples.Sampler`, `trainer.Trainer`.
Must not know: model files, corrections on disk, jobs, Qt, napari.
"""
