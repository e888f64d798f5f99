"""Label columns to and from Parquet with deterministic bytes, and as NumPy arrays. pyarrow is imported on first use."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..budget import TABLE, Meter
from ..errors import FormatError
from .labels import Column, Values, part_columns
from .parquet_pages import count_pages

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ROW_GROUP_ROWS = 1 << 20
MAX_ROWS = 1 << 28


def encode_table(columns: Sequence[Column], values: Mapping[str, Values]) -> bytes:
    """Parquet bytes of the columns in their order. Equal values give equal bytes for one pyarrow version.

    Version 2.6, data pages v1, zstd level 3, dictionaries for strings only, no Arrow schema, one row group per 2**20
    rows: fixed in docs/format.md.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = [pa.field(c.name, _arrow_type(c), nullable=c.nullable) for c in columns]
    arrays = [_arrow_array(c, values[c.name]) for c in columns]
    table = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=ROW_GROUP_ROWS,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=3,
        use_dictionary=[c.name for c in columns if c.type == "string"],
        write_statistics=True,
        store_schema=False,
        write_page_index=False,
    )
    return bytes(sink.getvalue())


def decode_table(
    data: bytes, what: str, columns: Sequence[Column] | None = None, num_rows: int | None = None
) -> "pa.Table":
    """The Arrow table of Parquet bytes. With ``columns``, its names and types must be exactly these.

    Args:
        num_rows: the number of rows that it must have, compared before any value is read: a few bytes of Parquet can
            name many rows.

    Raises:
        FormatError: not Parquet, or other columns or rows; the message begins with ``what``.
        BudgetExceeded: its values take more than ``TABLE`` allows; they are not decoded then.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        if file.metadata.num_rows > MAX_ROWS:
            raise FormatError(f"{what}: {file.metadata.num_rows} rows, the limit is {MAX_ROWS}")
        if num_rows is not None and file.metadata.num_rows != num_rows:
            raise FormatError(f"{what}: {file.metadata.num_rows} rows, the manifest says {num_rows}")
        _check_types(file.schema_arrow, what)
        meter = Meter(TABLE, what)
        count_pages(data, meter)
        table = _decoded(file, data, meter)
        table.validate(full=True)  # refuse text that is not UTF-8 here, not at a later conversion
    except (pa.ArrowException, OSError, ValueError) as error:
        line = str(error).partition("\n")[0][:120]
        raise FormatError(f"{what}: not readable as Parquet ({line}); the object is truncated or damaged") from None
    if columns is not None:
        _check_columns(table, columns, what)
    return table


def _check_types(schema: "pa.Schema", what: str) -> None:
    """Raises FormatError for a type that no label has: ``_decoded`` could not bound what its values take."""
    import pyarrow as pa

    for field in schema:
        inner = field.type.value_type if pa.types.is_list(field.type) else field.type
        if not (pa.types.is_primitive(inner) or pa.types.is_string(field.type)):
            raise FormatError(
                f"{what}: column {field.name[:100]!r} has the type {str(field.type)[:60]!r}, which no label has"
            )


def decode_part(data: bytes, what: str) -> dict[str, Values]:
    """The label columns of a part from its Parquet bytes. Raises FormatError as ``decode_table`` does."""
    table = decode_table(data, what)
    columns = part_columns(table.column_names)
    _check_columns(table, columns, what)
    return table_values(table, columns)


def _check_columns(table: "pa.Table", columns: Sequence[Column], what: str) -> None:
    """Raises FormatError unless the table has exactly these columns, and equally long lists in each."""
    expected = [(c.name, _arrow_type(c)) for c in columns]
    actual = [(field.name, field.type) for field in table.schema]
    if actual != expected:
        raise FormatError(f"{what}: columns are {[n for n, _ in actual]}, expected {[n for n, _ in expected]}")
    for column in columns:
        if column.type == "int32[]":
            _list_length(table.column(column.name), f"{what}: column {column.name!r}")


def _list_length(chunked: "pa.ChunkedArray", what: str) -> int:
    """Number of entries of every list of a column; 0 if all are null. Raises FormatError if they differ."""
    import pyarrow.compute as pc

    lengths = pc.unique(pc.list_value_length(chunked)).drop_null().to_pylist()
    if len(lengths) > 1 or any(pc.list_flatten(chunk).null_count for chunk in chunked.chunks):
        raise FormatError(f"{what}: its lists are not equally long, or have nulls")
    return int(lengths[0]) if lengths else 0


def _decoded(file: "pq.ParquetFile", data: bytes, meter: Meter) -> "pa.Table":
    """The table of an open Parquet file. A few bytes may declare large pages, or repeat one long text in every row."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    # By position, which is also that of the values: of two columns with one name, pyarrow finds only the last.
    texts = [position for position, field in enumerate(file.schema_arrow) if pa.types.is_string(field.type)]
    table = pq.ParquetFile(pa.BufferReader(data), read_dictionary=texts).read(use_threads=False)
    for position, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            for chunk in table.column(position).chunks:
                lengths = pc.binary_length(chunk.dictionary).take(chunk.indices)
                meter.add(num_bytes=pc.sum(lengths.cast(pa.int64())).as_py() or 0)
            table = table.set_column(position, field.name, table.column(position).cast(pa.string()))
    return table


def table_values(table: "pa.Table", columns: Sequence[Column]) -> dict[str, Values]:
    """The columns of an Arrow table as NumPy arrays. Raises FormatError for a null in a column that has none."""
    return {c.name: _numpy_values(c, table.column(c.name)) for c in columns}


