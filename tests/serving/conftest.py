import pytest

from servers import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One server for all tests of this folder; who stops or kills one starts one of his own."""
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.stop()
