"""What the user is told below the images, once the host has put its own comments together."""

from __future__ import annotations

from typing import Any


def tell(processed: Any, text: str) -> None:
    """Tells the user something below the images of a result.

    Args:
        processed: The host's result.
        text: A sentence without a capital, as it follows the extension's name.
    """
    processed.comments = f"{getattr(processed, 'comments', '')}LayerDiffuse: {text}\n"
