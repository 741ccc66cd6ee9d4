"""Every cell of the tables in docs/flows.md, run: it works, or is refused, as the page says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import host_lists
import panel_flows
import picture_flows
import pytest
import text_flows
from client import ApiError, Client, Result
from extras_flows import RUNS_FOR_ANY
from flow_bench import CHECKPOINTS, SMALL, Bench
from flows_page import LACKING, REFUSED, Cell, cells, outcome_in, outcomes_for_any
from forge_server import ForgeServer
from webuis import FORGE, Webui

from lib_layerdiffuse.methods import LayerMethod

RUNS = text_flows.RUNS | picture_flows.RUNS | panel_flows.RUNS
Benches = Callable[[LayerMethod], Bench]


@pytest.fixture(scope="module", autouse=True)
def _one_view(forge: ForgeServer) -> Iterator[None]:
    """Makes the decoder take one view, as the check of what it makes does."""
    Client(forge.url).set_options(layerdiffuse_decoder_views=1)
    yield
    Client(forge.url).set_options(layerdiffuse_decoder_views=8)


@pytest.fixture(scope="module")
def benches(
    forge: ForgeServer,
    webui: Webui,
    plain: Callable[..., Result],
    tmp_path_factory: pytest.TempPathFactory,
) -> Benches:
    """Returns each method's bench, its checkpoint loaded."""

    @cache
    def bench(method: LayerMethod) -> Bench:
        checkpoint = CHECKPOINTS[method.arch]
        without = plain(checkpoint, **SMALL)
        Client(forge.url).use_checkpoint(checkpoint)
        weights = without.run["passes"][0]["weights"]
        folder = tmp_path_factory.mktemp(method.id)
        return Bench(Client(forge.url), method, folder, weights, webui)

    return bench


@pytest.mark.parametrize("cell", cells(), ids=str)
def test_the_cell_is_true(webui: Webui, benches: Benches, cell: Cell) -> None:
    outcome = outcome_in(webui.name, cell)
    if outcome == LACKING:
        pytest.skip(f"{webui.name} does not have it")
    bench, run = benches(cell.method), RUNS[cell.flow]
    if outcome != REFUSED:
        run(bench)
        return
    with pytest.raises(ApiError) as caught:
        run(bench)
    assert caught.value.status == 422, caught.value
    detail = caught.value.body["detail"]
    assert detail["error"].endswith("Error")
    assert detail["message"].endswith(".")
    assert detail["hint"]
    assert list(bench.last.iterdir()) == [], "something was generated"


@pytest.mark.parametrize("flow", outcomes_for_any())
def test_what_knows_no_method(forge: ForgeServer, webui: Webui, flow: str) -> None:
    outcome = outcomes_for_any(webui.name)[flow]
    if outcome == LACKING:
        pytest.skip(f"{webui.name} does not have it")
    if outcome != REFUSED:
        RUNS_FOR_ANY[flow](forge)
        return
    with pytest.raises(ApiError, match="transparency"):
        RUNS_FOR_ANY[flow](forge)


def test_the_hosts_own_lists_are_those_that_the_page_is_compared_with(
    forge: ForgeServer, webui: Webui
) -> None:
    if webui is not FORGE:
        pytest.skip("the rows are those of Forge's own lists")
    client = Client(forge.url)
    steps = client.call("GET", "/e2e/steps")
    assert host_lists.from_host(client.script_info(), steps) == host_lists.recorded()
