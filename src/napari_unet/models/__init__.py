"""Models in files and in memory.

Words: the *header* says what a model is and how it was made; a *version* is one file of a model;
*decoding* turns scores into cells.
Entry: `store.ModelStore`, `checkpoint.load_model`, `loaded.LoadedModel` (network and header).
`device` chooses where a model runs, `decoding` with which thresholds its scores become cells, and
`steadiness` measures whether it finds the same cells in a changed image.
Must not know: corrections, jobs that segment or learn, Qt, napari.
"""
