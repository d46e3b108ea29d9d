"""Problems in the shape of the OpenAI API, so that its clients raise their own exceptions.

Source: the API reference of OpenAI, "Error codes". The platform's own stable code stands beside, as `problem`.
"""

from http import HTTPStatus

from starlette.responses import JSONResponse, Response

from shared.models import Shape
from shared.problems import Problem

CODES = {
    "unauthenticated": "invalid_api_key",
    "rate_limited": "rate_limit_exceeded",
    "budget_exceeded": "insufficient_quota",
    "budget_paused": "insufficient_quota",
    "no_model": "model_not_found",
}
"""Where that API has a code of its own."""
STATUSES = {
    "no_model": HTTPStatus.NOT_FOUND,
    "invalid_request": HTTPStatus.BAD_REQUEST,
    "model_refused": HTTPStatus.BAD_REQUEST,
}
TYPES: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}
TOLD = ("turn_id", "region", "home")
"""Members of a problem that stand beside."""
NOT_AGAIN = {"x-should-retry": "false"}
"""What its clients heed: a budget is not back in a second."""


class Error(Shape):
    """What went wrong; `problem` is the platform's code."""

    message: str
    type: str
    param: str | None
    code: str
    problem: str
    turn_id: str | None = None
    """Where there was a turn."""


class ErrorDocument(Shape):
    """The body of an error."""

    error: Error


def document(problem: Problem) -> dict[str, object]:
    """Return the problem as the body of an error."""
    status = _status(problem)
    code = CODES.get(problem.code, problem.code)
    if _too_long(problem):
        code = "context_length_exceeded"
    kind = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else TYPES.get(status, "invalid_request_error")
    if code == "insufficient_quota":
        kind = code
    errors = problem.extra.get("errors") or [{}]
    return {
        "error": {
            "message": problem.detail,
            "type": kind,
            "param": errors[0].get("field") or None,
            "code": code,
            "problem": problem.code,
            **{name: problem.extra[name] for name in TOLD if name in problem.extra},
        }
    }


def render(problem: Problem) -> Response:
    """Return the problem as a response."""
    headers = {**problem.headers, **(NOT_AGAIN if CODES.get(problem.code) == "insufficient_quota" else {})}
    return JSONResponse(document(problem), status_code=_status(problem), headers=headers)


def _status(problem: Problem) -> int:
    return int(HTTPStatus.BAD_REQUEST) if _too_long(problem) else int(STATUSES.get(problem.code, problem.status))


def _too_long(problem: Problem) -> bool:
    """Return whether what stands against every model, or against one, is that the prompt does not fit into its window."""
    considered = problem.extra.get("considered") or ()
    return problem.code == "no_model" and any(model.get("rejected") == "context_window" for model in considered)
