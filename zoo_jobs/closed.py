"""Building blocks of typed values that come from YAML files: closed models, numbers with one zero, names. Pure."""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic_core import CoreSchema, core_schema


def _positive_zero(value: float) -> float:
    return value + 0.0  # -0.0 trains as 0.0 does and must not have a digest of its own


Number = Annotated[float, AfterValidator(_positive_zero)]


class OneOf:
    """Marks text that must be a name of a registry: ``Annotated[str, OneOf(REGISTRY)]``.

    Validation, messages and JSON Schema are those of ``Literal`` with these names, which cannot be computed.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.literal_schema(list(self.names))


class Closed(BaseModel):
    """Frozen, strictly typed, and refusing what it does not know."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
