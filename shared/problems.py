"""Errors as RFC 9457 problem documents: one registry of stable codes, and the SQLSTATEs that PostgreSQL raises for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse

CHALLENGE = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
"""What each 401 says (RFC 9110, section 15.5.2; RFC 6750, section 3)."""
TYPE_PREFIX = "urn:enterprise-agents:problem:"


@dataclass(frozen=True)
class ProblemType:
    """What a code means over HTTP."""

    status: HTTPStatus
    title: str
    sqlstate: str | None = None
    """The SQLSTATE of class EA by which the platform's SQL raises it (see ops.problems())."""


PROBLEM_TYPES: Mapping[str, ProblemType] = {
    "invalid_request": ProblemType(
        HTTPStatus.UNPROCESSABLE_ENTITY, "The request does not have the expected shape", "EA012"
    ),
    "malformed_json": ProblemType(HTTPStatus.BAD_REQUEST, "The request body is not JSON"),
    "malformed_event": ProblemType(HTTPStatus.BAD_REQUEST, "The request is not a CloudEvent that is expected here"),
    "unauthenticated": ProblemType(HTTPStatus.UNAUTHORIZED, "A valid bearer token or API key is needed", "EA009"),
    "forbidden": ProblemType(HTTPStatus.FORBIDDEN, "The caller may not do this", "EA008"),
    "user_disabled": ProblemType(HTTPStatus.FORBIDDEN, "The user is disabled", "EA010"),
    "tenant_suspended": ProblemType(HTTPStatus.FORBIDDEN, "The tenant is suspended", "EA011"),
    "conflict": ProblemType(HTTPStatus.CONFLICT, "The object is there already, or not in a state for this", "EA013"),
    "not_found": ProblemType(HTTPStatus.NOT_FOUND, "No such object", "EA002"),
    "route_not_found": ProblemType(HTTPStatus.NOT_FOUND, "No such address"),
    "method_not_allowed": ProblemType(HTTPStatus.METHOD_NOT_ALLOWED, "The address does not take this method"),
    "request_too_large": ProblemType(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The request is too large"),
    "unsupported_media_type": ProblemType(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "This content type cannot be read"),
    "precondition_failed": ProblemType(
        HTTPStatus.PRECONDITION_FAILED, "The object is not as the request expects it", "EA030"
    ),
    "malformed_multipart": ProblemType(HTTPStatus.BAD_REQUEST, "The request body is not multipart/form-data"),
    "dataref_forbidden": ProblemType(HTTPStatus.UNPROCESSABLE_ENTITY, "Nothing is fetched from this address"),
    "dataref_refused": ProblemType(HTTPStatus.UNPROCESSABLE_ENTITY, "The address does not give its content"),
    "dataref_unavailable": ProblemType(HTTPStatus.SERVICE_UNAVAILABLE, "The address does not answer"),
    "document_too_large": ProblemType(HTTPStatus.UNPROCESSABLE_ENTITY, "The document is too large"),
    "too_many_pages": ProblemType(HTTPStatus.UNPROCESSABLE_ENTITY, "The document has too many pages"),
    "undecodable_document": ProblemType(HTTPStatus.UNPROCESSABLE_ENTITY, "The document is not readable text"),
    "no_text": ProblemType(HTTPStatus.UNPROCESSABLE_ENTITY, "The document has no text"),
    "encrypted_document": ProblemType(HTTPStatus.UNPROCESSABLE_ENTITY, "The document is protected by a password"),
    "damaged_document": ProblemType(HTTPStatus.UNPROCESSABLE_ENTITY, "The document is cut off or damaged"),
    "archive_bomb": ProblemType(HTTPStatus.UNPROCESSABLE_ENTITY, "The document unpacks to far more than it is"),
    "nested_too_deep": ProblemType(HTTPStatus.UNPROCESSABLE_ENTITY, "The document is nested too deeply"),
    "extraction_timeout": ProblemType(HTTPStatus.UNPROCESSABLE_ENTITY, "Reading the document takes too long"),
    "extraction_out_of_memory": ProblemType(
        HTTPStatus.UNPROCESSABLE_ENTITY, "Reading the document takes too much memory"
    ),
    "extraction_crashed": ProblemType(HTTPStatus.UNPROCESSABLE_ENTITY, "Reading the document failed"),
    "tenant_unset": ProblemType(HTTPStatus.FORBIDDEN, "The request acts for no known tenant", "EA001"),
    "idempotency_conflict": ProblemType(HTTPStatus.CONFLICT, "The idempotency key belongs to another request", "EA003"),
    "budget_exceeded": ProblemType(HTTPStatus.TOO_MANY_REQUESTS, "The budget does not hold the request", "EA004"),
    "lease_lost": ProblemType(HTTPStatus.CONFLICT, "The work is in other hands", "EA005"),
    "budget_paused": ProblemType(HTTPStatus.TOO_MANY_REQUESTS, "The budget is paused", "EA014"),
    "no_healthy_model": ProblemType(
        HTTPStatus.SERVICE_UNAVAILABLE, "Every model that could answer is failing", "EA015"
    ),
    "no_model": ProblemType(HTTPStatus.UNPROCESSABLE_ENTITY, "No model can answer", "EA006"),
    "tenant_elsewhere": ProblemType(HTTPStatus.TEMPORARY_REDIRECT, "The tenant is at home in another region", "EA040"),
    "residency_refused": ProblemType(
        HTTPStatus.FORBIDDEN, "The tenant is at home in another region, and not served from this one", "EA041"
    ),
    "foreign_event": ProblemType(HTTPStatus.UNPROCESSABLE_ENTITY, "The event belongs to another region", "EA042"),
    "in_progress": ProblemType(HTTPStatus.CONFLICT, "The work is in progress elsewhere"),
    "too_many_turns": ProblemType(HTTPStatus.TOO_MANY_REQUESTS, "The socket follows as many turns as it may"),
    "rate_limited": ProblemType(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests"),
    "model_refused": ProblemType(HTTPStatus.UNPROCESSABLE_ENTITY, "The model server refused the request"),
    "model_unavailable": ProblemType(HTTPStatus.SERVICE_UNAVAILABLE, "The model server does not answer"),
    "model_timeout": ProblemType(HTTPStatus.GATEWAY_TIMEOUT, "The model server was silent for too long"),
    "model_stream_broken": ProblemType(HTTPStatus.BAD_GATEWAY, "The model server's answer broke off"),
    "attempts_exhausted": ProblemType(HTTPStatus.BAD_GATEWAY, "The answer was begun several times and never finished"),
    "expired": ProblemType(HTTPStatus.GATEWAY_TIMEOUT, "The answer was not finished in time"),
    "embedding_unavailable": ProblemType(HTTPStatus.SERVICE_UNAVAILABLE, "The embedding endpoint does not answer"),
    "embedding_width_mismatch": ProblemType(
        HTTPStatus.BAD_GATEWAY, "The embedding model's vectors have another width", "EA007"
    ),
    "embedding_model_changed": ProblemType(
        HTTPStatus.SERVICE_UNAVAILABLE, "The platform has just begun to use another embedding model", "EA020"
    ),
    "embedding_rejected": ProblemType(HTTPStatus.BAD_GATEWAY, "The embedding endpoint refused the request"),
    "rerank_unavailable": ProblemType(HTTPStatus.SERVICE_UNAVAILABLE, "The reranking endpoint does not answer"),
    "rerank_rejected": ProblemType(HTTPStatus.BAD_GATEWAY, "The reranking endpoint refused the request"),
    "database_unavailable": ProblemType(HTTPStatus.SERVICE_UNAVAILABLE, "The database does not answer"),
    "shutting_down": ProblemType(HTTPStatus.SERVICE_UNAVAILABLE, "The process ends"),
    "internal_error": ProblemType(HTTPStatus.INTERNAL_SERVER_ERROR, "The request failed for a reason of our own"),
}

CODE_BY_SQLSTATE = {p.sqlstate: code for code, p in PROBLEM_TYPES.items() if p.sqlstate}


class Problem(Exception):
    """A failure that the caller is told about: a code of PROBLEM_TYPES, a sentence, and further members."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.extra = dict(extra or {})
        self.headers = (CHALLENGE if code == "unauthenticated" else {}) | dict(headers or {})

    @property
    def status(self) -> int:
        """The HTTP status of the code."""
        return PROBLEM_TYPES[self.code].status.value

    def document(self) -> dict[str, Any]:
        """Return the problem document (RFC 9457, section 3.1) with the code as an extension member."""
        kind = PROBLEM_TYPES[self.code]
        return {
            **self.extra,
            "type": TYPE_PREFIX + self.code,
            "title": kind.title,
            "status": kind.status.value,
            "detail": self.detail,
            "code": self.code,
        }

    def response(self) -> JSONResponse:
        """Return the document as an HTTP response."""
        return JSONResponse(
            self.document(),
            status_code=self.status,
            headers=self.headers,
            media_type="application/problem+json",
        )
