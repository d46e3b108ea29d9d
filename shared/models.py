"""What the models of requests, answers and events have in common.

Pydantic builds a model's validator when the class is made; here it does so at first use, because a function that had scaled to
zero is waited for, and a request needs one model of many.
"""

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, ValidatorFunctionWrapHandler, WrapValidator


class Shape(BaseModel):
    """An answer, an event's data, or the parameters of an address: what is not known here is ignored."""

    model_config = ConfigDict(defer_build=True)


class Body(Shape):
    """What a client asks for: a field that is not known here is an error."""

    model_config = ConfigDict(extra="forbid")


def otherwise(message: str) -> WrapValidator:
    """Return what says one sentence of a value that is none of several kinds, instead of what is wrong for each of them."""

    def check(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValidationError as error:
            raise ValueError(message) from error

    return WrapValidator(check)


def in_utc(moment: datetime) -> datetime:
    """Return a moment in UTC; one without a zone is one of UTC. Raises ValueError for one that no calendar there has."""
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError as error:
        raise ValueError("must be of the years 1 to 9999") from error


class ProblemDocument(Shape):
    """A problem document (RFC 9457) with the platform's code; other members depend on it."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
