"""Job files: JSON lines or CSV, and templates that are filled once for each image of a folder."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from ..errors import LayerDiffuseError, SettingsError
from .addresses import files_in, read_bytes


@dataclass(frozen=True)
class JobLine:
    """One line of a job file, not yet checked.

    Attributes:
        number: The line's, from 1.
        values: What it says, by name.
        strict: Whether the values are of JSON's types; in CSV all are text.
    """

    number: int
    values: Mapping[str, Any]
    strict: bool


@dataclass(frozen=True)
class BadLine:
    """A line that cannot be run.

    Attributes:
        number: The line's, from 1.
        error: Why; its field names the value at fault.
    """

    number: int
    error: LayerDiffuseError

    def __str__(self) -> str:
        field = f", {self.error.field}" if self.error.field else ""
        return f"line {self.number}{field}: {self.error}"

    def as_dict(self) -> dict[str, Any]:
        """Returns it for JSON."""
        return {"line": self.number, "error": self.error.as_dict()}


def read_job_file(address: str) -> Iterator[JobLine | BadLine]:
    """Yields each line that says something.

    Args:
        address: A file whose name ends in .csv, or one of JSON lines.

    Raises:
        SettingsError: The file cannot be read as text.
    """
    try:
        text = read_bytes(address).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{address} is no UTF-8 text.", "Save it as UTF-8.") from error
    yield from _csv_lines(text) if address.lower().endswith(".csv") else _json_lines(text)


def _json_lines(text: str) -> Iterator[JobLine | BadLine]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            said = str(error)
            if isinstance(error, json.JSONDecodeError):  # It counts lines of its own.
                said = f"{error.msg} (column {error.colno})"
            hint = "Write one JSON object in each line."
            yield BadLine(number, SettingsError(f"This is no JSON: {said}.", hint))
            continue
        if isinstance(values, dict):
            yield JobLine(number, values, strict=True)
        else:
            hint = 'Write an object such as {"method": "fg_attn_sdxl", "prompt": "an apple"}.'
            yield BadLine(number, SettingsError("This is no JSON object.", hint))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _csv_lines(text: str) -> Iterator[JobLine | BadLine]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    while True:
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            hint = "Check the quotation marks; nothing after this line was read."
            yield BadLine(reader.line_num, SettingsError(f"This is no CSV: {error}.", hint))
            return
        if None in values:
            hint = "Put texts with commas into quotation marks."
            what = "The line has more cells than the first one."
            yield BadLine(reader.line_num, SettingsError(what, hint))
            continue
        given = {name.strip(): cell for name, cell in values.items() if cell}
        yield JobLine(reader.line_num, given, strict=False)


def for_each(
    lines: Iterable[JobLine | BadLine], setting: str, folder: str
) -> Iterator[JobLine | BadLine]:
    """Yields each line once for each file of a folder, with that as one of its images.

    Args:
        lines: Templates.
        setting: Which image.
        folder: Its path or address.

    Raises:
        SettingsError: There is no such folder, or nothing in it.
    """
    files = files_in(folder)
    if not files:
        raise SettingsError(f"There is no file in {folder}.", "Name a folder of images.")
    for line in lines:
        if isinstance(line, BadLine):
            yield line
            continue
        for file in files:
            yield JobLine(line.number, {**line.values, setting: file}, line.strict)
