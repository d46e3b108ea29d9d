"""Whatever a caller sends, the answer is a problem document with a stable code, and nothing is stored."""

import gzip
import json
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.auth import issue_dev_token
from shared.settings import DEV_JWT_SECRET, get_settings
from tests.functions.asgi import Reply, call
from tests.functions.platform import Platform, after_embeddings
from tests.functions.talk import carried

UNKNOWN = "00000000-0000-4000-8000-000000000000"
DEEP = b'{"message": ' + b"[" * 100_000
JSON_ROUTES = (("chat", "/chat"), ("routing", "/routing/explain"))
ROUTES = (
    ("chat", "POST", "/chat"),
    ("chat", "GET", f"/turns/{UNKNOWN}"),
    ("chat", "GET", f"/turns/{UNKNOWN}/stream"),
    ("chat", "POST", f"/turns/{UNKNOWN}/stop"),
    ("chat", "POST", f"/turns/{UNKNOWN}/regenerate"),
    ("chat", "GET", "/conversations"),
    ("chat", "GET", "/conversations/search?q=a"),
    ("chat", "GET", f"/conversations/{UNKNOWN}"),
    ("chat", "PATCH", f"/conversations/{UNKNOWN}"),
    ("chat", "DELETE", f"/conversations/{UNKNOWN}"),
    ("chat", "GET", f"/conversations/{UNKNOWN}/export"),
    ("ingestion", "POST", "/documents?name=a.md"),
    ("ingestion", "GET", "/documents"),
    ("ingestion", "GET", f"/documents/{UNKNOWN}"),
    ("routing", "POST", "/routing/explain"),
    ("routing", "GET", "/routing/models"),
)

Answers = Mapping[str, tuple[int, str]]
FUNCTIONS = {path: function for function, path in JSON_ROUTES}
UNPROCESSABLE = (422, "invalid_request")

BODIES: dict[str, tuple[bytes, tuple[int, str]]] = {
    "nothing": (b"", (400, "malformed_json")),
    "cut JSON": (b'{"message": "a', (400, "malformed_json")),
    "no JSON": (b"message=a", (400, "malformed_json")),
    "binary": (bytes(range(256)), (400, "malformed_json")),
    "invalid UTF-8": (b'{"message": "\xff\xfe"}', (400, "malformed_json")),
    "deep": (DEEP, (400, "malformed_json")),
    "deep and closed": (b'{"message": ' + b"[" * 9999 + b"]" * 9999 + b"}", (400, "malformed_json")),
    "lone surrogate": (b'{"message": "\\ud800"}', (400, "malformed_json")),
    "lone surrogate as a name": (b'{"\\udfff": 1}', (400, "malformed_json")),
    "list": (b"[]", UNPROCESSABLE),
    "text": (b'"message"', UNPROCESSABLE),
    "null": (b"null", UNPROCESSABLE),
    "number of 5000 digits": (b"1" * 5000, (400, "malformed_json")),
    "no message": (b"{}", UNPROCESSABLE),
    "message is null": (b'{"message": null}', UNPROCESSABLE),
    "message is a number": (b'{"message": 5}', UNPROCESSABLE),
    "message is a list": (b'{"message": ["a"]}', UNPROCESSABLE),
    "message is empty": (b'{"message": ""}', UNPROCESSABLE),
    "message is blank": (b'{"message": " \\n\\t\\u00a0"}', UNPROCESSABLE),
    "message with NUL": (b'{"message": "a\\u0000b"}', UNPROCESSABLE),
    "message is too long": (json.dumps({"message": "x" * 100_001}).encode(), UNPROCESSABLE),
    "message of 10 MB": (json.dumps({"message": "x" * 10_000_000}).encode(), (413, "request_too_large")),
    "unknown field": (b'{"message": "a", "massage": "b"}', UNPROCESSABLE),
    "100000 unknown fields": (
        json.dumps({"message": "a"} | {f"f{n}": 1 for n in range(80_000)}).encode(), UNPROCESSABLE,
    ),
    "unknown field of 900 kB": (json.dumps({"message": "a", "x" * 900_000: 1}).encode(), UNPROCESSABLE),
    "model is empty": (b'{"message": "a", "model": ""}', UNPROCESSABLE),
    "model with NUL": (b'{"message": "a", "model": "\\u0000"}', UNPROCESSABLE),
    "model is too long": (json.dumps({"message": "a", "model": "x" * 201}).encode(), UNPROCESSABLE),
    "unknown model": (b'{"message": "a", "model": "gpt-99"}', (422, "no_model")),
}  # fmt: skip

