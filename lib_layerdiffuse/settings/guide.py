"""What helps to choose a method: which come first, what speaks against one, what it makes."""

from __future__ import annotations

from collections.abc import Sequence

from ..methods import METHODS, Arch, Layer, LayerMethod


def family_first(arch: Arch | None) -> tuple[LayerMethod, ...]:
    """Returns the methods, those of a family before the others; None leaves the table's order."""
    return tuple(sorted(METHODS, key=lambda m: arch is not None and m.arch is not arch))


def sibling(method: LayerMethod) -> LayerMethod | None:
    """Returns the method that does in the other family what `method` does in its own, or None.

    It starts from the same images and ends in the same layer; what one family makes in one step
    may take two in the other.
    """
    for other in METHODS:
        same = (other.inputs, other.outputs[-1]) == (method.inputs, method.outputs[-1])
        if same and other.arch is not method.arch:
            return other
    return None


def mismatch(method: LayerMethod, loaded: Arch | None) -> tuple[str, ...]:
    """Returns what speaks against a method with the loaded checkpoint, in whole sentences.

    They are few and fixed, so that they can be translated.

    Args:
        method: The chosen one.
        loaded: The checkpoint's family; None if unknown, and then nothing is said.
    """
    if loaded is None or loaded is method.arch:
        return ()
    needs = f"This method needs {method.arch.value}; the loaded checkpoint is {loaded.value}."
    alone = f"{loaded.value} has no such method."
    return (needs,) if sibling(method) else (needs, alone)


def outcome(layers: Sequence[Layer], sets: int, extras: int = 0) -> tuple[str, ...]:
    """Returns what a job makes, such as "2 sets × 3 layers = 6 images", as words to translate.

    Numbers are words of their own, and so are the names of a set's layers at the end.

    Args:
        layers: One set.
        sets: Batch size times batch count.
        extras: Images given beside each set.
    """
    made = len(layers)
    words = [
        *_count(sets, "set"),
        "×",
        *_count(made, "layer"),
        "=",
        *_count(sets * made, "image"),
    ]
    if extras:
        words += ["+", *_count(sets * extras, "extra")]
    for mark, layer in zip(":" + "," * made, layers, strict=False):
        words += [mark, layer.label, *(["(RGBA)"] if layer is Layer.FG else [])]
    return tuple(words)


def _count(number: int, noun: str) -> tuple[str, str]:
    return str(number), noun if number == 1 else f"{noun}s"
