"""A conversation is its owner's alone until it is shared, and then others read it and no more."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.sql.steps import answer, begin, make_key, refused, service_account, user
from tests.support import Caller, Database, add_document

OWN_ALONE = ("budget.reservations", "budget.ledger")
"""What a turn costs is its owner's business, whoever may read the turn."""


@pytest.fixture
def database(cleared_database: Database) -> Database:
    return cleared_database


@dataclass(frozen=True)
class Shared:
    """Ann's conversation: one turn that was answered from a document, and one that waits."""

    database: Database
    tenant: UUID
    conversation: UUID
    answered: UUID
    waiting: UUID
    bob: UUID

    @contextmanager
    def session(
        self, subject: str, operation: str = "chat.read", groups: Sequence[str] = (), **options: Any
    ) -> Iterator[Caller]:
        """A member of the tenant."""
        roles = options.pop("roles", ["member"])
        with self.database.connect(
            "app", self.tenant, subject, operation=operation, roles=roles, groups=groups, **options
        ) as caller:
            yield caller

    def share(self, subject: str = "ann", **readers: Any) -> Any:
        with self.session(subject, "chat.share") as caller:
            return caller.call("chat.share_conversation", p_conversation_id=self.conversation, **readers)

    def rows_seen(self, caller: Caller) -> dict[str, int]:
        """Count what a user sees of the two turns and the conversation, by raw SELECT, in every table that can hold any."""
        ids = [str(self.conversation), str(self.answered), str(self.waiting)]
        return {
            table: caller.value(
                f"SELECT count(*) FROM {table} AS t WHERE t::text ~ %s",
                ["|".join(ids)],
            )
            for table in self.tables()
        }

    def tables(self) -> list[str]:
        with self.database.connect() as operator:
            return [
                row[0]
                for row in operator.query(
                    "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                    " WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND pg_get_userbyid(n.nspowner) = 'ea_owner'"
                    " AND has_table_privilege('app', c.oid, 'SELECT') AND c.relrowsecurity"
                )
            ]

    def assert_readable(self, caller: Caller) -> None:
        assert {table for table, count in self.rows_seen(caller).items() if count} >= {
            "chat.conversations", "chat.turns", "chat.messages", "chat.passages", "chat.shares", "inference.jobs",
        }  # fmt: skip
        assert caller.query("SELECT quote FROM chat.citations") == [("The limit is ten.",)]
        turn = caller.call("chat.read_turn", p_turn_id=self.answered)
        assert turn["answer"] == "It is ten [1]."
        assert [citation["document"] for citation in turn["citations"]] == ["limits.md"]
        assert turn["charged_tokens"] is None, "what it cost is the owner's business"
        assert caller.call("chat.read_turn", p_turn_id=self.waiting)["status"] == "queued"
        for table in OWN_ALONE:
            assert self.rows_seen(caller)[table] == 0

    def assert_hidden(self, caller: Caller) -> None:
        assert set(self.rows_seen(caller).values()) == {0}
        for turn in (self.answered, self.waiting):
            with refused("EA002"):
                caller.call("chat.read_turn", p_turn_id=turn)
            for function in ("chat.turn_result", "chat.turn_accepted", "chat.prompt"):
                assert caller.call(function, p_turn_id=turn) is None
        with refused("EA002"):
            caller.call("chat.list_shares", p_conversation_id=self.conversation)


@pytest.fixture
def scene(database: Database, tenants: Sequence[UUID]) -> Shared:
    bob = user(database, tenants[0], "bob", ["member"])
    with database.connect("app", tenants[0], "ann", roles=["member"]) as ann:
        add_document(ann, "limits.md", ["The limit is ten."])
        first = begin(ann)
        answer(database, tenants[0], first["turn_id"], "It is ten [1].")
        second = begin(ann, p_conversation_id=first["conversation_id"])
    return Shared(
        database, tenants[0], UUID(first["conversation_id"]), UUID(first["turn_id"]), UUID(second["turn_id"]), bob
    )