QUESTIONS: dict[str, tuple[dict[str, Any], tuple[int, str]]] = {
    "conversation is no id": ({"conversation_id": "mine"}, UNPROCESSABLE),
    "conversation is a number": ({"conversation_id": 5}, UNPROCESSABLE),
    "unknown conversation": ({"conversation_id": UNKNOWN}, (404, "not_found")),
    "parent is no id": ({"parent_id": "last"}, UNPROCESSABLE),
    "parent without a conversation": ({"parent_id": UNKNOWN}, UNPROCESSABLE),
    "edits is no id": ({"edits": ["a"]}, UNPROCESSABLE),
    "edits without a conversation": ({"edits": UNKNOWN}, UNPROCESSABLE),
    "collections is a text": ({"collections": "default"}, UNPROCESSABLE),
    "collections is empty": ({"collections": []}, UNPROCESSABLE),
    "collection is empty": ({"collections": [""]}, UNPROCESSABLE),
    "collection with a slash": ({"collections": ["a/b"]}, UNPROCESSABLE),
    "collection with NUL": ({"collections": ["a\0"]}, UNPROCESSABLE),
    "collection with a line end": ({"collections": ["a\n"]}, UNPROCESSABLE),
    "too many collections": ({"collections": ["a"] * 101}, UNPROCESSABLE),
    "unknown collection": ({"collections": ["nowhere"]}, (404, "not_found")),
    "no tokens": ({"max_tokens": 0}, UNPROCESSABLE),
    "negative tokens": ({"max_tokens": -1}, UNPROCESSABLE),
    "half a token": ({"max_tokens": 1.5}, UNPROCESSABLE),
    "too many tokens": ({"max_tokens": 32_769}, UNPROCESSABLE),
    "enormous": ({"max_tokens": 10**30}, UNPROCESSABLE),
    "infinite": ({"max_tokens": float("inf")}, UNPROCESSABLE),
    "not a number": ({"max_tokens": float("nan")}, UNPROCESSABLE),
    "stream is a text": ({"stream": "perhaps"}, UNPROCESSABLE),
}

HEADERS: dict[str, tuple[str, str, dict[str, str], tuple[int, str]]] = {
    "empty key": ("POST", "/chat", {"Idempotency-Key": ""}, UNPROCESSABLE),
    "key is too long": ("POST", "/chat", {"Idempotency-Key": "k" * 256}, UNPROCESSABLE),
    "key with NUL": ("POST", "/chat", {"Idempotency-Key": "a\0b"}, UNPROCESSABLE),
    **{
        f"position {position!r}": ("GET", "/turns/{turn}/stream", {"Last-Event-ID": position}, UNPROCESSABLE)
        for position in (
            "",
            "1",
            "a-b",
            "-1-1",
            "1-1-1",
            "$",
            "0-0\0",
            "9" * 20 + "-0",
            "\u0661-\u0661".encode().decode("latin-1"),
        )
    },
}

