"""Training and fine-tuning: from corrections to a new version of a model.

Words: a *lesson* is what a fine-tune trains on and is checked on; *held-out* cells are for the
check and are not trained on; the *verdict* says whether the new version is accepted.
Entry: `finetune.improve` (from corrections to a version), `training` (the loop), `lesson.Run`,
`validation.judge`, `stacks` (models of stacks), `live_view` (what the model finds meanwhile).
Must not know: which computer asked for it, Qt, napari.
"""
