"""Code that loads a zoo from the place where it is. Pure."""

from zooforge.storage.formats.manifest import Manifest
from zooforge.storage.keys import zoo_url
from zooforge.storage.publish.papers import Credits, bibtex

from ..report.blocks import Block, Code, Section


def snippets(manifest: Manifest, address: str) -> dict[str, str]:
    """Heading to code.

    Args:
        address: of the store, as readers reach it.
    """
    zoo = zoo_url(address, manifest.zoo)
    metric, name = ("test_acc", "accuracy") if manifest.task is None else ("psnr", "psnr")
    labels = f"{address.rstrip('/')}/{manifest.labels.ref.key}"
    return {
        "Python": (
            "import zooforge\n\n"
            f'zoo = zooforge.open_zoo("{zoo}")\n'
            'states = zoo.weights(epochs="last", split="train")  # states.values is [states, weights]\n'
            f'{name} = states.labels()["{metric}"].to_numpy()\n'
        ),
        "PyTorch": (
            "import zooforge\n\n"
            f'dataset = zooforge.open_zoo("{zoo}").dataset("train", layout="tokens")\n'
            "tokens, target, labels = dataset[0]\n"
        ),
        "DuckDB": (
            "import duckdb\n\n"
            f"query = \"select model, epoch, {metric} from '{labels}' order by {metric} desc limit 5\"\n"
            "best = duckdb.sql(query).fetchall()\n"
        ),
        "Shell": f"zoo store pull {zoo} DIR  # a copy; --epochs, --models, --split and --where take a part\n",
    }


def section(manifest: Manifest, address: str, version: int, credits: Credits) -> Section:
    """Code that loads the zoo, and its citation."""
    blocks: list[Block] = [Code(heading, text) for heading, text in snippets(manifest, address).items()]
    return Section("load", "Load it", [*blocks, Code("Cite it", bibtex(manifest, credits, version))])
