"""Loops over tensors: prediction, samples, training, checkpoints; no GUI, no policy."""
