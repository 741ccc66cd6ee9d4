"""Fixtures of the end-to-end tests over HTTP; `real_forge` says what they need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from client import Client, Result
from forge_server import ForgeServer
from real_forge import make_forge, mark, missing_forge, models, webui

__all__ = ["make_forge", "models", "webui"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks this folder's tests, and skips them where there is no WebUI."""
    mark(items, Path(__file__).parent, "e2e", missing_forge())


@pytest.fixture(scope="session")
def forge(
    make_forge: Callable[..., ForgeServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ForgeServer]:
    """A running server with this extension, shared by all tests of the session."""
    # The host's panel of extra options is empty without.
    options = {"extra_options_txt2img": ["sigma_max"]}
    with make_forge(tmp_path_factory.mktemp("forge"), options=options) as server:
        print(f"log of the server: {server.log_path}")
        yield server


@pytest.fixture(scope="session")
def plain(forge: ForgeServer, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Result]:
    """Returns plain results of the shared server, each made once, as first thing where it can."""
    made: dict[str, Result] = {}

    def run(checkpoint: str, **options: int) -> Result:
        key = f"{checkpoint} {sorted(options.items())}"
        if key not in made:
            client = Client(forge.url)
            client.use_checkpoint(checkpoint)
            made[key] = client.txt2img(record=tmp_path_factory.mktemp("plain") / "run", **options)
        return made[key]

    return run


@pytest.fixture
def views(client: Client) -> Iterator[Callable[[int], None]]:
    """Returns how to choose the number of the decoder's views; afterwards it is the default."""
    yield lambda number: client.set_options(layerdiffuse_decoder_views=number)
    client.set_options(layerdiffuse_decoder_views=8)


@pytest.fixture
def one_view(views: Callable[[int], None]) -> None:
    """Makes the decoder take one view, so that its result is soon computed in a test, too."""
    views(1)


@pytest.fixture
def client(forge: ForgeServer) -> Client:
    """A client of the shared server."""
    return Client(forge.url)
