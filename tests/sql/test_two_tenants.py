"""Whatever two tenants' users do, no user sees anything of the other tenant, nor another user's conversation."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from shared.api_keys import ApiKey
from tests.sql.observer import FUNCTIONS, LEFT_OUT, SEES_OTHERS_TURNS, Observer, User
from tests.support import Caller, Database, add_document, vector

MISCALLED = re.compile(
    "^(function|operator|column|relation|type) .* does not exist|^syntax error|is not unique$|^invalid input|^malformed"
)
SUBJECTS = (("ann", ("tenant_admin",), ("admins",)), ("bob", ("member",), ("staff",)))


class World:
    """Two tenants with two users each, and what there is of them."""

    def __init__(self, app: Caller, observer: Observer) -> None:
        self.app, self.observer, self.users = app, observer, observer.users
        self.numbers = count(1)

    def pick(self, table: str, number: int) -> UUID:
        """Return the id of one of a kind, of either tenant, or one that nothing has."""
        found = [thing.id for thing in self.observer.things() if thing.table == table]
        return found[number % len(found)] if found else uuid4()

    def call(self, user: User, operation: str, function: str, **arguments: object) -> object:
        """Call a function as a request of a user does; what the platform refuses is refused."""
        try:
            with self.app.connection.transaction():
                self.app.call(
                    "core.enter", p_tenant_id=user.tenant, p_subject=user.subject, p_operation=operation,
                    p_roles=list(user.roles), p_groups=list(user.groups),
                )  # fmt: skip
                return self.app.call(function, **arguments)
        except psycopg.Error as error:
            if not (error.sqlstate or "").startswith("EA"):
                raise
            note(f"  refused: {error.sqlstate}")
            return None

    def work(self, tenant: UUID, function: str, **arguments: object) -> None:
        """Call a function as an event function does."""
        with self.app.connection.transaction():
            self.app.call("core.enter_function", p_tenant_id=tenant, p_function="test")
            self.app.call(function, **arguments)


def ask(world: World, user: User, number: int) -> None:
    conversation = None if number % 3 == 0 else world.pick("chat.conversations", number)
    world.call(
        user, "chat.ask", "chat.begin_turn",
        p_message="What is the secret limit?", p_embedding=vector(1.0), p_conversation_id=conversation, p_max_tokens=50,
    )  # fmt: skip


def answer(world: World, user: User, number: int) -> None:
    jobs = world.observer.operator.query(
        "SELECT id FROM inference.jobs WHERE tenant_id = %s AND status = 'queued' ORDER BY created_at", [user.tenant]
    )
    if jobs:
        job = jobs[number % len(jobs)][0]
        world.work(user.tenant, "inference.claim", p_job_id=job, p_worker="w", p_lease="1 minute")
        if number % 4 == 1:
            return  # it stays in the worker's hands
        world.work(
            user.tenant, "inference.complete",
            p_job_id=job, p_worker="w", p_attempt=1, p_status="completed", p_content="It is ten [1].",
            p_prompt_tokens=20, p_completion_tokens=5, p_event_source="/test", p_event_id=str(uuid4()),
        )  # fmt: skip


def store(world: World, user: User, number: int) -> None:
    with world.app.connection.transaction():
        world.app.call("core.enter_function", p_tenant_id=user.tenant, p_function="test")
        add_document(world.app, f"limits-{number % 3}.md", [f"The secret limit is {next(world.numbers)}."])


def share(world: World, user: User, number: int) -> None:
    kinds: Sequence[dict[str, object]] = (
        {"p_users": [world.pick("core.users", number)]}, {"p_groups": ["staff"]}, {"p_whole_tenant": True}, {},
    )  # fmt: skip
    conversation = world.pick("chat.conversations", number // len(kinds))
    world.call(
        user, "chat.share", "chat.share_conversation", p_conversation_id=conversation, **kinds[number % len(kinds)]
    )


def make_key(world: World, user: User, number: int) -> None:
    key = ApiKey.generate(user.tenant)
    owner = None if number % 2 else world.pick("core.users", number)
    world.call(
        user, "keys.create", "core.create_key",
        p_key_id=key.key_id, p_secret_sha256=key.digest(), p_name="ci", p_user_id=owner, p_token_budget_daily=10**6,
    )  # fmt: skip


def renew_key(world: World, user: User, number: int) -> None:
    digest = ApiKey.generate(user.tenant).digest()
    key = world.pick("core.api_keys", number)
    world.call(user, "keys.rotate", "core.rotate_key", p_key_id=key, p_secret_sha256=digest, p_overlap="1 hour")


def end_key(world: World, user: User, number: int) -> None:
    world.call(user, "keys.revoke", "core.revoke_key", p_key_id=world.pick("core.api_keys", number))


def stop(world: World, user: User, number: int) -> None:
    world.call(user, "chat.stop", "chat.stop_turn", p_turn_id=world.pick("chat.turns", number))


def regenerate(world: World, user: User, number: int) -> None:
    world.call(user, "chat.ask", "chat.regenerate_turn", p_turn_id=world.pick("chat.turns", number))


def delete(world: World, user: User, number: int) -> None:
    conversation = world.pick("chat.conversations", number)
    world.call(user, "chat.manage", "chat.delete_conversation", p_conversation_id=conversation)


def make_service_account(world: World, user: User, number: int) -> None:
    world.call(user, "users.create", "core.create_service_account", p_name=f"robot-{number % 2}")


def grant(world: World, user: User, number: int) -> None:
    roles = [["auditor"], ["tenant_admin", "viewer"], []][number % 3]
    target: dict[str, object] = (
        {"p_group_name": "staff"} if number % 4 == 0 else {"p_user_id": world.pick("core.users", number)}
    )
    world.call(user, "roles.grant", "core.grant_roles", p_roles=roles, **target)


def erase(world: World, user: User, number: int) -> None:
    world.call(user, "users.erase", "core.erase_user", p_user_id=world.pick("core.users", number))


def read_audit(world: World, user: User, number: int) -> None:
    world.call(user, "audit.read", "compliance.read_audit", p_after=number)


def be_refused(world: World, user: User, number: int) -> None:
    world.app.call(
        "compliance.record_refusal",
        p_kind="access", p_object="users.read", p_data=json.dumps({"number": number}),
        p_tenant_id=user.tenant, p_subject=user.subject,
    )  # fmt: skip


def search(world: World, user: User, number: int) -> None:
    world.call(user, "chat.ask", "rag.search", p_query=f"limit {number}", p_embedding=vector(1.0))


ACTIONS: dict[str, Callable[[World, User, int], None]] = {
    action.__name__: action
    for action in (
        ask, answer, store, share, make_key, renew_key, end_key, stop, regenerate, delete, make_service_account, grant,
        erase, read_audit, be_refused, search,
    )
}  # fmt: skip

STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(sorted(ACTIONS)), st.integers(0, 15)), min_size=1, max_size=5
)


@contextmanager
def world_of(database: Database) -> Iterator[World]:
    """Yield a world of new tenants, where everybody has asked something and been answered."""
    with database.connect() as operator, database.connect("app") as app:
        tenants: list[UUID] = [
            operator.call("core.provision_tenant", p_slug=f"t-{uuid4().hex}", p_name="Tenant") for _ in range(2)
        ]
        users = [User(tenant, *who) for tenant in tenants for who in SUBJECTS]
        with Observer.watch(database, users) as observer:
            world = World(app, observer)
            for user in users:
                store(world, user, len(user.subject))
                ask(world, user, 0)
                answer(world, user, 0)
                make_key(world, user, 1)
            yield world
        operator.run("DELETE FROM core.tenants")


@given(steps=STEPS)
@settings(deadline=None, max_examples=15)
def test_nobody_sees_what_is_not_theirs_whatever_anybody_does(
    module_database: Database, steps: list[tuple[int, str, int]]
) -> None:
    with world_of(module_database) as world:
        for who, action, number in steps:
            note(f"{world.users[who].subject} of tenant {who // 2}: {action} {number}")
            ACTIONS[action](world, world.users[who], number)
            assert world.observer.findings() == []


def test_every_look_is_one_that_postgresql_understands(module_database: Database) -> None:
    with world_of(module_database) as world:
        sights = world.observer.sights()
    names = {look.name for look, _ in sights}
    assert {"chat.messages", "core.users", "chat.read_turn", "rag.search", "core.erase_user"} <= names
    assert [(look.query, text) for look, text in sights if MISCALLED.search(text)] == []


def test_what_is_left_out_is_there(database: Database) -> None:
    with database.connect() as operator:
        found = {row[0] for row in operator.query(FUNCTIONS)}
    assert {*LEFT_OUT, *SEES_OTHERS_TURNS} <= found
    assert all({**LEFT_OUT, **SEES_OTHERS_TURNS}.values())


DEFINER = "SECURITY DEFINER SET search_path = pg_catalog, pg_temp"
LEAKS = {
    "a function that returns": (
        (
            f"CREATE FUNCTION core.planted() RETURNS uuid[] LANGUAGE sql {DEFINER} AS 'SELECT array_agg(id) FROM chat.turns';"
            " GRANT EXECUTE ON FUNCTION core.planted() TO app"
        ),
        "another tenant's chat.turns by SELECT * FROM core.planted()",
    ),
    "a function that fails with a detail": (
        (
            f"CREATE FUNCTION core.planted(p_turn_id uuid) RETURNS void LANGUAGE plpgsql {DEFINER} AS $$ BEGIN"
            " RAISE EXCEPTION 'No.' USING DETAIL = (SELECT conversation_id::text FROM chat.turns WHERE id = p_turn_id);"
            " END $$; GRANT EXECUTE ON FUNCTION core.planted(uuid) TO app"
        ),
        "another tenant's chat.conversations by SELECT * FROM core.planted(",
    ),
    "a function that fails with a message": (
        (
            f"CREATE FUNCTION core.planted(p_document_id uuid) RETURNS void LANGUAGE plpgsql {DEFINER} AS $$ BEGIN"
            " RAISE EXCEPTION 'It is in %.', (SELECT collection_id FROM rag.documents WHERE id = p_document_id);"
            " END $$; GRANT EXECUTE ON FUNCTION core.planted(uuid) TO app"
        ),
        "another tenant's rag.collections by SELECT * FROM core.planted(",
    ),
    "a policy": ("ALTER POLICY tenant ON rag.chunks USING (true)", "another tenant's rag.chunks by SELECT"),
    "a view": (
        "CREATE VIEW chat.planted AS SELECT turn_id AS t, id FROM chat.messages; GRANT SELECT (t) ON chat.planted TO app",
        "another tenant's chat.turns by SELECT t FROM chat.planted",
    ),
    "a policy within the tenant": (
        "ALTER POLICY tenant ON chat.conversations USING (tenant_id = (SELECT core.current_tenant()))",
        "another user's chat.conversations by SELECT",
    ),
    "a function within the tenant": (
        (
            f"CREATE FUNCTION core.planted(p_user_id uuid) RETURNS SETOF uuid LANGUAGE sql {DEFINER} AS"
            " 'SELECT id FROM chat.turns WHERE tenant_id = core.require_tenant() AND user_id = p_user_id';"
            " GRANT EXECUTE ON FUNCTION core.planted(uuid) TO app"
        ),
        "another user's chat.turns by SELECT * FROM core.planted(",
    ),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_planted_leak_is_found(database: Database, leak: str) -> None:
    statement, finding = LEAKS[leak]
    with database.connect() as operator, operator.connection.transaction():
        operator.connection.execute("SET LOCAL ROLE ea_owner")
        operator.connection.execute(statement)
    with world_of(database) as world:
        assert any(finding in found for found in world.observer.findings())


def test_what_is_shared_is_no_finding_and_what_is_taken_back_is_private_again(module_database: Database) -> None:
    with world_of(module_database) as world:
        ann, bob = world.users[:2]
        conversation = next(
            t for t in world.observer.things() if t.table == "chat.conversations" and t.tenant == ann.tenant
        )
        owner, reader = (ann, bob) if conversation.owner == world.observer.subjects()[ann.tenant, "ann"] else (bob, ann)
        share = {"p_conversation_id": conversation.id}

        def reads() -> bool:
            return any(
                look.user == reader and look.name == "chat.conversations" and str(conversation.id) in text
                for look, text in world.observer.sights()
            )

        assert not reads()
        for readers in ({"p_whole_tenant": True}, {}):
            assert world.call(owner, "chat.share", "chat.share_conversation", **share, **readers)
            assert reads() is bool(readers)
            assert world.observer.findings() == []
