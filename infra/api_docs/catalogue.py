"""The platform's CloudEvents: what each says, which SQL emits it, and which Triggers deliver it to whom."""

from __future__ import annotations

import re
from dataclasses import astuple, dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from functions.ingestion.models import Submission
from infra.local.assembly import MANIFESTS, ROOT
from infra.local.manifests import load
from shared import event_data, events

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel

    from infra.local.manifests import Manifests, Trigger

Model: TypeAlias = "type[BaseModel]"

PREFIX = "com.enterprise-agents."
TENANT = "0d5a4c1e-3f7b-4c55-9a5e-2f1d8c6b7a90"
DOCUMENT = "7b1f0b52-6a3e-4f0e-8d0c-5a9b3c2d1e4f"
TURN = "c2a9e6d4-1b7f-4e83-a6c5-0f3d2e1b4a59"
JOB = "5e8d7c6b-4a39-4281-b0c7-9f6e5d4c3b2a"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@dataclass(frozen=True)
class Kind:
    """A type of event; `required` and `optional` are the extension attributes besides those of all types and of filters."""

    type: str
    summary: str
    data: Model
    subject: str
    """What the attribute `subject` names."""
    examples: Sequence[Mapping[str, Any]]
    required: Sequence[str] = ()
    optional: Sequence[str] = ()
    ordered: bool = False
    """Whether the relay keeps the order of a tenant's partition."""
    inbound: bool = False
    """Whether sources outside of the platform send it as well."""

    @property
    def name(self) -> str:
        """The type without prefix and version: `inference.requested`."""
        return self.type.removeprefix(PREFIX).rpartition(".")[0]

    @property
    def key(self) -> str:
        """The message's key in the AsyncAPI document: `inferenceRequested`."""
        first, *others = re.split(r"[._]", self.name)
        return first + "".join(word.capitalize() for word in others)


_VERSION = {"document_id": DOCUMENT, "version": 2}
_NAMED = {**_VERSION, "name": "handbook/travel.md", "collection": "default"}
KINDS = (
    Kind(
        events.INFERENCE_REQUESTED,
        "A turn waits for its answer.",
        event_data.InferenceRequested,
        "the turn",
        ({"job_id": JOB, "turn_id": TURN},),
        required=("partitionkey",),
        optional=("traceparent",),
    ),
    Kind(
        events.INGESTION_SUBMITTED,
        "A source hands over a document inside the event, or tells where it is.",
        Submission,
        "the document's name, where the data has none; of the platform's own the tenant",
        (
            {"name": "note.txt", "media_type": "text/plain", "content": "Lunch is at noon."},
            {"collection": "scans", "name": "letter.pdf", "content_base64": "JVBERi0xLjcK"},
            {"object": {"bucket": "company", "key": "docs/travel.md", "sequencer": "0055AED6DCD90281E5"}},
        ),
        optional=("dataref", "collection"),
        inbound=True,
    ),
    Kind(
        events.INGESTION_RECEIVED,
        "A document is stored and waits to be extracted and chunked.",
        event_data.IngestionReceived,
        "the document",
        (_VERSION,),
        required=("partitionkey",),
    ),
    Kind(
        events.EMBEDDING_REQUESTED,
        "Chunks wait for their vectors.",
        event_data.EmbeddingRequested,
        "the document",
        (_VERSION,),
    ),
    Kind(
        events.INGESTION_INDEXED,
        "A version of a document can be found.",
        event_data.IngestionIndexed,
        "the document",
        ({**_NAMED, "chunks": 14, "chunks_failed": 0},),
        required=("partitionkey",),
    ),
    Kind(
        events.INGESTION_FAILED,
        "A version of a document cannot be read.",
        event_data.IngestionFailed,
        "the document",
        ({**_NAMED, "chunks": 0, "chunks_failed": 0, "error_code": "encrypted_document"},),
        required=("partitionkey",),
    ),
    Kind(
        events.DOCUMENT_DELETED,
        "A document is gone, with its passages and vectors.",
        event_data.DocumentDeleted,
        "the document",
        (_NAMED,),
        required=("partitionkey",),
    ),
    Kind(
        events.BUDGET_REACHED,
        "80 or 100 percent of a budget are used.",
        event_data.BudgetReached,
        "the tenant, user or API key whose budget it is",
        (
            {
                "scope": "tenant",
                "holder_id": TENANT,
                "period": "day",
                "starts_on": "2026-11-26",
                "percent": 80,
                "limit": 1000000,
                "settled": 790000,
                "reserved": 12000,
                "remaining": 198000,
                "resets_at": "2026-11-27T00:00:00+00:00",
            },
        ),
        required=("partitionkey",),
        ordered=True,
    ),
)
"""Every type of the catalogue (shared.events.EVENT_TYPES)."""


@dataclass(frozen=True)
class Emitter:
    """A SQL function that emits events, by its file; `table` is the one whose trigger calls it, if one does."""

    function: str
    file: str
    table: str | None


_EMITS = re.compile(r"'(com\.enterprise-agents\.[a-z_]+\.[a-z_]+\.v\d+)'")
_ON_TABLE = re.compile(r"^CREATE OR REPLACE TRIGGER \w+\s.*?\bON ([\w.]+)", re.MULTILINE | re.DOTALL)


def emitters() -> dict[str, list[Emitter]]:
    """Return who emits each type, as `sql/` says."""
    found: dict[str, list[Emitter]] = {}
    for path in sorted((ROOT / "sql").rglob("*.sql")):
        body = path.read_text(encoding="utf-8")
        table = _ON_TABLE.search(body)
        emitter = Emitter(
            f"{path.parent.name}.{path.stem}", str(path.relative_to(ROOT)), None if table is None else table[1]
        )
        for type_ in dict.fromkeys(_EMITS.findall(body)) if "events.emit(" in body else ():
            found.setdefault(type_, []).append(emitter)
    return found


@dataclass(frozen=True)
class Wiring:
    """Who emits and who takes each type."""

    emitters: Mapping[str, Sequence[Emitter]]
    manifests: Manifests
    triggers: Mapping[str, Sequence[Trigger]] = field(default_factory=dict)

    @classmethod
    def read(cls) -> Wiring:
        """Return what `sql/` and `knative/base` say."""
        manifests = load(MANIFESTS)
        triggers: dict[str, list[Trigger]] = {}
        for trigger in manifests.triggers:
            triggers.setdefault(trigger.attributes.get("type", ""), []).append(trigger)
        return cls(emitters(), manifests, triggers)

    def filters(self, kind: Kind) -> dict[str, list[str]]:
        """Return the extension attributes by which Triggers choose among events of a type, with the values asked for."""
        found: dict[str, list[str]] = {}
        for trigger in self.triggers.get(kind.type, ()):
            for name, value in trigger.attributes.items():
                if name != "type":
                    found.setdefault(name, []).append(value)
        return found


def taker(trigger: Trigger) -> str:
    """Return the name of what a Trigger delivers to, whatever kind of object that is."""
    return str(next(name for name in astuple(trigger.subscriber) if name))
