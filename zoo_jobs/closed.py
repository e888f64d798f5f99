"""What typed values from YAML files have in common: closed models, and numbers with one zero. Pure."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


def _positive_zero(value: float) -> float:
    return value + 0.0  # -0.0 trains as 0.0 does and must not have a digest of its own


Number = Annotated[float, AfterValidator(_positive_zero)]


class Closed(BaseModel):
    """Frozen, strictly typed, and refusing what it does not know."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