@pytest.mark.parametrize("role", ["tenant_admin", "member", "viewer", "auditor"])
def test_a_conversation_is_private_within_its_tenant(scene: Shared, role: str) -> None:
    with scene.session("ann") as ann:
        seen = scene.rows_seen(ann)
    conversations = {table for table in seen if table.startswith("chat.")} - {"chat.shares", "chat.citations"}
    assert {table for table, count in seen.items() if count} == conversations | {"inference.jobs", *OWN_ALONE}
    with scene.session("eve", "me.read", roles=[role], groups=["staff"]) as eve:
        scene.assert_hidden(eve)
        assert eve.query("SELECT quote FROM chat.citations") == []
        assert eve.value("SELECT count(*) FROM rag.documents") == 1, "documents are the tenant's"


def test_shared_with_a_user_that_user_reads_it_and_nobody_else(scene: Shared) -> None:
    assert scene.share(p_users=[scene.bob]) == {
        "conversation_id": str(scene.conversation), "users": [str(scene.bob)], "groups": [], "whole_tenant": False,
    }  # fmt: skip
    with scene.session("bob") as bob:
        scene.assert_readable(bob)
        assert bob.call("chat.list_shares", p_conversation_id=scene.conversation)["users"] == [str(scene.bob)]
    with scene.session("eve") as eve:
        scene.assert_hidden(eve)


def test_shared_with_a_group_those_whose_token_names_it_read_it(scene: Shared) -> None:
    scene.share(p_groups=["staff"])
    with scene.session("bob", groups=["guests", "staff"]) as bob:
        scene.assert_readable(bob)
    for groups in ([], ["guests"], ["Staff"], ["staff "]):
        with scene.session("eve", groups=groups) as eve:
            scene.assert_hidden(eve)


def test_who_leaves_the_group_loses_it_with_the_next_token(scene: Shared) -> None:
    scene.share(p_groups=["staff"])
    with scene.session("bob", groups=["staff"]) as bob:
        scene.assert_readable(bob)
        with scene.session("bob", groups=["guests"]):
            scene.assert_hidden(bob)  # also what is going on already


def test_shared_with_the_tenant_everybody_of_it_reads_it(scene: Shared, tenants: Sequence[UUID]) -> None:
    scene.share(p_whole_tenant=True)
    with scene.session("somebody new", roles=["viewer"]) as viewer:
        scene.assert_readable(viewer)
    key = make_key(scene.database, scene.tenant, p_user_id=service_account(scene.database, scene.tenant))
    with scene.session("service:robot", roles=[], api_key=key.key_id) as robot:
        scene.assert_readable(robot)
    with scene.database.connect("app", tenants[1], "bob") as stranger:
        scene.assert_hidden(stranger)


@pytest.mark.parametrize("readers", ["user", "group", "tenant"])
def test_a_reader_changes_nothing(scene: Shared, readers: str) -> None:
    shares: dict[str, dict[str, Any]] = {
        "user": {"p_users": [scene.bob]}, "group": {"p_groups": ["staff"]}, "tenant": {"p_whole_tenant": True},
    }  # fmt: skip
    shared = scene.share(**shares[readers])
    with scene.session("bob", "chat.share", roles=["tenant_admin", "member"], groups=["staff"]) as bob:
        for function, arguments in (
            ("chat.stop_turn", {"p_turn_id": scene.waiting}),
            ("chat.begin_turn", {"p_message": "And?", "p_conversation_id": scene.conversation}),
            ("chat.share_conversation", {"p_conversation_id": scene.conversation, "p_whole_tenant": True}),
            ("chat.share_conversation", {"p_conversation_id": scene.conversation}),
        ):
            with refused("EA002"):
                bob.call(function, **arguments)
        assert bob.call("chat.read_turn", p_turn_id=scene.waiting)["status"] == "queued"
        assert bob.call("chat.list_shares", p_conversation_id=scene.conversation) == shared
        scene.assert_readable(bob)
    # Even if somebody granted the right, the policy would let the owner's rows be changed by the owner alone.
    with scene.database.connect() as operator, operator.connection.transaction(force_rollback=True):
        operator.run("GRANT UPDATE, INSERT ON chat.conversations, chat.turns TO app")
        operator.run("SELECT set_config('app.tenant_id', %s, true)", [str(scene.tenant)])
        operator.run("SELECT set_config('app.user_id', %s, true)", [str(scene.bob)])
        operator.run("SET LOCAL ROLE app")
        for table in ("chat.conversations", "chat.turns"):
            with pytest.raises(Exception, match="row-level security"), operator.connection.transaction():
                operator.run(f"UPDATE {table} SET created_at = now()")