DOCUMENTS: dict[str, tuple[str, bytes, str, tuple[int, str]]] = {
    "no name": ("", b"a", "text/plain", UNPROCESSABLE),
    "empty name": ("name=", b"a", "text/plain", UNPROCESSABLE),
    "long name": (f"name={'n' * 256}", b"a", "text/plain", UNPROCESSABLE),
    "name with NUL": ("name=a%00b", b"a", "text/plain", UNPROCESSABLE),
    "name with a line end": ("name=a%0Ab", b"a", "text/plain", UNPROCESSABLE),
    "empty collection": ("name=a&collection=", b"a", "text/plain", UNPROCESSABLE),
    "collection with a path": ("name=a&collection=../a", b"a", "text/plain", UNPROCESSABLE),
    "collection with NUL": ("name=a&collection=a%00", b"a", "text/plain", UNPROCESSABLE),
    "collection with a line end": ("name=a&collection=a%0A", b"a", "text/plain", UNPROCESSABLE),
    "collection beyond ASCII": ("name=a&collection=%C3%A9", b"a", "text/plain", UNPROCESSABLE),
    "long collection": (f"name=a&collection={'c' * 101}", b"a", "text/plain", UNPROCESSABLE),
    "empty": ("name=a", b"", "text/plain", (422, "undecodable_document")),
    "image": ("name=a", b"a", "image/png", (415, "unsupported_media_type")),
    "nonsense type": ("name=a", b"a", "text", (415, "unsupported_media_type")),
    "nonsense charset": ("name=a", b"a", "text/plain; charset=klingon", (415, "unsupported_media_type")),
    "empty charset": ("name=a", b"a", "text/plain; charset=", (415, "unsupported_media_type")),
    "charset with NUL": ("name=a", b"a", "text/plain; charset=a\0b", (415, "unsupported_media_type")),
    **{
        f"Python's {charset}": ("name=a", b"\\ud800 xn--a", f"text/plain; charset={charset}", (415, "unsupported_media_type"))
        for charset in ("idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined")
    },
    "too large": ("name=a", b"x" * 100_001, "text/plain", (413, "request_too_large")),
    "metadata that are no JSON": ("name=a&metadata=a", b"a", "text/plain", UNPROCESSABLE),
    "metadata that are a list": ("name=a&metadata=[1]", b"a", "text/plain", UNPROCESSABLE),
    "nested metadata": ("name=a&metadata={%22a%22:{}}", b"a", "text/plain", UNPROCESSABLE),
    "metadata with NUL": ("name=a&metadata={%22a%22:%22%5Cu0000%22}", b"a", "text/plain", UNPROCESSABLE),
    "metadata that are not a number": ("name=a&metadata={%22a%22:NaN}", b"a", "text/plain", UNPROCESSABLE),
    "too many metadata": (
        "name=a&metadata={" + ",".join(f"%22{n}%22:1" for n in range(51)) + "}", b"a", "text/plain", UNPROCESSABLE,
    ),
    "no date": ("name=a&dated=yesterday", b"a", "text/plain", UNPROCESSABLE),
    "a date before all": ("name=a&dated=0001-01-01T00:00:00%2B23:59", b"a", "text/plain", UNPROCESSABLE),
    "a date after all": ("name=a&dated=9999-12-31T23:59:59-23:59", b"a", "text/plain", UNPROCESSABLE),
    **{
        f"name {name}": (f"name={name}", b"a", "text/plain", UNPROCESSABLE)
        for name in (
            "..", "../a", "a/../../b", "a/./b", "/etc/passwd", "a//b", "a/", "a%5Cb", "..%5Cb", "a%7F", "%ED%A0%80%00",
            "%20", "a/%20/b", "a/%20..",
        )
    },
}  # fmt: skip

UNREADABLE: dict[str, tuple[bytes, str, str]] = {
    "blank": (b" \n\t ", "text/plain", "no_text"),
    "only a byte order mark": (b"\xef\xbb\xbf", "text/plain", "no_text"),
    "NUL": (b"a\0b", "text/plain", "undecodable_document"),
    "binary": (bytes(range(256)) * 10, "text/markdown", "undecodable_document"),
    "invalid UTF-8": (b"caf\xe9", "text/plain; charset=utf-8", "undecodable_document"),
    "surrogates in UTF-7": (b"+2AA-", "text/plain; charset=utf-7", "unsupported_media_type"),
    "odd UTF-16": (b"abc", "text/plain; charset=utf-16", "undecodable_document"),
    "binary as Latin-1": (bytes(range(256)), "text/plain; charset=latin-1", "undecodable_document"),
    "beyond ASCII": (b"\xc3\xa9", 'text/plain; charset="us-ascii"', "undecodable_document"),
    "no text encoding": (b"a", "text/plain; charset=zlib", "unsupported_media_type"),
    "a picture of no type": (b"\x89PNG\r\n\x1a\n", "application/octet-stream", "unsupported_media_type"),
    "a text that is called a PDF": (b"Text.", "application/pdf", "unsupported_media_type"),
}
"""What is stored as it comes, and turns out to be no text when it is to be indexed."""