def numpy_column(column: "pa.ChunkedArray") -> NDArray[Any]:
    """A label column [rows] as NumPy: a null float is NaN, null integers and booleans are masked, a null text is None.

    Integers and booleans are a ``numpy.ma.MaskedArray`` where one of them is null, else a plain array. Text is an
    array of Python's ``str``. Lists are [rows, entries], masked where a list is null.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_list(column.type):
        listed = _lists(column, "labels")
        if listed.valid is None:
            return listed.data
        return np.ma.MaskedArray(listed.data, mask=np.repeat(~listed.valid[:, None], listed.data.shape[1], axis=1))

    if pa.types.is_string(column.type):
        return np.array([*column.to_pylist(), None], object)[:-1]
    if pa.types.is_floating(column.type) or not column.null_count:
        return np.asarray(column.to_numpy())
    values = np.asarray(pc.fill_null(column, False if pa.types.is_boolean(column.type) else 0).to_numpy())
    return np.ma.MaskedArray(values, mask=np.asarray(pc.is_null(column).to_numpy()))


def values_digest(columns: Sequence[Column], values: Mapping[str, Values]) -> str:
    """SHA-256 over the values of a table, which does not depend on how a writer encodes them in Parquet.

    Per column: name, type, one byte per row (0 for null), then the values, little-endian; strings as length and UTF-8;
    lists as their length, 0 where all are null, then all entries row by row, those of a null list zero.
    """
    digest = hashlib.sha256()
    for column in columns:
        one = values[column.name]
        digest.update(f"{column.name}:{column.type}:{len(one.data)}\n".encode())
        valid = np.ones(len(one.data), np.bool_) if one.valid is None else one.valid
        digest.update(valid.astype(np.uint8).tobytes())
        if column.type == "string":
            for text in one.data.tolist():
                data = text.encode()
                digest.update(len(data).to_bytes(4, "little") + data)
        else:
            data = one.data
            if column.type == "int32[]":
                data = data if valid.any() else data[:, :0]
                digest.update(data.shape[1].to_bytes(4, "little"))
            little = data.astype(data.dtype.newbyteorder("<"))
            digest.update(np.ascontiguousarray(little).tobytes())
    return digest.hexdigest()


def model_digests(columns: Sequence[Column], values: Mapping[str, Values], num_models: int) -> list[str]:
    """First 16 hex digits of SHA-256 over each model's rows, which are neighbours; to compare models of two tables."""
    pieces = []
    for column in columns:
        one = values[column.name]
        valid = np.ones(len(one.data), np.bool_) if one.valid is None else one.valid
        data = one.data
        if column.type == "string":
            data = np.array([text.encode() for text in data.tolist()], "S64")
        little = np.ascontiguousarray(data, data.dtype.newbyteorder("<"))
        pieces += [valid.astype(np.uint8).reshape(num_models, -1), little.view(np.uint8).reshape(num_models, -1)]
    rows = np.ascontiguousarray(np.concatenate(pieces, axis=1))
    return [hashlib.sha256(row.data).hexdigest()[:16] for row in rows]


def _arrow_type(column: Column) -> Any:
    import pyarrow as pa

    if column.type == "int32[]":
        return pa.list_(pa.field("element", pa.int32(), nullable=False))
    types = {"int32": pa.int32, "int64": pa.int64, "float64": pa.float64, "bool": pa.bool_, "string": pa.string}
    return types[column.type]()


def _arrow_array(column: Column, values: Values) -> Any:
    import pyarrow as pa

    mask = None if values.valid is None else ~values.valid
    if column.type == "int32[]":
        lengths = np.full(len(values.data), values.data.shape[1], np.int32)
        lengths[mask if mask is not None else []] = 0
        offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
        entries = pa.array((values.data if mask is None else values.data[~mask]).reshape(-1), pa.int32())
        nulls = None if mask is None else pa.array(mask)
        return pa.ListArray.from_arrays(offsets, entries, type=_arrow_type(column), mask=nulls)
    return pa.array(values.data, type=_arrow_type(column), mask=mask, from_pandas=False)


def _lists(chunked: "pa.ChunkedArray", what: str) -> Values:
    """The lists of a column as [rows, entries], zero where a list is null."""
    import pyarrow.compute as pc

    valid = np.asarray(pc.is_valid(chunked).to_numpy(), np.bool_)
    data = np.zeros((len(valid), _list_length(chunked, what)), np.int32)
    entries = [np.asarray(chunk.flatten().to_numpy()) for chunk in chunked.chunks]
    if data.size:
        data[valid] = np.concatenate(entries).reshape(-1, data.shape[1])
    return Values(data, None if valid.all() else valid)


def _numpy_values(column: Column, chunked: Any) -> Values:
    import pyarrow.compute as pc

    if column.type == "int32[]":
        return _lists(chunked, f"labels: column {column.name!r}")
    valid = None
    if chunked.null_count:
        if not column.nullable:
            raise FormatError(f"labels: column {column.name!r} may not be null")
        valid = np.asarray(pc.is_valid(chunked).to_numpy(zero_copy_only=False), np.bool_)
        fill: Any = "" if column.type == "string" else False if column.type == "bool" else 0
        chunked = pc.fill_null(chunked, fill)
    return Values(np.asarray(chunked.to_numpy()), valid)
