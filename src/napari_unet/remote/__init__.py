"""The same backend on another computer.

Words: the *worker* is the process of a server that runs jobs, one after the other; a *task* is a
request of a backend as it is sent there.
Entry: `backend.RemoteBackend` on the client, `server.serve` on the server.
Must not know: Qt, napari, files of images.
"""
