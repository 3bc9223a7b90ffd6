"""Training and fine-tuning: from corrections to a new version of a model.

Words: a *lesson* is the training set of a fine-tune; *held-out* cells check and do not teach; the
*verdict* says whether the new version may be used.
Entry: `finetune.improve` (corrections to version), `train.train` (dense labels to version),
`training` (the loop), `run.Run`, `validation.decide`, `stacks` (models of stacks), `live_view`
(what the model sees meanwhile).
Must not know: which computer asked for it, Qt, napari.
"""
