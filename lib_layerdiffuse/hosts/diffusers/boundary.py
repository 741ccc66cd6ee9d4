"""What the libraries raise, as errors of ours: whatever it is, it becomes one line."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from ...errors import LayerDiffuseError, in_one_line

_LONGEST = 200


@contextmanager
def translated(
    kind: type[LayerDiffuseError],
    message: str,
    hint: str,
    *,
    but: Collection[BaseException] = (),
) -> Iterator[None]:
    """Raises every exception of the block as one of ours; ours pass as they are.

    Args:
        kind: What is raised.
        message: What did not work, without a full stop; what the library says follows it.
        hint: What the user can do.
        but: What passes as it is, too: a callback of the caller's may have raised it.
    """
    try:
        yield
    except LayerDiffuseError:
        raise
    except Exception as error:
        if any(error is one for one in but):
            raise
        raise kind(f"{message}: {said_by(error)}.", hint) from error


def said_by(error: BaseException) -> str:
    """Returns what an exception says, in one short line without a full stop."""
    text = in_one_line(error)
    first = text.split(". ")[0].rstrip(".:")
    return first if len(first) <= _LONGEST else f"{first[:_LONGEST]}…"
