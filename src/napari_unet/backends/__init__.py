"""Where jobs run: the protocol, and this computer.

Entry: `local.Backend` (the protocol), `local.LocalBackend`.
Must not know: which backend was chosen, the network protocol, Qt, napari.
"""
