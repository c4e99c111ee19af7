"""What every part of a request is made of."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from archsearch.device import PATTERN, check_name
from archsearch.plain import Spec

# An architecture is plain JSON: the space's parameter names with whole numbers.
Architecture = dict[str, int]
# What a student begins with: noise, weights cut out of its teacher's, or those of a network that was trained before.
Start = Literal["scratch", "teacher", "pretrained"]
Init = Literal["auto", "scratch", "teacher", "pretrained"]
# Where something is computed; `archsearch.device` says what it means on a machine.
Device = Annotated[str, AfterValidator(check_name), Field(json_schema_extra={"pattern": PATTERN})]
Id = Annotated[str, Field(pattern=r"^[a-z]{2,4}_[0-9a-z]{8,32}$", description="An id this service handed out.")]


class OfJob(Spec):
    """That of the job whose candidate is distilled; what such a request leaves out."""

    kind: Literal["job"] = "job"
