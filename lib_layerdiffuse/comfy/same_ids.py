"""Nodes of the same ids that come from elsewhere: which are ours, and who else has them.

Of two packs with one id ComfyUI takes the one that it loads last, in no order that one could know.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

COPIED = "Inference_Core_"
"""Before the ids of the copies of the old nodes that another pack has brought."""

_log = logging.getLogger(__name__)


def copies(nodes: Sequence[type[Any]], taken: Mapping[str, Any]) -> list[type[Any]]:
    """Returns nodes once more, by the ids that the copies of another pack have.

    Workflows with these open and run so. ComfyUI's own replacement of nodes does not do: it fails
    where an optional input is not connected. Where the other pack is loaded, its nodes stay.

    Args:
        nodes: Those with the old ids.
        taken: The ids that are there.
    """
    return [_copy(node) for node in nodes if _copied_id(node) not in taken]


def _copied_id(node: type[Any]) -> str:
    return f"{COPIED}{node.define_schema().node_id}"


def _copy(node: type[Any]) -> type[Any]:
    def define_schema(_: type[Any]) -> Any:
        schema = node.define_schema()
        schema.node_id, schema.is_deprecated = f"{COPIED}{schema.node_id}", True
        return schema

    name = f"{COPIED}{node.__name__}"
    return type(name, (node,), {"define_schema": classmethod(define_schema)})


def share_help(routes: Any, nodes: Sequence[type[Any]], folder: str) -> None:
    """Makes the copies' help be that of the nodes, which ComfyUI's page looks for by id.

    Args:
        routes: The server's table of addresses.
        nodes: Those with the old ids.
        folder: The pack's, by which the page finds its help.
    """
    for node in nodes:
        address = f"/extensions/{folder}/docs/{_copied_id(node)}.md"
        routes.get(address)(_leads_to(f"{node.define_schema().node_id}.md"))


def _leads_to(page: str) -> Callable[[Any], Any]:
    async def handler(_: Any) -> Any:
        from aiohttp import web

        raise web.HTTPFound(page)  # Beside the one that was asked for, wherever a proxy has it.

    return handler


def folders(ids: Sequence[str], taken: Mapping[str, Any], own: str) -> set[str]:
    """Returns the folders of other packs whose nodes have some of these ids.

    Args:
        ids: Ours.
        taken: The nodes that ComfyUI has.
        own: The name of our package.
    """
    found = (taken[one] for one in ids if one in taken)
    others = (node for node in found if not str(node.__module__).startswith(own))
    names = (getattr(node, "RELATIVE_PYTHON_MODULE", node.__module__) for node in others)
    return {str(name).rpartition("custom_nodes.")[2] for name in names}


class Warned:
    """Tells once of another pack that has the same ids, now or when the first prompt comes."""

    def __init__(self, ids: Sequence[str], own_package: str, own_folder: str) -> None:
        self._ids, self._package, self._folder = ids, own_package, own_folder
        self._told = False

    def look(self, taken: Mapping[str, Any]) -> None:
        """Looks who has the ids among ComfyUI's nodes."""
        others = folders(self._ids, taken, self._package)
        if others and not self._told:
            self._told = True
            _log.warning(
                "LayerDiffuse: the folders %s and %s in custom_nodes bring nodes of the same "
                "names, and it is chance which of them run. Remove %s.",
                self._folder,
                " and ".join(sorted(others)),
                " and ".join(sorted(others)),
            )
