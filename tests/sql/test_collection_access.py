"""Whatever anybody does with collections, nobody sees by any table or function what is in one that is not theirs to read."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from tests.sql.observer import ID, Observer, User
from tests.support import Caller, Database, add_document, vector

WHO = (
    ("ann", ("member",), ()),
    ("bob", ("member", "viewer"), ()),
    ("eve", ("member",), ("staff",)),
    ("boss", ("tenant_admin",), ()),
)
NAMES = ("default", "board", "lab")
SECRET = re.compile(r"secret\d+x")

READABLE = """
SELECT c.id FROM rag.collections c JOIN core.users u ON u.tenant_id = c.tenant_id
WHERE u.subject = %(subject)s AND u.tenant_id = %(tenant)s AND (
  %(admin)s OR c.visibility = 'tenant' OR c.created_by = u.id
  OR EXISTS (
    SELECT FROM rag.collection_grants g
    WHERE g.collection_id = c.id AND (g.user_id = u.id OR g.group_name = ANY (%(groups)s) OR g.role = ANY (%(roles)s))))
"""
"""What a user may read, said once more, and not as the policies say it."""


class Tenant:
    """A tenant with four users, and the collections that they make."""

    def __init__(self, operator: Caller, app: Caller, observer: Observer, tenant: UUID) -> None:
        self.operator, self.app, self.observer, self.tenant = operator, app, observer, tenant
        self.numbers = count(1)

    def call(self, user: User, operation: str, function: str, **arguments: object) -> object:
        """Call a function as a request of a user does; what the platform refuses is refused."""
        try:
            with self.app.connection.transaction():
                self.app.call(
                    "core.enter", p_tenant_id=user.tenant, p_subject=user.subject, p_operation=operation,
                    p_roles=list(user.roles), p_groups=list(user.groups),
                )  # fmt: skip
                return self.app.rows(function, **arguments)
        except psycopg.Error as error:
            if not (error.sqlstate or "").startswith("EA"):
                raise
            note(f"  refused: {error.sqlstate}")
            return None

    def store(self, user: User, name: str, number: int) -> None:
        """Let the worker store and index a document, whose text and name nobody else has."""
        word = f"secret{next(self.numbers)}x"
        with self.app.connection.transaction():
            self.app.call("core.enter_function", p_tenant_id=user.tenant, p_function="test")
            document = add_document(self.app, f"{number % 2}.md", [f"The {word} is safe."], collection=name)
        self.operator.run(
            "UPDATE rag.contents SET body = %s WHERE document_id = %s", [f"The {word} is safe.", document]
        )

    def secrets(self, user: User) -> tuple[set[UUID], set[str]]:
        """Return the ids and the words of what a user may not see."""
        asked = {
            "subject": user.subject, "tenant": user.tenant, "admin": "tenant_admin" in user.roles,
            "groups": list(user.groups), "roles": list(user.roles),
        }  # fmt: skip
        readable = {row[0] for row in self.operator.query(READABLE, asked)}
        ids: set[UUID] = set()
        words: set[str] = set()
        for collection, document, chunk, content in self.operator.query(
            "SELECT c.id, d.id, k.id, k.content FROM rag.collections c"
            " LEFT JOIN rag.documents d ON d.collection_id = c.id LEFT JOIN rag.chunks k ON k.document_id = d.id"
            " WHERE c.tenant_id = %s",
            [self.tenant],
        ):
            if collection not in readable:
                ids |= {collection, document, chunk} - {None}
                words |= set(SECRET.findall(content or ""))
        return ids, words

    def findings(self) -> list[str]:
        """Return what a user sees in the schema rag and may not."""
        secrets = {user: self.secrets(user) for user in self.observer.users}
        found = []
        for look, text in self.observer.sights("rag."):
            ids, words = secrets[look.user]
            seen = ({UUID(match) for match in ID.findall(text)} & ids) - look.passed
            if seen or not words.isdisjoint(SECRET.findall(text)):
                found.append(f"{look.user.subject} by {look.query}: {text}")
        return found


def store(tenant: Tenant, user: User, name: str, number: int) -> None:
    tenant.store(user, name, number)


def restrict(tenant: Tenant, user: User, name: str, number: int) -> None:
    visibility = ("restricted", "restricted", "tenant")[number % 3]
    tenant.call(user, "collections.update", "rag.put_collection", p_name=name, p_visibility=visibility)


def share(tenant: Tenant, user: User, name: str, number: int) -> None:
    subject = tenant.operator.query("SELECT id::text FROM core.users WHERE tenant_id = %s", [tenant.tenant])
    grants: tuple[list[dict[str, str]], ...] = (
        [], [{"user": subject[number % len(subject)][0], "access": "read"}], [{"group": "staff", "access": "write"}],
        [{"role": "viewer", "access": "read"}],
    )  # fmt: skip
    tenant.call(
        user, "collections.share", "rag.share_collection", p_name=name, p_grants=Jsonb(grants[number % len(grants)])
    )


def delete(tenant: Tenant, user: User, name: str, number: int) -> None:
    if number % 3 == 0:
        tenant.call(user, "collections.delete", "rag.delete_collection", p_name=name)
        return
    documents = tenant.operator.query("SELECT id FROM rag.documents WHERE tenant_id = %s ORDER BY 1", [tenant.tenant])
    if documents:
        document = documents[number % len(documents)][0]
        tenant.call(user, "documents.delete", "rag.delete_document", p_document_id=document)


def ask(tenant: Tenant, user: User, name: str, number: int) -> None:
    collections = None if number % 2 else [name]
    tenant.call(
        user, "chat.ask", "rag.search", p_query="safe", p_embedding=vector(1.0), p_collections=collections
    )  # fmt: skip


ACTIONS: dict[str, Callable[[Tenant, User, str, int], None]] = {
    action.__name__: action for action in (store, restrict, share, delete, ask)
}
STEPS = st.lists(
    st.tuples(
        st.integers(0, len(WHO) - 1), st.sampled_from(sorted(ACTIONS)), st.sampled_from(NAMES), st.integers(0, 11)
    ),
    min_size=1,
    max_size=6,
)


@contextmanager
def tenant_of(database: Database) -> Iterator[Tenant]:
    """Yield a tenant with a restricted collection, a shared one and one for everybody."""
    with database.connect() as operator, database.connect("app") as app:
        id_: UUID = operator.call("core.provision_tenant", p_slug=f"t-{uuid4().hex}", p_name="Tenant")
        users = [User(id_, *who) for who in WHO]
        with Observer.watch(database, users) as observer:
            tenant = Tenant(operator, app, observer, id_)
            for user in users:
                tenant.call(user, "me.read", "core.whoami")
            restrict(tenant, users[0], "board", 0)
            restrict(tenant, users[1], "lab", 0)
            share(tenant, users[1], "lab", 2)
            for name in NAMES:
                store(tenant, users[3], name, 0)
            yield tenant
        operator.run("DELETE FROM core.tenants")


@given(steps=STEPS)
@settings(deadline=None, max_examples=15)
def test_nobody_sees_what_is_in_a_collection_that_is_not_theirs(
    module_database: Database, steps: list[tuple[int, str, str, int]]
) -> None:
    with tenant_of(module_database) as tenant:
        for who, action, name, number in steps:
            user = tenant.observer.users[who]
            note(f"{user.subject}: {action} {name} {number}")
            ACTIONS[action](tenant, user, name, number)
            assert tenant.findings() == []


def test_whoever_may_read_does_see_it(module_database: Database) -> None:
    """The looks are such that a leak would be found."""
    with tenant_of(module_database) as tenant:
        seen = {
            user.subject: {
                word
                for look, text in tenant.observer.sights("rag.")
                if look.user == user
                for word in SECRET.findall(text)
            }
            for user in tenant.observer.users
        }
    default, board, lab = "secret1x", "secret2x", "secret3x"
    assert seen == {
        "ann": {default, board}, "bob": {default, lab}, "eve": {default, lab}, "boss": {default, board, lab},
    }  # fmt: skip


LEAKS = {
    "a policy": "ALTER POLICY tenant ON rag.documents USING (tenant_id = (SELECT core.current_tenant()))",
    "a function": (
        "CREATE FUNCTION rag.planted() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp"
        " AS 'SELECT content FROM rag.chunks WHERE tenant_id = core.require_tenant()';"
        " GRANT EXECUTE ON FUNCTION rag.planted() TO app"
    ),
    "a door that is too wide": (
        "CREATE OR REPLACE FUNCTION rag.open_collections(p_access text) RETURNS uuid[] LANGUAGE sql STABLE SECURITY DEFINER"
        " SET search_path = pg_catalog, pg_temp"
        " AS 'SELECT array_agg(id) FROM rag.collections WHERE tenant_id = core.current_tenant()'"
    ),
}


@pytest.mark.parametrize("statement", LEAKS.values(), ids=LEAKS.keys())
def test_a_planted_leak_is_found(database: Database, statement: str) -> None:
    with database.connect() as operator, operator.connection.transaction():
        operator.connection.execute("SET LOCAL ROLE ea_owner")
        operator.connection.execute(statement)
    with tenant_of(database) as tenant:
        assert tenant.findings()
