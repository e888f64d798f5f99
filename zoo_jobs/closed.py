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

    def digest_fields(self, always: Iterable[str], if_set: Iterable[str]) -> dict[str, Any]:
        """JSON of the fields that enter a digest.

        Args:
            always: fields of the first release.
            if_set: fields that came later: they enter only with a value other than their default, so that the digests
                of all specs that do not use them stay what they were.
        """
        names = {*always, *(n for n in if_set if getattr(self, n) != type(self).model_fields[n].get_default())}
        dumped: dict[str, Any] = self.model_dump(mode="json", include=names)
        return dumped
