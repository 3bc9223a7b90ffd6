"""The same backend on another computer.

Words: the *server* serves, its *worker* holds the queue of jobs, a *task* is a job as it is sent.
Entry: `backend.RemoteBackend` on the client, `server.serve` on the server.
Must not know: Qt, napari, files of images.
"""
