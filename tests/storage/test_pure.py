"""Bytes, keys, columns and symmetries: the parts of storage that touch no store."""

import io
import json
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.networks import CNN_S, logits
from tests.support.synthetic import LAYOUT, RUN, part_data, weights
from zooforge.storage import keys
from zooforge.storage.budget import Budget
from zooforge.storage.canonical import canonical_json, parse_json
from zooforge.storage.errors import BudgetExceeded, FormatError, KeyFormatError
from zooforge.storage.formats import tables
from zooforge.storage.formats.index_dict import index_dict
from zooforge.storage.formats.labels import ALL_COLUMNS, PART_COLUMNS, Values, part_columns, part_values
from zooforge.storage.formats.shards import from_ranges, to_ranges
from zooforge.storage.formats.symmetry import (
    align_canonical,
    augment_permute,
    chain_symmetries,
    permute,
    random_permutations,
)
from zooforge.storage.formats.tables import decode_table, encode_table, table_values, values_digest
from zooforge.storage.formats.tensors import decode, encode, pack_mask, parse_header, unpack_mask
from zooforge.storage.views.graph import to_graph
from zooforge.storage.views.tokens import detokenize, tokenize

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class TestCanonicalJson:
    @given(value=JSON)
    @settings(deadline=None)
    def test_reads_back_and_is_its_own_canonical_form(self, value: Any) -> None:
        data = canonical_json(value)
        assert parse_json(data, "test") == value
        assert canonical_json(parse_json(data, "test")) == data

    def test_has_one_form(self) -> None:
        assert canonical_json({"b": 1, "a": [1e-5, 1.0, "é\n"]}) == '{"a":[1e-05,1.0,"é\\n"],"b":1}'.encode()

    @pytest.mark.parametrize("data", [b'{"a":1,"a":2}', b"NaN", b"[1,", b"\xff", b"", b'{"a":Infinity}'])
    def test_refuses_invalid_json_and_repeated_keys(self, data: bytes) -> None:
        with pytest.raises(FormatError, match=r"^what: ") as raised:
            parse_json(data, "what")
        assert "\n" not in str(raised.value)

    def test_refuses_nan_and_numpy(self) -> None:
        with pytest.raises(ValueError):
            canonical_json(float("nan"))
        with pytest.raises(TypeError):
            canonical_json(np.float32(1))


