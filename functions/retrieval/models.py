"""The shapes of the retrieval function's requests and answers."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, Json, StringConstraints

from shared.models import Body, Shape, otherwise
from shared.text import Text, is_storable

MAX_QUERY_CHARS = 10_000
MAX_RESULTS = 50
MAX_NAMES = 100


def _storable(value: str) -> str:
    if not is_storable(value):
        raise ValueError("must not contain NUL characters or lone surrogates")
    return value


CollectionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Label = Annotated[str, Field(max_length=255), AfterValidator(_storable)]
Member = Annotated[
    Label | float | bool | None, otherwise("must be a text of at most 255 characters, a number, true, false or null")
]


class Filter(Body):
    """Which documents may be found: those to which all of it applies."""

    media_types: Annotated[list[Label], Field(max_length=MAX_NAMES)] | None = None
    """One of these."""
    metadata: dict[Label, Member] | None = None
    """The document's metadata has these members with these values."""
    dated_from: AwareDatetime | None = None
    """The document's date is this moment or later."""
    dated_before: AwareDatetime | None = None
    """The document's date is earlier than this moment."""

    def for_database(self) -> dict[str, Any]:
        """Return it as the p_filter of rag.search."""
        return self.model_dump(mode="json", exclude_none=True)


class Search(Body):
    """What to search for, and where."""

    q: Annotated[Text, Field(min_length=1, max_length=MAX_QUERY_CHARS)]
    collections: Annotated[list[CollectionName], Field(min_length=1, max_length=MAX_NAMES)] | None = None
    """Names of collections; all that the caller may read by default."""
    limit: int = Field(default=10, ge=1, le=MAX_RESULTS)
    filter: Filter | None = None
    explain: bool = False


class SearchParameters(Search):
    """The same as the parameters of an address; the filter is JSON."""

    model_config = ConfigDict(extra="ignore")
    filter: Json[Filter] | None = None


class Leg(Shape):
    """What one part of the search says of a result."""

    rank: int
    score: float


class Scores(Shape):
    """What each part says; null where it did not find the result, or was not asked."""

    vector: Leg | None
    """Score: cosine similarity."""
    text: Leg | None
    """Score: BM25, as the share of what the words of the query, of many the four that weigh most, could come to."""
    trigram: Leg | None
    """Score: the same for words spelt like those of the query that no passage has."""
    rerank: float | None


class Result(Shape):
    """A passage, and where it stands."""

    n: int
    chunk_id: UUID
    document_id: UUID
    document: str
    title: str
    collection: str
    media_type: str
    metadata: dict[str, Any]
    dated: datetime | None
    heading: str
    page: int | None
    start_char: int
    end_char: int
    content: str
    context_before: str
    context_after: str
    score: float
    scores: Scores


class Results(Shape):
    """What was found, best first, and how."""

    mode: Literal["hybrid", "text"]
    reason: str | None
    """Why mode is text."""
    rerank: str | None
    results: list[Result]
    plan: dict[str, Any] | None


class SettingsChange(Shape):
    """Columns of rag.search_settings; null goes back to the platform's."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, int | float | None]


class SearchSettings(Shape):
    """How the tenant is searched: the columns of rag.search_settings."""

    model_config = ConfigDict(extra="allow")
    updated_at: datetime
    __pydantic_extra__: dict[str, int | float]
