"""What long work reports to. A report that returns False stops what is stopped between two."""

from __future__ import annotations

from collections.abc import Callable

OnProgress = Callable[[str, int, int], bool]
"""Called with a stage's name, what is done of it and what there is to do."""

OnShare = Callable[[int, int], bool]
"""The same for one share of a stage, such as a set's steps or an image's views.

Who works on a share knows neither the stage's name nor the other shares.
"""

OnDownload = Callable[[str, int, "int | None"], None]
"""Called with a file's name, the bytes that are there and its size, None where that is not known.

It stops nothing: an exception that it raises ends the download.
"""
