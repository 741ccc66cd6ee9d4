"""What a job keeps on the host's processing object, and gives back at its end."""

from __future__ import annotations

from typing import Any

JOB, CHANGE_MAP = "layerdiffuse_job", "layerdiffuse_differential"
"""The attributes that states are kept in."""
_OF_A_MASK = ("mask", "nmask", "mask_for_overlay", "overlay_images", "paste_to")


class State:
    """Changes to a processing object for one job.

    Attributes:
        asked: What stood there before, by attribute.
    """

    asked: dict[str, Any]

    def change(self, p: Any, name: str, value: Any) -> None:
        """Sets an attribute of the processing object until the job ends."""
        before = getattr(p, name)
        setattr(p, name, value)
        self.asked.setdefault(name, before)  # Only what could be set can be given back.


def put(p: Any, attribute: str, state: object) -> None:
    """Puts a state on a processing object; a copy of the object, such as a plot's, has none."""
    setattr(p, attribute, (id(p), state))


def find(p: Any, attribute: str) -> Any:
    """Returns the state on this very processing object, or None."""
    owner, state = getattr(p, attribute, (None, None))
    return state if owner == id(p) else None


def take(p: Any, attribute: str) -> None:
    """Takes a state off and gives back what was there; loops run the same object again."""
    state = find(p, attribute)
    if state is not None:
        for name, value in state.asked.items():
            setattr(p, name, value)
    setattr(p, attribute, (None, None))


def take_all(p: Any) -> None:
    """Takes off every state of a job that fails, the last put on first."""
    for attribute in (JOB, CHANGE_MAP):
        take(p, attribute)


def forget_mask_afterwards(p: Any, state: State) -> None:
    """Takes off at the job's end what the host makes of a mask that is not the user's own."""
    for name in _OF_A_MASK:
        state.change(p, name, getattr(p, name))
