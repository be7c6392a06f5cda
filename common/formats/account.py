"""`account.parquet`: what the logit lens says of every candidate, taken apart.

Lists hold a value a candidate of candidates.parquet by rank, in logits before a soft cap:

    raw = tracks + untracked + sae_bias + sae_error + constant                     what the state holds
        = carried + Σ attention_<source> + attention_bias + mlp + constant         how it came about since the layer before

`carried` is what stood in the stream at the layer before (at the first layer: what enters the first block), read with this
layer's scale of the final norm; attention and MLP are what the blocks in between wrote, NaN where one of them cannot be
taken apart. Numbers of the lists are cut to 16
bits of mantissa (a relative error of 8e-6), which halves the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ghosttrack.common.foreign import whole
from ghosttrack.common.formats.file import LAYER, POSITION, QUESTION, Column, Table, Where

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy.typing import NDArray

    Columns = Mapping[str, NDArray[Any]]

SOURCES = ("examples", "subject", "question", "answer", "itself")
"""Where attention looked: the worked examples (all before the question), the subject, other words of the question, the
answer so far, the position itself."""
STATE = ("tracks", "untracked", "sae_bias", "sae_error")
STEP = ("carried", *(f"attention_{source}" for source in SOURCES), "attention_bias", "mlp")
LISTS = ("logit", "raw", "constant", *STATE, *STEP)
ROWS_AT_ONCE = 60_000
_MEANING = {
    "logit": "of the lens, after a soft cap",
    "raw": "before it",
    "constant": "of the final norm's bias and the unembedding's",
}


class _Account(Table):
    """A table with lists of one length."""

    def write(self, path: Path, columns: Any) -> None:
        """Write the table. columns: those that are no lists [n], and LISTS [n, m]."""
        import pyarrow as pa

        arrays = {}
        for name in self.names:
            values = columns[name]
            if name in LISTS:
                flat = pa.array(_cut(values).ravel())
                arrays[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
            else:
                arrays[name] = pa.array(values)
        table = pa.table(arrays)
        with _writer(path, table.schema) as writer:
            writer.write_table(table)

    def read(
        self, path: Path, columns: Sequence[str] | None = None, *, where: Where | None = None
    ) -> dict[str, NDArray[Any]]:
        """Lists as [n, m]; of all rows or of some. Raises CorruptInputError."""
        table = self.table(path, columns, where=where)
        return _arrays(table, table.column_names)

    def pieces(self, path: Path) -> Iterator[dict[str, NDArray[Any]]]:
        """All columns, `ROWS_AT_ONCE` at a time; lists as [n, m]. Raises CorruptInputError."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with whole(path, f"run {self.stage} again", self.name):
            for batch in pq.ParquetFile(path).iter_batches(ROWS_AT_ONCE, columns=self.names):
                yield _arrays(pa.Table.from_batches([batch]), self.names)

    def join(self, path: Path, pieces: Sequence[Path]) -> None:
        import pyarrow.parquet as pq

        with _writer(path, pq.read_schema(pieces[0])) as writer:
            for piece in pieces:
                writer.write_table(pq.read_table(piece))


ACCOUNT = _Account(
    "account.parquet",
    "track/account",
    "a row a (question, position, layer), in that order: the logits of the lens for every candidate, taken apart",
    (
        QUESTION,
        POSITION,
        LAYER,
        Column("leader", "int16", "rank of the candidate with the largest logit"),
        Column("rest", "float32", "largest error of either sum, relative to the size of its parts"),
        *(Column(name, "fixed_size_list<float32>", _MEANING.get(name, "")) for name in LISTS),
    ),
)


def difference(
    columns: Columns, first: int | NDArray[Any], second: int | NDArray[Any]
) -> dict[str, NDArray[np.float64]]:
    """The lens' logit of one candidate less that of another, [n], with its parts: `total`, `constant`, STATE and STEP.

    first, second: ranks, of all rows or [n] of each. The parts are multiplied by the soft cap's secant (difference after it over difference before it),
    so that they add up to the difference of logits itself.
    """
    wide = {name: columns[name].astype(np.float64) for name in LISTS}
    every = np.arange(len(wide["logit"]))
    apart = {name: values[every, first] - values[every, second] for name, values in wide.items()}
    total, raw = apart.pop("logit"), apart.pop("raw")
    secant = np.divide(total, raw, out=np.ones_like(raw), where=np.abs(raw) > 1e-9)
    return {"total": total, **{name: secant * values for name, values in apart.items()}}


def _arrays(table: pa.Table, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    import pyarrow as pa

    found = {}
    for name in names:
        column = table[name].combine_chunks()
        if pa.types.is_fixed_size_list(column.type):
            found[name] = column.flatten().to_numpy().reshape(len(column), column.type.list_size)
        else:
            found[name] = column.to_numpy()
    return found


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    import pyarrow.parquet as pq

    split = [f"{name}.list.element" for name in schema.names if name in LISTS]
    plain = [name for name in schema.names if name not in LISTS]
    return pq.ParquetWriter(
        path, schema, compression="zstd", use_dictionary=plain, use_byte_stream_split=split
    )


def _cut(values: NDArray[np.float32]) -> NDArray[np.float32]:
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + np.uint32(0x40)) & np.uint32(0xFFFFFF80)).view(np.float32)