def outcome(reply: Reply) -> tuple[int, str]:
    """Return status and code, after a look at what no answer may hold."""
    assert len(reply.body) < 10_000
    assert b"Traceback" not in reply.body
    assert b"SELECT" not in reply.body
    return reply.status, reply.code()


@pytest.mark.parametrize(("function", "path"), JSON_ROUTES)
async def test_a_body_that_is_wrong_is_refused(platform: Platform, function: str, path: str) -> None:
    before = platform.counts()
    answers = {
        case: outcome(await platform.call(function, "POST", path, body=body)) for case, (body, _) in BODIES.items()
    }
    assert answers == {case: expected for case, (_, expected) in BODIES.items()}
    # That there is no such model is known when the question has been embedded.
    assert platform.counts() == after_embeddings(before, 1 if function == "chat" else 0)


@pytest.mark.parametrize(("function", "path"), JSON_ROUTES)
async def test_a_body_that_claims_to_be_no_json_is_refused(platform: Platform, function: str, path: str) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "", "json", "multipart/form-data; boundary=x"):
        reply = await platform.call(function, "POST", path, {"message": "a"}, headers={"Content-Type": kind})
        assert outcome(reply) == (415, "unsupported_media_type"), kind
        assert reply.headers["accept-post"] == "application/json"
    for kind in ("application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"):
        document = {"message": "a"} | ({"stream": False} if function == "chat" else {})
        reply = await platform.call(function, "POST", path, document, headers={"Content-Type": kind})
        assert reply.status in {200, 202}, kind


async def test_a_question_with_a_wrong_field_is_refused_and_leaves_nothing_but_what_its_embedding_cost(
    platform: Platform,
) -> None:
    before = platform.counts()
    answers = {
        case: outcome(await platform.call("chat", "POST", "/chat", {"message": "What?"} | fields))
        for case, (fields, _) in QUESTIONS.items()
    }
    assert answers == {case: expected for case, (_, expected) in QUESTIONS.items()}
    embedded = [case for case, (_, expected) in QUESTIONS.items() if expected != UNPROCESSABLE or "without a" in case]
    assert (len(embedded), len(platform.embedded())) == (4, 4)
    assert platform.counts() == after_embeddings(before, 4)
    assert platform.held() == 0


async def test_every_wrong_field_is_named(platform: Platform) -> None:
    reply = await platform.call("chat", "POST", "/chat", {"message": 5, "max_tokens": 0, "collections": ["a", "/"]})
    errors = reply.json()["errors"]
    assert [error["field"] for error in errors] == ["message", "collections.1", "max_tokens"]
    assert all(error["message"] for error in errors)


WORDED: dict[str, tuple[str, str, dict[str, Any] | None, list[dict[str, str]]]] = {
    "blank": ("chat", "/chat", {"message": " "}, [{"field": "message", "message": "must not be blank"}]),
    "too long": (
        "chat", "/chat", {"message": "x" * 100_001},
        [{"field": "message", "message": "String should have at most 100000 characters"}],
    ),
    "metadata": (
        "ingestion", "/documents?name=a.md&metadata={%22a%22:{}}", None,
        [{"field": "metadata.a", "message": "must be a text of 1 to 1000 characters, a finite number, true or false"}],
    ),
    "a filter": (
        "retrieval", "/search", {"q": "a", "filter": {"metadata": {"a": [1]}}},
        [{"field": "filter.metadata.a", "message": "must be a text of at most 255 characters, a number, true, false or null"}],
    ),
}  # fmt: skip


async def test_what_is_wrong_with_a_field_is_said_in_words_of_the_api(platform: Platform) -> None:
    """And not in those of the library that looked: it would name Python's functions, with their addresses."""
    for case, (function, path, document, errors) in WORDED.items():
        reply = await platform.call(function, "POST", path, document)
        assert reply.json()["errors"] == errors, case
        assert reply.json()["detail"] == f"{errors[0]['field']}: {errors[0]['message']}", case


