"""The shapes of the routing function's requests and answers."""

from datetime import date, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator

from shared.models import Body, Shape
from shared.text import Text

MAX_AMOUNT = 10**15
MAX_TOKENS = 32_768

Tier = Literal["light", "standard", "heavy"]
Scope = Literal["tenant", "user", "api_key"]
Period = Literal["day", "month"]
Amount = Annotated[int, Field(ge=0, le=MAX_AMOUNT)]


class Question(Body):
    """A question to route without asking it; the numbers stand for what the turn would bring along."""

    message: Annotated[Text, Field(min_length=1, max_length=100_000)]
    model: Annotated[Text, Field(min_length=1, max_length=200)] | None = None
    max_tokens: int = Field(default=1024, ge=1, le=MAX_TOKENS)
    tools: int = Field(default=0, ge=0, le=1000)
    passages: int = Field(default=0, ge=0, le=1000)
    history_chars: int = Field(default=0, ge=0, le=10_000_000)


class Alias(Body):
    """A model name of the tenant's own, which brings retrieval along."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]{0,199}$")]
    model: Annotated[Text, Field(max_length=200)] = "auto"
    """`auto`, a tier, or a model's name."""
    collections: Annotated[
        list[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]], Field(min_length=1, max_length=100)
    ]


class Aliases(Shape):
    """The tenant's own model names."""

    aliases: list[Alias]


class Candidate(Shape):
    """A model that was considered, and what stood against it."""

    model: str
    tier: Tier
    cost_micros: int
    rejected: Literal["disabled", "residency", "context_window", "tools", "health", "budget"] | None = None
    why: str | None = None


class Explanation(Shape):
    """The decision, and every reason for it."""

    model: str
    tier: Tier
    rule: str | None
    reason: str
    requested: str
    fallback: str | None
    """Why it is not the model that was wanted first."""
    features: dict[str, Any]
    considered: list[Candidate]
    estimate: dict[str, int]
    budget: dict[str, Any]


class Model(Shape):
    """A model of the registry. Prices are for a million tokens."""

    name: str
    tier: Tier
    enabled: bool
    context_window: int | None
    input_price: float | None
    output_price: float | None
    regions: list[str] | None
    tools: bool


class Models(Shape):
    """The registry, lightest tier first."""

    models: list[Model]


class Rules(Shape):
    """The rules in their order, each with the conditions that it has."""

    rules: list[dict[str, Any]]


class Health(Shape):
    """How a model is."""

    model: str
    tier: Tier
    endpoint: str | None
    state: Literal["closed", "open", "half_open"]
    failures: int
    retry_at: datetime | None
    latency_ms: float | None
    last_error: str | None
    last_failure_at: datetime | None
    last_success_at: datetime | None


class HealthOfModels(Shape):
    """How the enabled models are."""

    models: list[Health]


class Budget(Shape):
    """A running day or month, in tokens, and where there is a limit in money also in millionths (`cost_*`)."""

    scope: Scope
    holder_id: UUID
    period: Period
    starts_on: date
    limit: int | None
    settled: int
    reserved: int
    remaining: int | None
    resets_at: datetime
    reached: int
    paused: bool
    cost_limit: int | None = None
    cost_settled: int | None = None
    cost_reserved: int | None = None
    cost_remaining: int | None = None


class Budgets(Shape):
    """The budgets that the caller may see."""

    budgets: list[Budget]


class Holder(Body):
    """Whose day or month."""

    scope: Scope
    holder_id: UUID
    period: Period


class Limit(Holder):
    """The limits of a day or month, instead of those before; neither: none of its own. `paused` alone leaves them."""

    tokens: Amount | None = None
    cost_micros: Amount | None = None
    paused: bool = False

    def only_pauses(self) -> bool:
        """Return whether no amount is named, not even as none."""
        return "paused" in self.model_fields_set and not self.model_fields_set & {"tokens", "cost_micros"}


class TopUp(Holder):
    """What the running day or month gets on top."""

    tokens: Amount = 0
    cost_micros: Amount = 0

    @model_validator(mode="after")
    def _adds_something(self) -> Self:
        if not self.tokens and not self.cost_micros:
            raise ValueError("name tokens or cost_micros")
        return self


class BudgetQuery(Body):
    """Whose budgets: of the caller's tenant, or for a platform_admin of any."""

    tenant_id: UUID | None = None


class UsageQuery(BudgetQuery):
    """From one day until another, both included, in the tenant's time zone."""

    since: date
    until: date
    by: list[Literal["day", "user", "api_key", "model"]] = Field(default=["day"], max_length=4)
    user_id: UUID | None = None
    api_key_id: UUID | None = None
    model: Annotated[Text, Field(max_length=200)] | None = None


class Usage(Shape):
    """What was charged, by the dimensions that were asked for."""

    usage: list[dict[str, Any]]