def test_what_is_shared_anew_replaces_what_was_shared_before(scene: Shared) -> None:
    carl = user(scene.database, scene.tenant, "carl", ["member"])
    scene.share(p_users=[scene.bob, scene.bob], p_groups=["staff", "staff"])
    assert scene.share(p_users=[carl], p_groups=["guests"]) == {
        "conversation_id": str(scene.conversation), "users": [str(carl)], "groups": ["guests"], "whole_tenant": False,
    }  # fmt: skip
    with scene.session("bob", groups=["staff"]) as bob:
        scene.assert_hidden(bob)
    with scene.session("carl") as reader:
        scene.assert_readable(reader)


@pytest.mark.parametrize("readers", ["user", "group", "tenant"])
def test_taken_back_it_is_private_again(scene: Shared, readers: str) -> None:
    shares: dict[str, dict[str, Any]] = {
        "user": {"p_users": [scene.bob]}, "group": {"p_groups": ["staff"]}, "tenant": {"p_whole_tenant": True},
    }  # fmt: skip
    scene.share(**shares[readers])
    with scene.session("bob", groups=["staff"]) as bob:
        scene.assert_readable(bob)
        assert scene.share() == {
            "conversation_id": str(scene.conversation), "users": [], "groups": [], "whole_tenant": False,
        }  # fmt: skip
        scene.assert_hidden(bob)


def test_a_turn_that_is_asked_after_the_sharing_is_shared_too(scene: Shared) -> None:
    scene.share(p_users=[scene.bob])
    with scene.session("ann", "chat.ask") as ann:
        turn = begin(ann, "And now?", p_conversation_id=scene.conversation)["turn_id"]
        other = begin(ann, "Something else?")["turn_id"]
    with scene.session("bob") as bob:
        assert bob.call("chat.read_turn", p_turn_id=turn)["status"] == "queued"
        with refused("EA002"):
            bob.call("chat.read_turn", p_turn_id=other)


def test_nothing_is_shared_across_tenants(scene: Shared, tenants: Sequence[UUID]) -> None:
    stranger = user(scene.database, tenants[1], "bob", ["member"])
    for users in ([stranger], [scene.bob, stranger], [uuid4()], [None]):
        with refused("EA002"):
            scene.share(p_users=users)
    with scene.session("bob") as bob:
        scene.assert_hidden(bob)  # not even the one who could be shared with
    # A row that somehow stood there would not show either.
    with scene.database.connect() as operator:
        operator.run("SET session_replication_role = replica")
        for tenant in tenants:
            operator.run(
                "INSERT INTO chat.shares (tenant_id, conversation_id, user_id) VALUES (%s, %s, %s)",
                [tenant, scene.conversation, stranger],
            )
    with scene.database.connect("app", tenants[1], "bob", operation="chat.read") as other:
        turns = other.query("SELECT id FROM chat.turns")
        assert turns == []
        with refused("EA002"):
            other.call("chat.read_turn", p_turn_id=scene.answered)


def test_another_tenants_group_of_the_same_name_is_another_group(scene: Shared, tenants: Sequence[UUID]) -> None:
    scene.share(p_groups=["staff"])
    with scene.database.connect("app", tenants[1], "bob", groups=["staff"]) as stranger:
        scene.assert_hidden(stranger)


def test_an_unknown_conversation_cannot_be_shared(scene: Shared, tenants: Sequence[UUID]) -> None:
    with scene.database.connect("app", tenants[1], "ann", operation="chat.share") as stranger:
        for conversation in (scene.conversation, uuid4(), scene.answered):
            with refused("EA002"):
                stranger.call("chat.share_conversation", p_conversation_id=conversation, p_whole_tenant=True)
