"""The client: the backend that sends its requests to a server.

Entry: `backend.HttpBackend`. It trusts the server with the work and with nothing else: each answer
is bounded in size and checked, and nothing in it is executed or names a file.
"""
