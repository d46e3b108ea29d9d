"""E-mail: its subject, who wrote to whom, what it says, and what is attached."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import Message

from functions.ingestion.reading.limits import Limits, Refusal, check_length
from functions.ingestion.reading.text import decode, known

PEOPLE = ("From", "To", "Cc", "Date")
SEALED = frozenset({"multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime"})
MAX_PARTS_DEEP = 30
"""Parts within parts of one message; mail programs use four or five."""

Read = Callable[[bytes, str, str], str]
"""Reads bytes of a media type and a name as Markdown; raises Refusal."""


@dataclass
class Mail:
    """A message, taken apart."""

    headers: dict[str, str]
    plain: list[str] = field(default_factory=list)
    html: list[str] = field(default_factory=list)
    attachments: list[tuple[str, str, bytes]] = field(default_factory=list)
    """Name, media type, content."""


def mail_to_markdown(
    original: bytes, html: Callable[[str], str], read: Read, limits: Limits
) -> tuple[str, dict[str, str]]:
    """Return an e-mail as Markdown, and its headers by their names in lower case.

    Raises Refusal `encrypted_document`, `nested_too_deep`, `document_too_large`, and what `read` raises for an attachment
    that endangers the whole.
    """
    mail = _taken_apart(message_from_bytes(original, policy=policy.default))
    subject = mail.headers.get("subject", "")
    parts = [f"# {subject}"] if subject else []
    parts.append(
        "  \n".join(f"{name}: {mail.headers[name.lower()]}" for name in PEOPLE if name.lower() in mail.headers)
    )
    said = "\n\n".join(mail.plain)
    parts.append(said if said.strip() else "\n\n".join(html(page) for page in mail.html))
    for name, media_type, content in mail.attachments:
        parts.append(f"## {name or media_type}\n\n{read(content, media_type, name)}")
        check_length(sum(map(len, parts)), limits)
    return "\n\n".join(part.strip("\n") for part in parts if part.strip()) + "\n", mail.headers


def _taken_apart(message: Message) -> Mail:
    if message.get_content_type() in SEALED:
        raise Refusal("encrypted_document", "The e-mail is encrypted: save it without.")
    mail = Mail({name.lower(): text for name in ("Subject", *PEOPLE) if (text := _header(message, name))})
    for part in _leaves(message):
        kind, name = part.get_content_type(), _name(part)
        if kind == "message/rfc822":
            for inner in _inner(part):
                title = name or _header(inner, "Subject") or "message"
                mail.attachments.append((title, kind, inner.as_bytes(policy=policy.compat32)))
            continue
        content = part.get_payload(decode=True)
        if not isinstance(content, bytes):
            continue
        charset = str(part.get_param("charset") or "")
        if name or part.get_content_disposition() == "attachment":
            mail.attachments.append((name, f"{kind}; charset={charset}" if known(charset) else kind, content))
        elif kind in {"text/plain", "text/html"}:
            (mail.plain if kind == "text/plain" else mail.html).append(
                _text(content, charset, markup=kind == "text/html")
            )
    return mail


def _leaves(message: Message) -> Iterator[Message]:
    """Yield the parts that have no parts, in their order; an attached message is one."""
    waiting = [(message, 0)]
    while waiting:
        part, depth = waiting.pop()
        if depth > MAX_PARTS_DEEP:
            raise Refusal("nested_too_deep", f"The e-mail has parts within parts, more than {MAX_PARTS_DEEP} deep.")
        if part.get_content_maintype() == "multipart" and part.is_multipart():
            waiting.extend((inner, depth + 1) for inner in reversed(_inner(part)))
        else:
            yield part


def _inner(part: Message) -> list[Message]:
    payload = part.get_payload()
    return [inner for inner in payload if isinstance(inner, Message)] if isinstance(payload, list) else []


def _text(content: bytes, charset: str, *, markup: bool) -> str:
    """Return what a part says; its charset is often told wrong."""
    for told in (known(charset), None):
        try:
            return decode(content, told, markup=markup)[0]
        except Refusal:
            continue
    return content.decode("utf-8", "replace").replace("\0", "")


def _header(message: Message, name: str) -> str:
    """Return a header in one line, decoded where that is possible."""
    try:
        value = message[name]
    except Exception:  # noqa: BLE001 - the parser of structured headers raises errors of many kinds for malformed ones
        value = next((raw for key, raw in message.raw_items() if key.lower() == name.lower()), "")
    return " ".join(str(value or "").split())


def _name(part: Message) -> str:
    try:
        return " ".join((part.get_filename() or "").split())
    except Exception:  # noqa: BLE001 - as above
        return ""
