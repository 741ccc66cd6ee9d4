"""How nodes describe themselves: what they say is kept as it is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class _Slot:
    """An input or an output."""

    def __init__(self, kind: str, id: str | None = None, **more: Any) -> None:
        self.kind, self.id = kind, id
        self.optional = more.pop("optional", False)
        self.more = more


class _Kind:
    """A type of values that nodes hand on."""

    def __init__(self, name: str) -> None:
        self.name = name

    def Input(self, id: str, **more: Any) -> _Slot:
        return _Slot(self.name, id, **more)

    def Output(self, id: str | None = None, **more: Any) -> _Slot:
        return _Slot(self.name, id, **more)


class _NodeOutput:
    def __init__(self, *args: Any, **more: Any) -> None:
        self.args, self.result, self.more = args, args, more


class _Schema:
    def __init__(
        self,
        *,
        node_id: str,
        display_name: str,
        category: str,
        description: str,
        inputs: list[Any],
        outputs: list[Any],
        search_aliases: tuple[str, ...] = (),
        is_output_node: bool = False,
        is_deprecated: bool = False,
    ) -> None:
        self.node_id, self.display_name, self.category = node_id, display_name, category
        self.description, self.inputs, self.outputs = description, inputs, outputs
        self.search_aliases, self.is_output_node = search_aliases, is_output_node
        self.is_deprecated = is_deprecated


class _Node:
    @classmethod
    def define_schema(cls) -> _Schema:
        raise NotImplementedError


class ComfyExtension:
    async def on_load(self) -> None:
        pass


io = SimpleNamespace(
    ComfyNode=_Node,
    Schema=_Schema,
    NodeOutput=_NodeOutput,
    Custom=_Kind,
    **{
        name: _Kind(name)
        for name in (
            "Boolean",
            "Color",
            "Combo",
            "Conditioning",
            "Float",
            "Image",
            "Int",
            "Latent",
            "Layers",
            "Mask",
            "Model",
            "String",
            "Vae",
        )
    },
)