class TestTensors:
    def test_the_public_library_reads_the_same_values(self) -> None:
        from safetensors.numpy import load, save

        arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "m": np.array([1, 0], np.uint8)}
        data = bytes(encode({**arrays, "c": np.array([7], np.int64)}, {"x": 1}))
        loaded = load(data)
        assert sorted(loaded) == ["a", "c", "m"] and loaded["c"].tolist() == [7]
        decoded, provenance = decode(save(arrays), "test")
        np.testing.assert_array_equal(decoded["a"], arrays["a"])
        assert provenance is None

    @given(shapes=st.lists(st.lists(st.integers(0, 4), max_size=3), max_size=5), seed=st.integers(0, 99))
    @settings(deadline=None)
    def test_read_back_as_they_were(self, shapes: list[list[int]], seed: int) -> None:
        generator = np.random.default_rng(seed)
        kinds: list[Any] = [np.float32, np.int64, np.uint8, np.float64, np.bool_]
        arrays = {
            f"t{i}": generator.integers(0, 2, shape).astype(kinds[generator.integers(5)])
            for i, shape in enumerate(shapes)
        }
        data = encode(arrays, {"seed": seed})
        assert data == encode(arrays, {"seed": seed})
        actual, provenance = decode(data)
        assert provenance == {"seed": seed} and set(actual) == set(arrays)
        for name, array in arrays.items():
            assert actual[name].dtype == array.dtype
            np.testing.assert_array_equal(actual[name], array)

    def test_their_bytes_are_fixed(self) -> None:
        data = bytes(encode({"epoch_000": np.array([[1.5, -2.0]], np.float32)}, {"b": 1, "a": 2}))
        header = (
            b'{"__metadata__":{"provenance":"{\\"a\\":2,\\"b\\":1}"},'
            b'"epoch_000":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}'
        )
        header += b" " * (-len(header) % 8)
        assert data == struct.pack("<Q", len(header)) + header + struct.pack("<2f", 1.5, -2.0)

    @given(position=st.integers(0, 200), bit=st.integers(0, 7), cut=st.integers(0, 200))
    @settings(deadline=None, max_examples=200)
    def test_damage_gives_values_or_a_format_error(self, position: int, bit: int, cut: int) -> None:
        data = bytearray(encode({"a": np.arange(6, dtype=np.float32), "b": np.arange(3)}, [1]))
        data[position % len(data)] ^= 1 << bit
        for damaged in (bytes(data), bytes(data[:cut])):
            try:
                decode(damaged, "x")
            except FormatError as error:
                assert "\n" not in str(error)

    @pytest.mark.parametrize(
        "header",
        [
            {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
            {"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}},
            {"a": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}},
            {"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, -8]}},
            {
                "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                "b": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
            },
            {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "__metadata__": {"format": "pt"}},
            {"a": [1]},
            [],
        ],
    )  # fmt: skip
    def test_refuses_headers_that_do_not_fit(self, header: Any) -> None:
        text = json.dumps(header).encode()
        with pytest.raises(FormatError):
            parse_header(struct.pack("<Q", len(text)) + text + bytes(8), 16 + len(text), "x")

    @given(size=st.integers(1, 40), seed=st.integers(0, 99))
    @settings(deadline=None)
    def test_masks_are_bits(self, size: int, seed: int) -> None:
        mask = np.random.default_rng(seed).integers(0, 2, (3, size)).astype(np.bool_)
        np.testing.assert_array_equal(unpack_mask(pack_mask(mask), size), mask)
        assert pack_mask(np.array([[True, False, False]])).tolist() == [[1]]


class TestKeys:
    @given(unit=st.integers(0, 10**7 - 1), part=st.integers(0, 10**5 - 1), refill=st.booleans(),
           members=st.sets(st.integers(0, 10**6), min_size=1, max_size=5))  # fmt: skip
    @settings(deadline=None)
    def test_a_record_key_reads_back(self, unit: int, part: int, refill: bool, members: set[int]) -> None:
        key = keys.record_key(RUN, unit, sorted(members), part, refill)
        assert keys.parse_record_key(str(key)) == key

    def test_keys_are_as_the_design_says(self) -> None:
        key = keys.record_key(RUN, 12, [12, 14], 3)
        assert str(key) == f"runs/{RUN}/parts/0000012-{keys.members8([12, 14])}/00003.json"
        assert keys.manifest_key("a-b", 7) == "zoos/a-b/versions/0007/manifest.json"
        assert keys.object_key("ab" * 32, "parquet") == f"objects/sha256/ab/{'ab' * 32}.parquet"
        assert keys.parse_manifest_key("zoos/a-b/versions/0007/manifest.json") == ("a-b", 7)

    @pytest.mark.parametrize("zoo", ["", "A", "a/b", "..", "a--b", "-a", "a_b", "é"])
    def test_refuses_invalid_names(self, zoo: str) -> None:
        with pytest.raises(KeyFormatError):
            keys.head_key(zoo)

    @pytest.mark.parametrize("key", ["runs/x/parts/0000000-00000000/00000.json", "objects/sha256/ab/cd.parquet", "a"])
    def test_other_keys_are_not_records_or_objects(self, key: str) -> None:
        assert keys.parse_record_key(key) is None and keys.parse_object_key(key) is None


class TestLabels:
    def test_null_is_accepted_in_every_form(self) -> None:
        values = part_values(
            {
                "model": [0, 1, 2],
                "epoch": [0, 0, 0],
                "test_loss": [0.5, float("nan"), float("inf")],
                "test_correct": np.ma.MaskedArray([5, 6, -1], [False, True, False]),
                "faulty_reason": [None, "nan", "inf"],
            },
            3,
        )
        assert values["test_loss"].valid is not None and values["test_loss"].valid.tolist() == [True, False, False]
        assert values["test_correct"].valid is not None and values["test_correct"].valid.tolist() == [
            True,
            False,
            False,
        ]
        assert values["faulty_reason"].data.tolist() == ["", "nan", "inf"]
        assert values["val_loss"].valid is not None and not values["val_loss"].valid.any()

    @pytest.mark.parametrize(
        "labels",
        [{"model": [0], "epoch": [-1], "accuracy": [1]}, {"model": [0]}, {"model": [0, 1], "epoch": [0]},
         {"model": [0.5], "epoch": [0]}, {"model": np.ma.masked_all(1, int), "epoch": [0]}],
    )  # fmt: skip
    def test_refuses_invalid_columns(self, labels: dict[str, Any]) -> None:
        with pytest.raises(FormatError, match="labels: "):
            part_values(labels, 1)

    def test_a_table_reads_back_and_its_digest_is_of_values(self) -> None:
        values = part_values(part_data([3, 4], 2).labels, 2)
        columns = part_columns(values)
        data = encode_table(columns, values)
        assert data == encode_table(columns, values)
        again = table_values(decode_table(data, "x", columns), columns)
        assert values_digest(columns, again) == values_digest(columns, values)
        changed = dict(values, test_loss=Values(values["test_loss"].data + 1e-9, values["test_loss"].valid))
        assert values_digest(columns, changed) != values_digest(columns, values)
        with pytest.raises(FormatError, match="x: columns are"):
            decode_table(data, "x", part_columns(["kl"]))
        with pytest.raises(FormatError, match="x: not readable as Parquet"):
            decode_table(data[:50], "x")

    def test_a_long_text_in_every_row_is_refused_before_it_is_decoded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sink = io.BytesIO()
        pq.write_table(pa.table({"reason": ["x" * 10_000] * 2_000}), sink, compression="zstd")
        assert len(sink.getvalue()) < 3_000
        assert decode_table(sink.getvalue(), "x").num_rows == 2_000
        monkeypatch.setattr(tables, "TABLE", Budget(max_bytes=10**7))
        with pytest.raises(BudgetExceeded, match=r"x: 20,0.* bytes, the limit is 10,000,000"):
            decode_table(sink.getvalue(), "x")

    def test_pages_that_declare_too_many_bytes_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sink = io.BytesIO()
        pq.write_table(pa.table({"n": np.zeros(10**6)}), sink, compression="zstd", use_dictionary=False)
        monkeypatch.setattr(tables, "TABLE", Budget(max_bytes=10**6))
        with pytest.raises(BudgetExceeded, match=r"^x: [0-9,]+ bytes, the limit is 1,000,000$"):
            decode_table(sink.getvalue(), "x")

    def test_a_text_that_is_not_utf_8_is_refused(self) -> None:
        offsets = pa.array([0, 2], pa.int32()).buffers()[1]
        bad = pa.StringArray.from_buffers(1, offsets, pa.py_buffer(b"\xff\xfe"))
        sink = io.BytesIO()
        pq.write_table(pa.table({"reason": bad}), sink)
        with pytest.raises(FormatError, match=r"x: not readable as Parquet .*UTF8"):
            decode_table(sink.getvalue(), "x")

    def test_every_column_is_declared_once_with_a_meaning(self) -> None:
        assert len({c.name for c in PART_COLUMNS}) == len(PART_COLUMNS)
        assert all(column.meaning for column in ALL_COLUMNS.values())


class TestWeightSpace:
    def test_permuted_and_aligned_models_have_equal_logits(self) -> None:
        values = np.stack([weights(m, 1) for m in range(6)])
        groups = chain_symmetries(LAYOUT)
        permuted = augment_permute(values, LAYOUT, groups, seed=3)
        assert (permuted != values).any()
        np.testing.assert_allclose(logits(permuted), logits(values), atol=1e-5)
        np.testing.assert_allclose(logits(align_canonical(values, LAYOUT, groups)), logits(values), atol=1e-5)

    @given(seed=st.integers(0, 1000))
    @settings(deadline=None, max_examples=30)
    def test_all_permutations_of_a_model_align_to_one(self, seed: int) -> None:
        values = np.random.default_rng(seed).standard_normal((2, CNN_S.size)).astype(np.float32)
        groups = chain_symmetries(CNN_S)
        aligned = align_canonical(values, CNN_S, groups)
        shuffled = augment_permute(values, CNN_S, groups, seed)
        np.testing.assert_allclose(np.sort(shuffled), np.sort(values))
        np.testing.assert_array_equal(align_canonical(aligned, CNN_S, groups), aligned)
        np.testing.assert_allclose(align_canonical(shuffled, CNN_S, groups), aligned, rtol=0, atol=0)

    def test_a_permutation_and_its_inverse_cancel(self) -> None:
        values = np.random.default_rng(1).standard_normal((3, CNN_S.size)).astype(np.float32)
        groups = chain_symmetries(CNN_S)
        there = random_permutations(groups, 3, 5)
        back = [np.argsort(order, axis=1) for order in there]
        np.testing.assert_array_equal(permute(permute(values, CNN_S, groups, there), CNN_S, groups, back), values)

    @pytest.mark.parametrize("size", [None, 7, 1000])
    def test_tokens_give_the_vector_back(self, size: int | None) -> None:
        values = np.random.default_rng(1).standard_normal((3, CNN_S.size)).astype(np.float32)
        tokens = tokenize(values, CNN_S, size)
        np.testing.assert_array_equal(detokenize(tokens.values, CNN_S), values)
        assert tokens.mask.sum() == 3 * CNN_S.size
        assert (tokens.values[~tokens.mask] == 0).all()
        assert tokens.positions[:, 0].tolist() == list(range(tokens.values.shape[1]))
        if size is None:
            assert tokens.values.shape[1:] == (48, 201)
        if size == 7:  # a channel of the first layer is 25 weights and a bias: four pieces at one position
            assert tokens.positions[:9, 1:].tolist() == [[0, 0]] * 4 + [[0, 1]] * 4 + [[0, 2]]

    def test_a_graph_has_all_weights_on_its_edges(self) -> None:
        vector = weights(0, 0)
        graph = to_graph(vector, LAYOUT)
        assert graph["layer"].tolist() == [0, 1, 1, 2, 2, 2]
        assert graph["kernel"].sum() == LAYOUT.size - 5
        assert graph["edge_index"].max() == 5 and (graph["edge_index"][0] < graph["edge_index"][1]).all()
        np.testing.assert_array_equal(graph["bias"][1:3], vector[8:10])

    def test_the_index_dict_is_the_references(self) -> None:
        names = {e.name: f"module_list.{i}.{e.name.rpartition('.')[2]}" for e, i in
                 zip(CNN_S.entries, [0, 0, 3, 3, 6, 6, 9, 9, 11, 11], strict=True)}  # fmt: skip
        assert index_dict(CNN_S, names) == {
            "layer": [[0, "conv2d"], [3, "conv2d"], [6, "conv2d"], [9, "fc"], [11, "fc"]],
            "idx_start": [0, 208, 1414, 1514, 2254],
            "idx_length": [208, 1206, 100, 740, 210],
            "kernel_no": [8, 6, 4, 20, 10],
            "kernel_size": [25, 25, 4, 9, 1],
            "channels_in": [1, 8, 6, 4, 20],
        }


@given(values=st.sets(st.integers(0, 60)))
@settings(deadline=None)
def test_ranges_read_back(values: set[int]) -> None:
    assert from_ranges(to_ranges(sorted(values))) == sorted(values)
