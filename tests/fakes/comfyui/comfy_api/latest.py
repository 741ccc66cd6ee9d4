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
    def __init__(self, *, node_id: str, inputs: list[Any], outputs: list[Any], **more: Any) -> None:
        self.node_id, self.inputs, self.outputs = node_id, inputs, outputs
        for name, value in more.items():
            setattr(self, name, value)
        self.more = more


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
