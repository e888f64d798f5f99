"""The public interface to published zoos: ``open_zoo``, ``list_zoos`` and the class ``Zoo``."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import FormatError, NotPublished, StorageError, StorageUsageError, StoreURLError, import_optional
from .formats.images import decode_images
from .formats.manifest import Manifest
from .formats.splits import SPLITS
from .keys import manifest_key, zoo_url
from .publish.head import list_published, read_manifest_bytes, some_names, split_zoo_url
from .read.selection import Selector
from .stores.objects import get_object
from .stores.open import open_store, require_existing
from .views.forms import to_numpy
from .views.networks import Networks

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from .views.standardize import Standardizer

Address = str | os.PathLike[str]


class Zoo(Networks):
    """One version of a published zoo: the reader, and its torch data sets."""

    @property
    def task(self) -> dict[str, Any]:
        """The task of the networks: its name, data set, shape (C, H, W) of an image; the number of classes, or of
        ``image_regression`` the steps of an epoch."""
        named = {"name": "classification", "dataset": self.manifest.dataset}
        if (task := self.manifest.task) is not None:
            return {**named, **task, "image_shape": tuple(task["image_shape"])}
        size = self.architecture["image_size"]
        shape = (self.architecture["in_channels"], size, size)
        return {**named, "num_classes": self.architecture["num_classes"], "image_shape": shape}

    def images(self, split: str = "test", file: Address | None = None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Pixels [N, C, H, W] as the networks saw them, normalised, and labels [N], of the split of the images.

        Args:
            split: train, val or test.
            file: what `zoo data export` wrote; None: the images that were published with the zoo, or with the zoo that
                twins come from.

        Raises:
            StorageUsageError: there is no such file, or it lacks the split; the message says how to make one.
            FormatError: damaged, or images of another shape or number than the networks were evaluated on.
        """
        what = "images" if file is None else path_text(file)
        try:
            data = self._stored_images() if file is None else Path(what).expanduser().read_bytes()
        except OSError as error:
            raise StorageUsageError(f"{what}: cannot be read ({error.strerror})") from None
        pixels, labels = decode_images(data, split, self.task["image_shape"], f"zoo {self.name!r}: {what}")
        column = f"{split}_count"
        counts = set() if self.manifest.task else set(self.labels(columns=[column])[column].to_pylist()) - {None}
        if counts and counts != {len(labels)}:
            raise FormatError(
                f"zoo {self.name!r}: {what} has {len(labels):,} images of {split}, the models were evaluated on "
                + ", ".join(f"{count:,}" for count in sorted(counts))
            )
        return pixels, labels

    def _stored_images(self) -> bytes:
        manifests = [self.manifest]
        if self._images_zoo != self.name:
            with contextlib.suppress(NotPublished):
                number, data = read_manifest_bytes(self.store, self._images_zoo)
                manifests.append(Manifest.from_json(data, f"zoo {self._images_zoo!r}, version {number}"))
        for manifest in manifests:
            if manifest.images is not None:
                return get_object(self.store, manifest.images, f"zoo {manifest.zoo!r}, images")
        facts = self.manifest.data or {}
        known = [
            f"{words} {facts[name]}" for name, words in (("home", "from"), ("digest", "digest")) if facts.get(name)
        ]
        raise StorageUsageError(
            f"zoo {self.name!r}: its images, of {', '.join([self.manifest.dataset, *known])}, are not published with "
            f"it; in a clone of zooforge that has this data set, `zoo data export {self._images_zoo} FILE` "
            "writes them, and images(split, FILE) reads them"
        )

    @property
    def _images_zoo(self) -> str:
        """The zoo whose images these networks saw: of twins their parents'. Families may have images of their own."""
        return self.name if self.manifest.parent is None else self.manifest.parent.zoo

    def evaluate(
        self,
        models: Selector = None,
        epoch: Selector = -1,
        split: str = "test",
        *,
        where: str | None = None,
        masked: bool = True,
        images: tuple[NDArray[np.float32], NDArray[np.int64]] | None = None,
    ) -> pa.Table:
        """Accuracy and loss of states on images, computed again with torch.

        Args:
            models, epoch, where, masked: as for ``weights``, in the same order; -1 is the last kept epoch.
            split: of the images.
            images: pixels [N, C, H, W] and labels [N] to take instead of ``self.images(split)``.

        Returns:
            An Arrow table, a row per state: ``model``, ``epoch``, ``correct``, ``count``, ``acc``, ``loss``. All but
            the first two and ``count`` are null where logits are not finite.

        Raises:
            The errors of ``images`` and ``stacked_modules``.
        """
        import_optional("torch")
        from .views.evaluate import evaluate

        if self.manifest.task is not None:
            raise StorageUsageError(
                f"zoo {self.name!r}: its networks do not classify; the labels have psnr, and reconstruct() gives the "
                "images that they have learned"
            )
        selection = self.select(epoch, models, None, where)
        pixels, labels = self.images(split) if images is None else images
        return evaluate(self, selection, to_numpy(pixels), to_numpy(labels), masked)

    def reconstruct(
        self,
        models: Selector = None,
        epoch: Selector = -1,
        *,
        where: str | None = None,
        masked: bool = True,
        side: int | None = None,
    ) -> NDArray[np.float32]:
        """The images that networks of the task ``image_regression`` have learned, computed with torch.

        Args:
            models, epoch, where, masked: as for ``weights``, in the same order; -1 is the last kept epoch.
            side: rows and columns of the images; None: those of the images that were learned.

        Returns:
            [states, C, side, side]; pixels are about 0 to 1, not clipped.

        Raises:
            StorageUsageError: the zoo has another task. Also the errors of ``stacked_modules``.
        """
        if self.manifest.task is None:
            raise StorageUsageError(f"zoo {self.name!r}: its networks classify; they have learned no image")
        import_optional("torch")
        from .views.reconstruct import pictures

        stack = self.stacked_modules(models, epoch, where=where, masked=masked)
        return pictures(stack, self.task["image_shape"][1] if side is None else side)

    def class_metrics(
        self, models: Selector = None, epochs: Selector = None, split: str = "test", *, where: str | None = None
    ) -> pa.Table:
        """Recall by class, and what follows from it, of states on a split of the images.

        Args:
            models, epochs, where: as for ``weights``, in the same order.
            split: train, val or test, of the images.

        Returns:
            An Arrow table, a row per state: ``model``, ``epoch``; ``recall``, a list with an entry per class, null for
            a class without images; ``predicted_share``, the share of the images that got each answer;
            ``macro_recall``, the mean of the recalls; ``largest_predicted_share``, the largest of the shares. All are
            null where the labels have no counts, e.g. of faulty models.

        Raises:
            StorageUsageError: unknown split, or the labels of this zoo have no counts by class.
        """
        if split not in SPLITS:
            raise StorageUsageError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
        from .views.class_metrics import class_metrics

        return class_metrics(self, self.select(epochs, models, None, where), split)

    def standardizer(
        self, *, epochs: Selector = None, models: Selector = None, where: str | None = None
    ) -> Standardizer:
        """Mean and deviation of each tensor over the train states of a selection, to standardise others by.

        Args:
            epochs, models, where: as for ``weights``. Only states of the train split are fitted, and only finite ones.

        Raises:
            StorageUsageError: the selection has no such state. Also the errors of ``weights``.
        """
        from .views.standardize import fit_standardizer

        return fit_standardizer(self, epochs, models, where)

    def dataset(
        self,
        split: str | None = None,
        epochs: Selector = None,
        *,
        layout: Literal["vector", "state_dict", "tokens", "graph"] = "vector",
        task: Literal["reconstruction", "sequence"] = "reconstruction",
        models: Selector = None,
        where: str | None = None,
        weight_threshold: float | None = None,
        align: Literal["canonical"] | None = None,
        augment: Literal["permute"] | None = None,
        standardize: bool | Standardizer = False,
        columns: Sequence[str] | Literal["all"] | None = None,
        seed: int = 0,
        stream: bool = False,
        shuffle: bool = True,
        buffer_bytes: int | None = None,
    ) -> torch.utils.data.Dataset[Any]:
        """A torch Dataset of (input, target, labels), in memory or as a stream.

        Args:
            layout: what a state is given as; tensors in each case. ``tokens``: values, mask and positions (place in the
                sequence, layer, channel) of a token per channel, as SANE takes them.
            task: ``sequence`` gives a state and the same model's next selected epoch.
            weight_threshold: states with a weight of larger absolute value, or one that is not finite, are left out,
                also where the Standardizer is fitted; a warning says how many. All states are read once more for it.
            align: hidden units in a canonical order.
            augment: hidden units in a random order, drawn by (``seed``, pass, sample); ``set_epoch`` sets the pass.
            standardize: mean 0 and deviation 1 per tensor, fitted as ``standardizer`` does on these models, epochs and
                ``where``; or a Standardizer that was fitted before. The dataset has it as ``.standardizer``.
            columns: label columns of a sample; None: model, epoch, split, test_acc and ggap, or psnr and image; "all":
                all that have no null which torch cannot hold.
            stream: an IterableDataset that reads while it is iterated, for DataLoaders with any number of workers.
            shuffle: of a stream: by (``seed``, pass); the order is stated in ``storage/views/stream.py``.
            buffer_bytes: of a stream: what a worker holds, and mixes, at once; None: 32 MiB.
        """
        import_optional("torch")
        from .views.torch_data import BUFFER_BYTES, Source, StateDataset, StateStream, Transform

        transform = Transform(layout, align, augment, standardize, seed)
        source = Source(self, split, epochs, transform, task, models, where, columns, weight_threshold)
        if stream:
            held = BUFFER_BYTES if buffer_bytes is None else buffer_bytes
            return StateStream(source, shuffle=shuffle, buffer_bytes=held)
        return StateDataset(source)


