"""A table of weights, which ``datasets.load_dataset`` and data frames read without zooforge."""

from ..errors import StorageUsageError
from ..quantities import human_bytes
from ..zoo import Zoo

MAX_BYTES = 1 << 30
_GROUP_BYTES = 1 << 26


def weights_table(zoo: Zoo) -> bytes:
    """Parquet bytes with one row per model at its last kept epoch: its labels and ``weights``, a list of D float32.

    Equal zoos give equal bytes for one version of pyarrow. Twins have their masked weights.

    Raises:
        StorageUsageError: the weights take more than ``MAX_BYTES``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    manifest = zoo.manifest
    model_bytes = 4 * manifest.layout.size
    if manifest.num_models * model_bytes > MAX_BYTES:
        raise StorageUsageError(
            f"--weights-table: {manifest.num_models:,} models of {manifest.layout.size:,} values are "
            f"{human_bytes(manifest.num_models * model_bytes)}, the table holds {human_bytes(MAX_BYTES)}; publish a "
            "part by --models, or leave the option out"
        )
    states = zoo.weights(epochs="last")
    weights = pa.FixedSizeListArray.from_arrays(pa.array(states.values.ravel()), manifest.layout.size)
    sink = pa.BufferOutputStream()
    pq.write_table(
        states.labels().append_column("weights", weights),
        sink,
        compression="zstd",
        use_dictionary=False,
        row_group_size=max(1, _GROUP_BYTES // model_bytes),
    )
    return bytes(sink.getvalue())