async def test_a_compressed_body_is_refused_as_such(platform: Platform) -> None:
    packed = gzip.compress(b'{"message": "What?"}')
    for function, path, kind in (
        ("chat", "/chat", "application/json"),
        ("ingestion", "/documents?name=a.md", "text/markdown"),
        ("ingestion", "/documents", "multipart/form-data; boundary=x"),
    ):
        headers = {"Content-Type": kind, "Content-Encoding": "gzip"}
        reply = await platform.call(function, "POST", path, headers=headers, body=packed)
        assert outcome(reply) == (415, "unsupported_media_type"), path
        assert reply.headers["accept-encoding"] == "identity"
        assert "Content-Encoding" in reply.json()["detail"]
    headers = {"Content-Type": "text/markdown", "Content-Encoding": "identity"}
    assert (await platform.call("ingestion", "POST", "/documents?name=a.md", headers=headers, body=b"A.")).status == 202


async def test_a_body_of_which_nothing_is_required_may_be_left_out(platform: Platform) -> None:
    turn = await platform.begin()
    await platform.deliver()
    async with carried(platform):
        again = await platform.call("chat", "POST", f"/turns/{turn}/regenerate")
    assert again.status == 200
    assert (await platform.call("ingestion", "PUT", "/collections/new")).status == 201


async def test_a_header_that_is_wrong_is_refused(platform: Platform) -> None:
    turn = await platform.begin()
    before = platform.counts()
    answers = {}
    for case, (method, path, headers, _) in HEADERS.items():
        document = {"message": "What?"} if method == "POST" else None
        reply = await platform.call("chat", method, path.format(turn=turn), document, headers=headers)
        answers[case] = outcome(reply)
    assert answers == {case: expected for case, (*_, expected) in HEADERS.items()}
    assert platform.counts() == before