def open_zoo(
    url: Address,
    version: int | None = None,
    *,
    cache: Address | None = None,
    cache_bytes: int | None = None,
    progress: bool = True,
) -> Zoo:
    """Open a published zoo: see ``zooforge.open_zoo``.

    Raises:
        StoreURLError: not the address of a zoo. NotPublished, FormatError, NewerFormat, and what the store raises.
    """
    address = path_text(url)
    try:
        base, name, number = split_zoo_url(address)
    except StoreURLError as error:
        raise _no_zoo(address, error) from None
    store = open_store(base)
    if number is not None and version is not None and number != version:
        raise StorageUsageError(f"{address}: names version {number}, but version {version} was requested")
    wanted = version if version is not None else number
    if wanted is not None and wanted < 1:
        raise NotPublished(f"zoo {name!r}: versions count from 1; requested: {wanted}")
    number, data = read_manifest_bytes(store, name, wanted)
    manifest = Manifest.from_json(data, manifest_key(name, number))
    if manifest.zoo != name:
        raise FormatError(f"{manifest_key(name, number)}: belongs to zoo {manifest.zoo!r}")
    folder = os.environ.get("ZOOFORGE_CACHE") if cache is None else path_text(cache)
    return Zoo(store, manifest, number, folder, cache_bytes, progress)


def example(twins: bool = False) -> Zoo:
    """The zoo that comes with the package: see ``zooforge.example``."""
    name = "digits-example-vd" if twins else "digits-example"
    return open_zoo(Path(__file__).parent / "example" / "zoos" / name)


def list_zoos(url: Address) -> list[str]:
    """Names of the zoos that a store has published: see ``zooforge.list_zoos``."""
    store = open_store(path_text(url))
    require_existing(store)
    return list_published(store)


def path_text(path: Address) -> str:
    """An address as text. Raises StoreURLError for a URL that was put into a ``pathlib.Path``, which damages it."""
    text = os.fsdecode(path)
    if not isinstance(path, str) and re.match(r"(file|s3|https?|hf|memory):/", text):
        raise StoreURLError(f"{text}: a pathlib.Path cannot hold a URL; pass it as text")
    return text


def _no_zoo(address: str, error: StoreURLError) -> StoreURLError:
    """The error for an address that names no zoo; where a store is there, it says which zoos the store holds."""
    try:
        names = list_zoos(address)
    except StorageError:
        return error
    if not names:
        return error
    example = zoo_url(address, names[0])
    return StoreURLError(f"{address} is a store, not a zoo; it holds {some_names(names)}: open e.g. {example}")
