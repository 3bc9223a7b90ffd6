"""Where jobs run: the protocol, its requests, and this computer.

Words: a *request* describes one job (image, model, settings); a *backend* does it.
Entry: `base.Backend` (the protocol), `requests` (one class a job), `local.LocalBackend`.
Must not know: which backend was chosen, the network protocol, how a model learns, Qt, napari.
"""
