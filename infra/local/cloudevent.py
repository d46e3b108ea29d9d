"""CloudEvents 1.0 over HTTP as the local broker passes them on: either mode in, binary mode out."""

from __future__ import annotations

import json
import uuid
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, unquote

from cloudevents.exceptions import GenericException
from cloudevents.http import from_http

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "ce-"
_BATCH = "application/cloudevents-batch"
_STRUCTURED = "application/cloudevents"
# HTTP binding 3.1.3.2: outside of printable ASCII, and space, quote and percent, are percent-encoded in a
# header.
_HEADER_SAFE = "!#$&'()*+,/:;=?@[\\]^`{|}<>"


class InvalidEventError(ValueError):
    """The request holds no CloudEvent that can be passed on."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event: its context attributes as text, the type of its data, and the data as bytes."""

    attributes: Mapping[str, str]
    content_type: str | None
    data: bytes

    @property
    def id(self) -> str:
        """The attribute `id`."""
        return self.attributes["id"]

    @property
    def type(self) -> str:
        """The attribute `type`."""
        return self.attributes["type"]

    def headers(self) -> dict[str, str]:
        """Return the HTTP headers of binary mode."""
        headers = {
            _PREFIX + name: quote(value, safe=_HEADER_SAFE)
            for name, value in self.attributes.items()
            if name != "datacontenttype"
        }
        if self.content_type is not None:
            headers["content-type"] = self.content_type
        return headers

    def structured(self) -> bytes:
        """Return the event in structured mode, as one JSON object; raises ValueError for data that are not of their type."""
        members: dict[str, object] = {**self.attributes, "specversion": self.attributes.get("specversion", "1.0")}
        if self.content_type is not None:
            members["datacontenttype"] = self.content_type
        if self.data and "json" in (self.content_type or "json"):
            members["data"] = json.loads(self.data)
        elif self.data:
            members["data_base64"] = b64encode(self.data).decode()
        return json.dumps(members).encode()

    def matches(self, wanted: Mapping[str, str]) -> bool:
        """Whether each named attribute is there and equal; an empty value asks for presence only."""
        return all(name in self.attributes and value in ("", self.attributes[name]) for name, value in wanted.items())

    def extended(self, extensions: Mapping[str, str]) -> Event:
        """Return the event with more extension attributes."""
        return Event({**self.attributes, **extensions}, self.content_type, self.data)

    @classmethod
    def ping(cls, *, source: str, content_type: str, data: str) -> Self:
        """Return the event that a PingSource sends now."""
        return cls(
            attributes={
                "specversion": "1.0",
                "id": str(uuid.uuid4()),
                "type": "dev.knative.sources.ping",
                "source": source,
                "time": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            },
            content_type=content_type,
            data=data.encode(),
        )


def parse(headers: Mapping[str, str], body: bytes) -> Event:
    """Read the event of a request in binary or structured mode; raises InvalidEventError."""
    lowered = {name.lower(): value for name, value in headers.items()}
    content_type = lowered.get("content-type", "")
    if content_type.startswith(_BATCH):
        raise InvalidEventError("batches of CloudEvents are not accepted")
    try:
        # Data is passed on as it came; only structured mode needs it to be looked at.
        event = from_http(lowered, body, data_unmarshaller=lambda data: data)
    except (GenericException, ValueError, TypeError, AttributeError) as error:
        raise InvalidEventError(f"not a CloudEvent: {error}") from error
    if content_type.startswith(_STRUCTURED):
        given = event.get_attributes()
        attributes = {name: str(value) for name, value in given.items() if value is not None}
        data_type = attributes.get("datacontenttype", "application/json")
        return Event(_complete(attributes), data_type, _encode(event.get_data(), data_type))
    # Read again from the headers: the SDK adds a time of its own where there is none.
    attributes = {
        name.removeprefix(_PREFIX): unquote(value) for name, value in lowered.items() if name.startswith(_PREFIX)
    }
    return Event(_complete(attributes), content_type or None, body)


def _complete(attributes: dict[str, str]) -> dict[str, str]:
    for name in ("id", "source", "type"):
        if not attributes.get(name):
            raise InvalidEventError(f"attribute {name} is missing")
    return attributes


def _encode(data: object, content_type: str) -> bytes:
    """Return the data of structured mode as it stands alone: base64 was decoded, anything else is JSON text."""
    if isinstance(data, bytes):
        return data
    if data is None:
        return b""
    if "json" in content_type:
        return str(data).encode()
    value = json.loads(str(data))
    return value.encode() if isinstance(value, str) else str(data).encode()
