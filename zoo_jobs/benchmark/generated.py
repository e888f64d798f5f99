"""Grades generated networks: accuracy on images, novelty, diversity.

Shape suffixes: N = networks, D = weights.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zooforge.storage.errors import FormatError
from zooforge.storage.formats.symmetry import align_canonical
from zooforge.storage.formats.tensors import decode
from zooforge.storage.zoo import Zoo as Published

from ..errors import InputError

BATCH_IMAGES, CHUNK_NETWORKS = 256, 16
MOST_BYTES_PER_WEIGHT = 64  # a file may have so many, and a mebibyte

Vectors = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Grader:
    """Grades networks of one activation against training models.

    Attributes:
        train: weights [N, D] of the training models.
        model: one of the zoo, whose activation all networks have.
    """

    zoo: Published
    train: Vectors
    model: int
    pixels: NDArray[np.float32]
    answers: NDArray[np.int64]

    def grade(self, vectors: Vectors) -> dict[str, float]:
        """Scores of networks [N, D]: mean and best accuracy, novelty, diversity.

        Novelty is the median distance to the nearest training model, and diversity the mean distance of two networks;
        both in units of the same figure among the training models. Distances are the smaller of that of the weights as
        they are and that of the weights in the canonical order of units.
        """
        accuracy = self.accuracies(vectors)
        near = np.median(self._distances(vectors, self.train).min(axis=1))
        return {
            "accuracy": float(accuracy.mean()),
            "accuracy_best": float(accuracy.max()),
            "novelty": float(near / self._unit(nearest=True)),
            "diversity": _mean_pair(self._distances(vectors, vectors)) / self._unit(nearest=False),
        }

    def grade_training(self) -> dict[str, float]:
        """The scores of the training models. Each is compared with the others, so novelty and diversity are 1."""
        accuracy = self.accuracies(self.train)
        best, mean = float(accuracy.max()), float(accuracy.mean())
        return {"accuracy": mean, "accuracy_best": best, "novelty": 1.0, "diversity": 1.0}

    def accuracies(self, vectors: Vectors) -> NDArray[np.float64]:
        """Shares [N] of the images that networks [N, D] classify correctly; logits that are not finite are wrong."""
        import torch

        right = np.zeros(len(vectors))
        with torch.no_grad():
            for start in range(0, len(vectors), CHUNK_NETWORKS):
                stack = self.zoo.to_stacked_modules(vectors[start : start + CHUNK_NETWORKS], self.model)
                for first in range(0, len(self.answers), BATCH_IMAGES):
                    batch = slice(first, first + BATCH_IMAGES)
                    logits = stack(torch.from_numpy(self.pixels[batch]))
                    hits = (logits.argmax(dim=2) == torch.from_numpy(self.answers[batch])) & logits.isfinite().all(
                        dim=2
                    )
                    right[start : start + CHUNK_NETWORKS] += hits.sum(dim=1).numpy()
        return right / len(self.answers)

    def aligned(self, vectors: Vectors) -> Vectors:
        """Weights with the units of hidden layers in the canonical order."""
        ordered: Vectors = align_canonical(vectors, self.zoo.layout, self.zoo.symmetries)
        return ordered

    def _distances(self, these: Vectors, those: Vectors) -> NDArray[np.float64]:
        """[N, M]; infinite on the diagonal of vectors with themselves."""
        distances = np.minimum(_distances(these, those), _distances(self.aligned(these), self.aligned(those)))
        if these is those:
            np.fill_diagonal(distances, np.inf)
        return distances

    def _unit(self, *, nearest: bool) -> float:
        distances = self._distances(self.train, self.train)
        unit = float(np.median(distances.min(axis=1))) if nearest else _mean_pair(distances)
        return unit or 1.0


def _distances(these: Vectors, those: Vectors) -> NDArray[np.float64]:
    """Euclidean distances [N, M], computed row by row, so that the distance of equal vectors is exactly zero."""
    return np.stack([np.sqrt(((those - one).astype(np.float64) ** 2).sum(axis=1)) for one in these])


def _mean_pair(distances: NDArray[np.float64]) -> float:
    pairs = distances[np.isfinite(distances)]
    return float(pairs.mean()) if len(pairs) else 0.0


def read_folder(folder: Path, zoo: Published) -> Vectors:
    """The weights [N, D] of all safetensors files in ``folder`` and below it, by path.

    Raises:
        InputError: no such folder or file, or one that holds no network of the zoo.
    """
    if not folder.is_dir():
        raise InputError(f"--samples {folder}: no such folder")
    paths = sorted(folder.rglob("*.safetensors"))
    if not paths:
        raise InputError(f"--samples {folder}: no .safetensors file in it")
    return np.stack([_read(path, zoo) for path in paths])


def _read(path: Path, zoo: Published) -> Any:
    limit = zoo.layout.size * MOST_BYTES_PER_WEIGHT + 2**20
    if path.stat().st_size > limit:
        raise InputError(f"{path}: {path.stat().st_size:,} bytes, a network of {zoo.name} has at most {limit:,}")
    try:
        tensors, _ = decode(path.read_bytes(), str(path))
        vector = zoo.from_state_dict(tensors)
    except FormatError as error:
        raise InputError(f"{path}: {error}") from None
    if not np.isfinite(vector).all():
        raise InputError(f"{path}: a weight is not finite; leave the file out, and say so where you report the figures")
    return vector
