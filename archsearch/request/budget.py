"""What a student may cost."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from archsearch.plain import Spec

SizePrecision = Literal["fp32", "fp16", "int8"]
TradedCost = Literal["params", "macs", "size_bytes", "peak_activation_bytes", "latency_ms"]


# By name, in the order they are told in.
LIMITS = ("params", "macs", "params_ratio", "macs_ratio", "size_bytes", "peak_activation_bytes", "latency_ms")


def _or_several(schema: dict[str, Any]) -> None:
    """Several limits of one cost are several students of one request, which takes them out of here."""
    one = next(item for item in schema["anyOf"] if item.get("type") != "null")
    schema["anyOf"].append({"type": "array", "items": one, "minItems": 1, "maxItems": 8, "uniqueItems": True})


class Budget(Spec):
    """Hard limits on the student. All that are set must hold; nothing beyond them is ever scored.

    A cost without a limit of its own is at most the teacher's, unless the budget says otherwise. One cost may be given
    several limits in a list: a student is made for each of them.
    """

    params: int | None = Field(
        None, json_schema_extra=_or_several, ge=1, description="Most parameters (count; weights, biases, norm affine)."
    )
    macs: int | None = Field(
        None, json_schema_extra=_or_several, ge=1, description="Most multiply-accumulates for one image."
    )
    params_ratio: float | None = Field(
        None, json_schema_extra=_or_several, gt=0, le=1, description="Most parameters as a share of the teacher's."
    )
    macs_ratio: float | None = Field(
        None,
        json_schema_extra=_or_several,
        gt=0,
        le=1,
        description="Most multiply-accumulates as a share of the teacher's.",
    )

    size_bytes: int | None = Field(
        None, json_schema_extra=_or_several, ge=1, description="Most bytes of stored weights and buffers."
    )
    size_precision: SizePrecision = Field("fp32", description="Precision whose bytes size_bytes limits.")
    peak_activation_bytes: int | None = Field(
        None,
        json_schema_extra=_or_several,
        ge=1,
        description="Most bytes of activations alive at one time in an fp32 forward pass of one batch.",
    )
    latency_ms: float | None = Field(
        None, json_schema_extra=_or_several, gt=0, description="Most milliseconds for one batch on the device."
    )
    device: str = Field(
        "cpu-torch",
        min_length=1,
        max_length=100,
        description="Device whose latency is limited: see GET /v1/devices, or the id of an uploaded profile.",
    )
    batch: int = Field(
        1, ge=1, le=1024, description="Images in the batch whose latency and activations are limited (count)."
    )

    may_exceed_teacher: bool = Field(
        False,
        description="Whether a student may cost more than its teacher, in parameters, multiply-accumulates or "
        "activations, where no limit of its own says how much.",
    )

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set, by name."""
        values = {name: getattr(self, name) for name in LIMITS}
        return {name: limit for name, limit in values.items() if limit is not None}

    @property
    def unlimited(self) -> bool:
        return not self.limits

    def describe(self) -> str:
        """`params ≤ 1000 and macs ≤ 2000`, for messages."""
        units = {
            "size_bytes": f" in {self.size_precision}",
            "peak_activation_bytes": f" at batch {self.batch}",
            "latency_ms": f" on {self.device} at batch {self.batch}",
        }
        parts = (f"{name} ≤ {limit}{units.get(name, '')}" for name, limit in self.limits.items())
        return " and ".join(parts) or "no limit"
