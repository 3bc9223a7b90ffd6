"""What the user taught, on disk.

Words: a *correction* is a plane's labels and where the user has looked; a *collection* holds all
corrections of one model; a *draft* holds strokes that no fine-tune has seen yet.
Entry: `annotations.Annotated`, `collection.Collection`, `drafts.Drafts`, `labelled_folders`.
Must not know: training, segmentation, Qt, napari.
"""
