"""The base of every config and every recorded result: frozen, closed, documented by field."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Immutable, refuses unknown fields, documents itself from field docstrings."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
