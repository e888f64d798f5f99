"""Check that variational twins begin at their parents' test accuracy, as the reference does before it sparsifies."""

from zooforge.storage.errors import NotPublished
from zooforge.storage.keys import zoo_url
from zooforge.storage.zoo import Zoo as PublishedZoo
from zooforge.storage.zoo import open_zoo

from ..spec.twins import TwinSpec, Zoo

RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 1e-2, 1e-8  # of the reference's own check


def starts_apart(store_url: str, zoo: Zoo) -> str | None:
    """One sentence that names twins whose accuracy at epoch 0 is not that of their parents, from the published labels.

    None if there are none, for a zoo that is no variational twin, and where the parents' version is not published.
    """
    if not isinstance(zoo, TwinSpec) or zoo.sparsify.method != "variational-dropout":
        return None
    try:
        parents = open_zoo(zoo_url(store_url, zoo.parent.name))
        if parents.manifest.run != zoo.parent.run_id:
            return None
        before = _accuracies(parents, zoo.source_epoch)
    except NotPublished:
        return None
    after = _accuracies(open_zoo(zoo_url(store_url, zoo.name)), 0)
    apart = [
        model
        for model, accuracy in after.items()
        if model in before
        and abs(accuracy - before[model]) > ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * abs(before[model])
    ]
    if not apart:
        return None
    worst = max(apart, key=lambda model: abs(after[model] - before[model]))
    return (
        f"{zoo.name}: {len(apart)} of {len(after)} twins do not begin at their parent's test accuracy; the furthest is "
        f"model {worst}, {after[worst]:.4f} at epoch 0, its parent {before[worst]:.4f} at epoch {zoo.source_epoch}"
    )


def _accuracies(zoo: PublishedZoo, epoch: int) -> dict[int, float]:
    """Test accuracy by model; models without one (faulty, or not that far) are left out."""
    if epoch > zoo.manifest.num_epochs:
        return {}
    table = zoo.labels(columns=["model", "test_correct", "test_count"], epochs=epoch).to_pydict()
    return {
        model: correct / count
        for model, correct, count in zip(table["model"], table["test_correct"], table["test_count"], strict=True)
        if correct is not None and count
    }
