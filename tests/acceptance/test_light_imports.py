"""Commands that need neither Ray nor torch do not import them, so they start fast and run without them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import Command

HEAVY = ("ray", "torch", "boto3", "botocore")
HOOK = """
import sys
{body}
print(*sorted({heavy} & set(sys.modules)), file=sys.stderr)
"""


def imported(zoo: Command, body: str) -> set[str]:
    """Heavy modules that a fresh interpreter has imported after ``body``."""
    code = HOOK.format(body=body, heavy=set(HEAVY))
    result = subprocess.run(
        [sys.executable, "-c", code], env=zoo.environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert result.returncode == 0, result.stderr
    return set(result.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", ["list", "show mnist5k-cnn-s", "plan mnist5k-cnn-s", "--help", "run --help"])
def test_verbs_of_the_catalogue_import_none_of_them(zoo: Command, arguments: str) -> None:
    body = f"from zooforge.zoo_jobs.cli import main; assert main({arguments.split()!r}) == 0"
    assert imported(zoo, body) == set()


@pytest.mark.ray
@pytest.mark.parametrize("arguments", ["status small", "vectorize small", "logs small", "store ls"])
def test_verbs_that_only_read_a_store_import_none_of_them(zoo: Command, quiet: Path, arguments: str) -> None:
    body = f"from zooforge.zoo_jobs.cli import main; assert main({[*arguments.split(), '--store', str(quiet)]!r}) == 0"
    assert imported(zoo, body) == set()


@pytest.mark.ray
def test_opening_a_zoo_in_a_directory_imports_none_of_them(zoo: Command, quiet: Path) -> None:
    body = (
        f"import zooforge; zoo = zooforge.open_zoo({f'{quiet}/zoos/small'!r}); "
        "assert zoo.weights(epochs=6, split='train').values.size and zoo.labels().num_rows"
    )
    assert imported(zoo, body) == set()
