"""The shapes of the identity function's requests and answers."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints, model_validator

from shared.models import Body, Shape, in_utc
from shared.text import Text

MAX_OVERLAP_SECONDS = 30 * 24 * 3600
MAX_PAGE = 1000
BIGINT = 2**63


def is_base(url: str) -> str:
    """Return an address to which a path can be appended; raises ValueError."""
    if "?" in url or "#" in url:
        raise ValueError("must have no query and no fragment")
    return url


Role = Literal["platform_admin", "tenant_admin", "member", "viewer", "auditor", "service"]
Name = Annotated[Text, Field(max_length=100)]
Subject = Annotated[Text, Field(max_length=255)]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Scope = Annotated[Text, Field(max_length=50)]
RegionName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
FunctionName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[!-~]+$", max_length=500), AfterValidator(is_base)]
Policy = Literal["redirect", "refuse"]
Tokens = Annotated[int, Field(ge=0, le=10**15)]


class User(Shape):
    """A person or a service account."""

    id: UUID
    subject: str
    kind: Literal["person", "service"]
    name: str | None
    email: str | None
    roles: list[Role]
    """Those that hold now, wherever they come from."""
    groups: list[str]
    active: bool
    created_at: datetime
    seen_at: datetime


class Users(Shape):
    """Users by subject."""

    users: list[User]


class Tenant(Shape):
    """A tenant."""

    id: UUID
    slug: str
    name: str
    region: str
    time_zone: str
    active: bool
    created_at: datetime


class Tenants(Shape):
    """Tenants by slug."""

    tenants: list[Tenant]


class Key(Shape):
    """An API key without its secret."""

    id: UUID
    name: str
    user_id: UUID
    scopes: list[str] | None
    status: Literal["active", "expired", "revoked"]
    rate_limit_per_minute: int | None
    token_budget_daily: int | None
    token_budget_monthly: int | None
    created_at: datetime
    expires_at: datetime | None
    rotated_at: datetime | None
    previous_until: datetime | None
    """Until then the secret before the last rotation is good as well."""
    last_used_at: datetime | None
    revoked_at: datetime | None


class NewKey(Key):
    """An API key with its secret, which is shown this once."""

    key: str


class Keys(Shape):
    """API keys, newest first."""

    keys: list[Key]


class Me(Shape):
    """Whom the request acts for, and what it may do."""

    tenant: Tenant
    user: User
    key: Key | None
    operations: list[str]


class Operations(Shape):
    """The table of core.operations()."""

    operations: list[dict[str, Any]]


class Grant(Body):
    """The roles granted to a user, or to whoever has a group in the token; instead of those granted before."""

    user_id: UUID | None = None
    group: Subject | None = None
    roles: list[Role]

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if (self.user_id is None) == (self.group is None):
            raise ValueError("name either user_id or group")
        return self


class Grants(Shape):
    """Who was granted which roles."""

    grants: list[Grant]


class ServiceAccount(Body):
    """A user that acts by API keys alone."""

    name: Name
    roles: list[Role] = Field(default=["service"])


class UserChange(Body):
    """Whether a user's requests are answered."""

    active: bool


class Erased(Shape):
    """What was erased."""

    user_id: UUID
    conversations: int
    keys: list[UUID]


class KeyRequest(Body):
    """A key for the caller, or by a tenant_admin for a service account."""

    name: Name
    user_id: UUID | None = None
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=50)] | None = None
    """All of the user's rights by default."""
    expires_at: Annotated[AwareDatetime, AfterValidator(in_utc)] | None = None
    rate_limit_per_minute: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    token_budget_daily: Tokens | None = None
    token_budget_monthly: Tokens | None = None


class Rotation(Body):
    """How long the present secret stays good beside the new one."""

    overlap_seconds: Annotated[int, Field(ge=0, le=MAX_OVERLAP_SECONDS)] = 0


class TenantRequest(Body):
    """A tenant, and who administers it first."""

    slug: Slug
    name: Annotated[Text, Field(max_length=200)]
    time_zone: Name = "UTC"
    admin_subject: Subject | None = None


class OwnTenantChange(Body):
    """What a tenant's own administrator changes; what is left out stays."""

    name: Annotated[Text, Field(max_length=200)] | None = None


class TenantChange(OwnTenantChange):
    """What the platform's administrator changes; days and months of budgets begin by the time zone."""

    time_zone: Name | None = None
    active: bool | None = None


class Region(Shape):
    """A deployment of the platform, as this one knows it."""

    name: str
    url: str
    """Where its functions are asked; `{function}` stands for the function's name."""
    function_urls: dict[str, str]
    """Where single functions are asked that are elsewhere."""
    policy: Policy
    """What becomes here of a request of its tenants."""
    own: bool
    changed_at: datetime


class Regions(Shape):
    """The regions by name; `own` is the name of this one, which may stand in none of them."""

    own: str
    regions: list[Region]


class RegionChange(Body):
    """A region's addresses and policy, instead of those before."""

    url: Url
    function_urls: Annotated[dict[FunctionName, Url], Field(max_length=50)] = Field(default_factory=dict)
    policy: Policy = "redirect"


class Home(Shape):
    """Where a tenant is at home, and what becomes of its requests here."""

    tenant_id: UUID
    region: str
    decision: Literal["serve", "redirect", "refuse"]
    policy: Policy | None
    """The tenant's own; null: the region's holds."""


class HomeChange(Body):
    """Where a tenant is at home, with a policy of its own or without."""

    region: RegionName
    policy: Policy | None = None


class RegionPlace(Body):
    """Which region."""

    region: RegionName


class UserPage(Body):
    """Users whose subject comes after one."""

    after: Annotated[Text, Field(max_length=255)] | Literal[""] = ""
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 100


class KeyFilter(Body):
    """Whose keys."""

    user_id: UUID | None = None


class Chain(Body):
    """Which log: the tenant's, or the platform's own."""

    platform: bool = False


class EntryPage(Chain):
    """Entries after a number, of one action or all."""

    after: Annotated[int, Field(ge=0, lt=BIGINT)] = 0
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 100
    action: Annotated[Text, Field(max_length=100)] | None = None


class Entry(Shape):
    """An entry of the audit log."""

    seq: int
    at: datetime
    actor: str
    action: str
    object: str
    data: dict[str, Any]
    hash: str


class Entries(Shape):
    """Entries, oldest first."""

    entries: list[Entry]


class Verdict(Shape):
    """Whether a chain is whole, and if not where it breaks."""

    intact: bool
    breaks: list[dict[str, Any]]
    entries: int
    head: str | None
