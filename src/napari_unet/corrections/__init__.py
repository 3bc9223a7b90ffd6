"""The corrections of the user, in memory and on disk.

Words: a *correction* is the labels of a plane and the pixels that were *seen*, where the user has
looked; a *collection* holds all corrections of one model; a *draft* holds the strokes that were not
used for a fine-tune yet; a *fingerprint* is a hash that identifies a plane.
Entry: `annotations.Annotated`, `collection.Collection`, `drafts.Drafts`, `labelled_folders`.
Must not know: training, segmentation, Qt, napari.
"""