async def test_a_document_that_is_wrong_is_refused_and_leaves_nothing(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_DOCUMENT_BYTES", "100000")
    get_settings.cache_clear()
    before = platform.counts()
    answers = {}
    for case, (query, body, kind, _) in DOCUMENTS.items():
        reply = await platform.call(
            "ingestion", "POST", f"/documents?{query}", headers={"Content-Type": kind}, body=body
        )
        answers[case] = outcome(reply)
    assert answers == {case: expected for case, (*_, expected) in DOCUMENTS.items()}
    assert platform.counts() == before


async def test_what_cannot_be_read_fails_with_its_cause_and_stops_no_other(platform: Platform) -> None:
    for case, (body, kind, _) in UNREADABLE.items():
        uploaded = await platform.upload(case.replace(" ", "%20"), body, kind)
        assert uploaded.status == 202, case
    await platform.upload("readable", b"Text.", "text/plain")
    assert {reply.status for reply in await platform.deliver()} == {200}
    listed = (await platform.call("ingestion", "GET", "/documents")).json()
    ends = {document["name"]: (document["status"], document["error_code"]) for document in listed["documents"]}
    expected = {case: ("failed", code) for case, (*_, code) in UNREADABLE.items()}
    assert ends == expected | {"readable": ("indexed", None)}
    assert all(document["advice"] for document in listed["documents"] if document["status"] == "failed")
    assert listed["counts"] == {"received": 0, "processing": 0, "indexed": 1, "failed": len(UNREADABLE)}


async def test_a_list_of_documents_is_asked_for_by_a_valid_name(platform: Platform) -> None:
    for collection in ("a%00b", "", "a/b", "%ff"):
        reply = await platform.call("ingestion", "GET", f"/documents?collection={collection}")
        assert outcome(reply) == UNPROCESSABLE, collection


async def test_a_body_without_a_declared_length_is_cut_off_too(platform: Platform) -> None:
    def endless() -> Iterable[bytes]:
        yield b'{"message": "'
        for _ in range(160):
            yield b"x" * 65536

    headers = platform.bearer() | {"Content-Type": "application/json"}
    reply = await call(platform.serve("chat"), "POST", "/chat", headers, endless())
    assert outcome(reply) == (413, "request_too_large")
    for length in ("99999999999", "10485760"):
        reply = await call(platform.serve("chat"), "POST", "/chat", headers | {"Content-Length": length}, b"{")
        assert outcome(reply) == (413, "request_too_large")


async def test_what_is_unknown_or_anothers_is_not_found(platform: Platform) -> None:
    document = (await platform.store("a.md", "Text."))["id"]
    turn = await platform.begin()
    conversation = (await platform.read(turn))["conversation_id"]
    before = platform.counts()
    others = (platform.bearer("eve", platform.tenants[1]), platform.bearer("eve"))
    for headers in others:
        for method, path in (
            ("GET", f"/turns/{turn}"),
            ("GET", f"/turns/{turn}/stream"),
            ("POST", f"/turns/{turn}/stop"),
            ("GET", f"/turns/{UNKNOWN}"),
            ("GET", f"/turns/{UNKNOWN}/stream"),
            ("POST", f"/turns/{UNKNOWN}/stop"),
        ):
            assert outcome(await platform.call("chat", method, path, headers=headers)) == (404, "not_found"), path
        question = {"message": "What?", "conversation_id": conversation}
        reply = await platform.call("chat", "POST", "/chat", question, headers=headers)
        assert outcome(reply) == (404, "not_found")
    for path in (f"/documents/{document}", f"/documents/{UNKNOWN}"):
        assert outcome(await platform.call("ingestion", "GET", path, headers=others[0])) == (404, "not_found"), path
    assert (await platform.call("ingestion", "GET", "/documents", headers=others[0])).json()["documents"] == []
    reply = await platform.call(
        "chat", "POST", "/chat", {"message": "a", "collections": ["default"]}, headers=others[0]
    )
    assert outcome(reply) == (404, "not_found")
    # Of the questions of each of the others, two about a conversation and one about a collection, the embedding is charged.
    assert platform.counts() == after_embeddings(before, 3)
    assert (await platform.read(turn))["status"] == "queued"


def tokens(tenant: UUID) -> dict[str, list[tuple[str, str]]]:
    """Return Authorization headers that no function may accept."""

    def token(secret: str = DEV_JWT_SECRET, **claims: Any) -> str:
        return issue_dev_token(secret=secret, tenant_id=tenant, **({"subject": "ann"} | claims))

    def raw(algorithm: str | None = "HS256", **claims: object) -> str:
        import jwt

        known = jwt.decode(token(), options={"verify_signature": False}) | claims
        kept = {name: value for name, value in known.items() if value is not None}
        return jwt.encode(kept, DEV_JWT_SECRET if algorithm else "", algorithm=algorithm)

    header, payload, signature = token().split(".")
    values = {
        "none": [],
        "two": [f"Bearer {token()}", f"Bearer {token()}"],
        "empty": [""],
        "scheme only": ["Bearer"],
        "no token": ["Bearer "],
        "basic": ["Basic YW5uOmFubg=="],
        "rubbish": ["Bearer rubbish"],
        "beyond ASCII": ["Bearer \xe9.\xe9.\xe9"],
        "NUL": ["Bearer a.b.\0"],
        "long": [f"Bearer {'x' * 9000}"],
        "two in one": [f"Bearer {token()} {token()}"],
        "expired": [f"Bearer {token(ttl_seconds=-60)}"],
        "foreign": [f"Bearer {token(secret='somebody-elses-secret-of-32-bytes')}"],
        "issuer": [f"Bearer {token(issuer='http://elsewhere')}"],
        "audience": [f"Bearer {token(audience='another-api')}"],
        "cut": [f"Bearer {header}.{payload}"],
        "unsigned": [f"Bearer {raw(None)}"],
        "signature of another": [f"Bearer {header}.{payload}.{signature[::-1]}"],
        "algorithm": [f"Bearer {raw('HS512')}"],
        "no tenant": [f"Bearer {raw(tenant_id=None)}"],
        "tenant is no id": [f"Bearer {raw(tenant_id='alpha')}"],
        "tenant is a number": [f"Bearer {raw(tenant_id=5)}"],
        "tenant is a list": [f"Bearer {raw(tenant_id=[str(tenant)])}"],
        "no subject": [f"Bearer {raw(sub=None)}"],
        "empty subject": [f"Bearer {raw(sub='')}"],
        "long subject": [f"Bearer {raw(sub='s' * 256)}"],
        "subject with NUL": [f"Bearer {token(subject=chr(0))}"],
        "subject with a lone surrogate": [f"Bearer {token(subject=chr(0xD800))}"],
        "no expiry": [f"Bearer {raw(exp=None)}"],
        "roles are no list": [f"Bearer {raw(roles='admin')}"],
    }
    return {case: [("Authorization", value) for value in each] for case, each in values.items()}


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_without_a_valid_token_nothing_is_answered(platform: Platform) -> None:
    before = platform.counts()
    for case, headers in tokens(platform.tenants[0]).items():
        for function, method, path in ROUTES:
            reply = await call(platform.serve(function), method, path, headers, b'{"message": "a"}')
            assert outcome(reply) == (401, "unauthenticated"), (case, path)
            assert reply.headers["www-authenticate"].startswith("Bearer"), case
    assert platform.counts() == before


async def test_development_tokens_are_refused_in_prod(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVIRONMENT", "prod")
    get_settings.cache_clear()
    for function, method, path in ROUTES:
        assert outcome(await platform.call(function, method, path)) == (401, "unauthenticated"), path


async def test_a_token_of_an_unknown_tenant_begins_and_stores_nothing(platform: Platform) -> None:
    headers = platform.bearer(tenant=uuid4())
    before = platform.counts()
    reply = await platform.call("chat", "POST", "/chat", {"message": "a"}, headers=headers)
    assert outcome(reply) == (403, "tenant_unset")
    reply = await platform.call(
        "ingestion", "POST", "/documents?name=a", headers=headers | {"Content-Type": "text/plain"}, body=b"a"
    )
    assert outcome(reply) == (403, "tenant_unset")
    assert platform.counts() == before


@pytest.mark.parametrize("function", ["chat", "ingestion", "routing", "health"])
async def test_an_unknown_address_or_method_is_a_problem_too(platform: Platform, function: str) -> None:
    for method, path in (
        ("GET", "/"), ("GET", "/nowhere"), ("POST", "/health/live"), ("GET", "/turns/5"), ("GET", "/documents/a%00b"),
        ("GET", "/robots.txt"), ("GET", "/favicon.ico"), ("GET", "/%ff"),  ("OPTIONS", "/nowhere"),
    ):  # fmt: skip
        reply = await platform.call(function, method, path)
        assert outcome(reply) == (404, "route_not_found"), path
        assert reply.json()["detail"].startswith(f"There is no {method} /"), path
    path = {"chat": "/chat", "ingestion": "/documents", "routing": "/routing/models", "health": "/health"}[function]
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"):
        reply = await platform.call(function, method, path)
        assert outcome(reply) == (405, "method_not_allowed"), method
        assert reply.json()["detail"] == f"There is no {method} {path}, only {reply.headers['allow']}."


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
FIELDS = ("message", "conversation_id", "parent_id", "edits", "collections", "model", "max_tokens", "stream", "other")
QUESTION_LIKE = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5)


@pytest.mark.parametrize(("function", "path"), JSON_ROUTES)
@given(document=JSON | QUESTION_LIKE | QUESTION_LIKE.map(lambda fields: {"message": "What?"} | fields))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_json_at_all_makes_a_function_fail(
    platform: Platform, function: str, path: str, document: object
) -> None:
    if isinstance(document, dict):
        document = document | {"stream": False}
    reply = await platform.call(function, "POST", path, document)
    assert reply.status < 500, document
    if reply.status >= 400:
        outcome(reply)


@given(body=st.binary(max_size=200), path=st.sampled_from([path for _, path in JSON_ROUTES]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_bytes_at_all_make_a_function_fail(platform: Platform, body: bytes, path: str) -> None:
    reply = await platform.call(FUNCTIONS[path], "POST", path, body=body)
    assert outcome(reply)[0] in {400, 422}
    uploaded = await platform.upload("a.md", body)
    assert uploaded.status == 202 or outcome(uploaded) == (422, "undecodable_document")
