"""A run's results as a Parquet table, for DuckDB, pandas and the like. Needs the extra `batch`.

It is made of the rows that `results.jsonl` holds, and has a column for each name there.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from ..errors import MissingCapabilityError
from ..imaging.coverage import Coverage
from .places import Place

TABLE = "results.parquet"


def check_parquet() -> None:
    """Checks that tables can be written here.

    Raises:
        MissingCapabilityError: The library is not installed.
    """
    _library()


def write_table(place: Place, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes what is told of rows as a table.

    Args:
        place: Where it is put.
        rows: As in `results.jsonl`, in its order.

    Raises:
        OutputError: It cannot be written.
    """
    import pyarrow.parquet

    # A row's request may be typed, or all text where it comes from CSV; a column has one type.
    told = [{**row, "request": json.dumps(row["request"], ensure_ascii=False)} for row in rows]
    table = _library().Table.from_pylist(told, schema=_schema())
    with io.BytesIO() as stream:
        pyarrow.parquet.write_table(table, stream)
        place.put(TABLE, stream.getvalue())


def _schema() -> Any:
    """Returns the columns: always all of them, so that the tables of several runs fit together."""
    arrow = _library()
    text, whole, real = arrow.string(), arrow.int64(), arrow.float64()

    def struct(**members: Any) -> Any:
        return arrow.struct(list(members.items()))

    alpha = struct(**{one.name: real for one in fields(Coverage)}, verdict=text)
    of_image = {"layer": text, "seed": whole, "size": arrow.list_(whole), "method": text}
    of_image |= {"infotext": text, "extra": text, "note": text, "alpha": alpha}
    of_document = {"kind": text, "layers": arrow.list_(text)}
    file = struct(file=text, sha256=text, set=whole, **of_image, **of_document)
    columns = struct(
        id=text,
        line=whole,
        request=text,
        tries=whole,
        seeds=arrow.list_(whole),
        files=arrow.list_(file),
        redraws=whole,
        times=struct(sampling=real, decoding=real),
        error=struct(error=text, message=text, hint=text, field=text),
        written=text,
    )
    return arrow.schema(columns)


def _library() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise MissingCapabilityError(
            "pyarrow is not installed, which --parquet needs.", 'Run pip install ".[batch]".'
        ) from error
    return pyarrow
