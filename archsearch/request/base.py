"""What every part of a request is made of."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from archsearch.plain import StrictNumbers

# An architecture is plain JSON: the space's parameter names with whole numbers.
Architecture = dict[str, int]
Id = Annotated[str, Field(pattern=r"^[a-z]{2,4}_[0-9a-z]{8,32}$", description="An id this service handed out.")]


class Spec(StrictNumbers):
    """Frozen; a field nobody knows is refused with the nearest known name."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_max_length=4096)

    @model_validator(mode="before")
    @classmethod
    def _suggest_known_fields(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for name in value:
                if name not in cls.model_fields:
                    near = difflib.get_close_matches(str(name)[:100], cls.model_fields, n=1, cutoff=0.5)
                    hint = f"did you mean {near[0]!r}?" if near else f"known fields: {', '.join(cls.model_fields)}"
                    raise ValueError(f"unknown field {name!r}; {hint}")
        return value


class OfJob(Spec):
    """That of the job whose candidate is distilled; what such a request leaves out."""

    kind: Literal["job"] = "job"
