"""Samples in the form that SANE's class of preprocessed data sets reads: a folder per split, a file per sample."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.synthetic import RUN, description, train
from zooforge.storage.errors import EpochNotPresent, StorageUsageError
from zooforge.storage.interchange.sane import export_sane
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.zoo import Zoo, open_zoo
from zooforge.zoo_jobs.cli import main


@pytest.fixture
def zoo(memory: ObjectStore) -> Zoo:
    train(memory, range(20), 2, faulty={4: 2})
    vectorize(memory, description(num_models=20, num_epochs=2), RUN)
    return open_zoo(f"{memory.url}/zoos/tiny-zoo")


def read(folder: Path, split: str) -> list[Any]:
    """Files of a split in the order in which they were written, as (tokens, mask, positions, properties)."""
    files = sorted((folder / f"dataset_torch.{split}").iterdir(), key=lambda path: int(path.stem.split("_")[1]))
    samples = [torch.load(file) for file in files]
    return [(sample["w"], sample["m"], sample["p"], sample["props"]) for sample in samples]


def channels(state: dict[str, Any]) -> list[Any]:
    """Incoming weights and bias of every channel, layer by layer: what a token holds."""
    collected = []
    for name, weight in state.items():
        if name.endswith("weight"):
            bias = state[name.replace("weight", "bias")]
            collected += [np.append(row.reshape(-1), b) for row, b in zip(weight, bias, strict=True)]
    return collected


def test_samples_hold_the_channels_of_each_state_of_its_split(zoo: Zoo, tmp_path: Path) -> None:
    exported = export_sane(zoo, tmp_path / "out", standardize=False)
    assert exported.num_left_out == 1
    labels = {(row["model"], row["epoch"]): row for row in zoo.labels().to_pylist()}
    for split in ("train", "val", "test"):
        samples = read(tmp_path / "out", split)
        states = zoo.weights(split=split)
        kept = np.isfinite(states.values).all(axis=1)
        assert len(samples) == exported.num_samples[split] == kept.sum() > 0
        for sample, row in zip(samples, np.flatnonzero(kept), strict=True):
            tokens, mask, positions, props = sample
            expected = channels(zoo.layout.unflatten(states.values[row]))
            assert tokens.shape == mask.shape == (len(expected), 9)
            for token, there, values in zip(tokens, mask, expected, strict=True):
                assert np.array_equal(token[there].numpy(), values)
                assert not token[~there].any()
            assert positions.tolist() == [[0, 0, 0], [1, 0, 1], [2, 1, 0], [3, 1, 1], [4, 1, 2]]
            label = labels[int(states.models[row]), int(states.epochs[row])]
            assert props[1] == label["epoch"]
            assert props[0] == np.float32(label["test_acc"])
            assert torch.isnan(props[2]) if label["ggap"] is None else props[2] == np.float32(label["ggap"])
    assert (tokens.dtype, mask.dtype, positions.dtype) == (torch.float32, torch.bool, torch.int32)


def test_long_channels_are_cut_into_tokens_and_long_models_into_windows(zoo: Zoo, tmp_path: Path) -> None:
    export_sane(zoo, tmp_path / "whole", standardize=False, token_size=4, epochs=1)
    export_sane(zoo, tmp_path / "cut", standardize=False, token_size=4, window=4, epochs=1, precision="16")
    whole, cut = read(tmp_path / "whole", "val"), read(tmp_path / "cut", "val")
    tokens, mask, positions, _ = whole[0]
    assert tokens.shape == (13, 4)
    assert mask.sum() == zoo.layout.size
    assert positions[:, 1:].tolist() == [[0, 0]] * 2 + [[0, 1]] * 2 + [[1, 0]] * 3 + [[1, 1]] * 3 + [[1, 2]] * 3
    starts = [0, 4, 8, 9]
    assert len(cut) == len(starts) * len(whole)
    for start, (part, _, places, _) in zip(starts, cut[: len(starts)], strict=True):
        assert torch.equal(part, tokens[start : start + 4].half())
        assert places[0, 0] == start


def test_standardising_looks_at_the_train_split_only(zoo: Zoo, tmp_path: Path) -> None:
    export_sane(zoo, tmp_path / "out")
    norms = json.loads((tmp_path / "out" / "dataset_normalization_val.json").read_text())
    values = zoo.weights(split="train").values
    values = values[np.isfinite(values).all(axis=1)].astype(np.float64)
    conv = values[:, :10]
    mean, deviation = conv.mean(axis=1).mean(), np.sqrt((conv.std(axis=1, ddof=1) ** 2).mean())
    assert norms["mode"] == "standardize"
    assert list(norms) == ["module_list.0.weight", "module_list.3.weight", "mode"]
    assert norms["module_list.0.weight"] == pytest.approx({"mean": mean, "std": deviation})
    tokens, mask, _, _ = read(tmp_path / "out", "test")[0]
    first = zoo.weights(split="test").values[0]
    expected = (np.append(first[:4], first[8]) - mean) / deviation
    assert tokens[0][mask[0]].numpy() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"token_size": 4, "window": 4, "precision": "16", "epochs": "0:2"}])
def test_one_file_holds_what_the_files_of_all_samples_hold(zoo: Zoo, tmp_path: Path, options: dict[str, Any]) -> None:
    files = export_sane(zoo, tmp_path / "files", **options)
    one = export_sane(zoo, tmp_path / "one", dataset_pt=True, **options)
    assert one == files
    assert sorted(path.name for path in (tmp_path / "one").iterdir() if path.suffix != ".json") == ["dataset.pt"]
    sets = torch.load(tmp_path / "one" / "dataset.pt", weights_only=True)
    assert list(sets) == ["trainset", "valset", "testset"]
    split_of = {row["model"]: row["split"] for row in zoo.model_table().to_pylist()}
    for split in ("train", "val", "test"):
        samples, properties = sets[f"{split}set"], sets[f"{split}set"]["properties"]
        expected = read(tmp_path / "files", split)
        assert len(samples["w"]) == len(expected)
        for number, (tokens, mask, positions, props) in enumerate(expected):
            window = number % len(samples["m"])
            assert torch.equal(samples["w"][number], tokens)
            assert torch.equal(samples["m"][window], mask) and torch.equal(samples["p"][window], positions)
            names = ("test_acc", "training_iteration", "ggap")
            actual = torch.stack([properties[name][number] for name in names])
            assert torch.equal(actual.nan_to_num(-1), props.nan_to_num(-1))
            assert properties["epoch"][number] == props[1]
            assert split_of[int(properties["model"][number])] == split


def test_a_split_without_states_is_empty_in_the_one_file(zoo: Zoo, tmp_path: Path) -> None:
    models = zoo.weights(split="train").models
    export_sane(zoo, tmp_path / "one", dataset_pt=True, models=sorted(set(models.tolist())))
    sets = torch.load(tmp_path / "one" / "dataset.pt", weights_only=True)
    assert sets["testset"]["w"].shape == (0, 5, 9) and sets["testset"]["properties"]["model"].shape == (0,)


def test_equal_zoos_give_equal_bytes(zoo: Zoo, tmp_path: Path) -> None:
    export_sane(zoo, tmp_path / "a")
    export_sane(zoo, tmp_path / "b")
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 20 * 3 - 1 + 6
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)


def test_the_command_writes_or_refuses_and_leaves_nothing_behind(
    zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"{zoo.store.url}/zoos/tiny-zoo"
    assert main(["store", "export-sane", address, str(tmp_path / "out"), "--epochs", "1:3", "--tokensize", "4"]) == 0
    captured = capsys.readouterr()
    assert "13 tokens of 4 values" in captured.out
    assert captured.err == "1 states are not finite and were left out\n"
    with pytest.raises(StorageUsageError, match="sizes from 0 on"):
        export_sane(zoo, tmp_path / "bad", window=-1)
    with pytest.raises(EpochNotPresent):
        export_sane(zoo, tmp_path / "bad", epochs=1, where="test_acc > 2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
