"""A model in a file and in memory.

Words: the *header* says what a model is and how it was made; a *version* is one file of a model.
Entry: `store.ModelStore`, `checkpoint.load_model`, `loaded.LoadedModel` (network and header).
`device` chooses where it runs, `decoding` how its scores become cells, `steadiness` whether it
finds the same cells again.
Must not know: corrections, jobs that segment or learn, Qt, napari.
"""
