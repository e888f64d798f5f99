"""The code that a spec's file names: it is read, run once for its facts if that is allowed, and checked before work."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ..closed import Closed
from ..data.own import facts_of
from ..data.rules import Preprocessing, SplitRule
from ..errors import InputError
from ..models.code_network import Code, CodeNetwork
from ..spec.blocks import DatasetField, validated
from ..spec.own_code import MAX_CODE_BYTES, CodeFile, OwnCode, own_code
from ..spec.zoo import ZooSpec


class _Images(Closed):
    """The fields of a spec that determine the network's input."""

    dataset: DatasetField
    preprocessing: Preprocessing
    split: SplitRule
    batch_size: Annotated[int, Field(gt=0)]


def read_code(value: dict[str, Any], path: Path, allow_code: bool) -> dict[str, Any]:
    """JSON of ``OwnCode`` for the `architecture` of the spec ``value``, which stands in the file ``path``.

    Raises:
        InputError: running the code is not allowed, it cannot be read, or it cannot be trained on the spec's images.
    """
    source = validated(CodeFile, value["architecture"], f"{path}: architecture")
    fields = {name: value[name] for name in _Images.model_fields if name in value}
    images = validated(_Images, fields, str(path))
    where = f"{path}: architecture.file: {source.file}"
    text = _text(path.parent / source.file, where)
    if not allow_code:
        raise InputError(
            f"{where} is code, which is run only with --allow-code; read it first, since it has all your rights. What "
            "reads a store alone takes the zoo's name in place of the file"
        )
    facts = facts_of(images.dataset)
    channels, size = images.preprocessing.shape_of(facts)
    network = _examined(
        Code(text, source.class_name), (channels, size, facts.num_classes), images.split.train, images.batch_size, where
    )
    return own_code(network).to_json()


def check_code(spec: ZooSpec) -> None:
    """Run the code of a spec, if it has any, as training does. Raises InputError: its facts differ on this machine."""
    own = spec.architecture
    if not isinstance(own, OwnCode):
        return
    shape = (own.in_channels, own.image_size, own.num_classes)
    where = f"{spec.name}: {own.name}"
    facts = _examined(own.text, shape, spec.split.train, spec.batch_size, where)
    # torch counts the multiply-adds, and another version may count differently.
    if replace(facts, num_macs=own.num_macs, num_train_macs=own.num_train_macs) != own.network:
        raise InputError(
            f"{where}: its tensors are not those that the spec says; read the spec again whose `architecture` names "
            "the code's file"
        )


def _examined(code: Code, shape: tuple[int, int, int], num_train: int, batch_size: int, where: str) -> CodeNetwork:
    from ..models.code_facts import examine  # imports torch, which reading a spec does not need

    sizes = {min(batch_size, num_train), num_train % batch_size or batch_size}
    return examine(code, *shape, sizes, where=where)


def _text(path: Path, where: str) -> str:
    try:
        data = path.read_bytes()
        if len(data) > MAX_CODE_BYTES:
            raise InputError(f"{where}: {len(data):,} bytes; the code of a network has at most {MAX_CODE_BYTES:,}")
        return data.decode()
    except OSError as error:
        raise InputError(f"{where}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{where}: not UTF-8 text") from None
