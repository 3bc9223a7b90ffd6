"""The same backend on another computer, over HTTP.

Words: a *person* has a token of a server; a *blob* is data that is sent under its SHA-256; an
*input* is what a job waits for, by a key; a *worker* is a process of the server that does jobs.
Entry: `client.backend.HttpBackend` on the client, `server.start.serve` on the server.
Nothing is pickled: what is exchanged is JSON (`messages`), arrays (`arrays`) and model files.
Must not know: Qt, napari, files of images.
"""
