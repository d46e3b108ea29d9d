"""uvicorn's HTTP protocol on httptools, with what that leaves open: a bound for heads, and bodies that it would not read."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 16 * 1024
"""Of a head, or of trailers, that come in several reads: what one read brings is bounded anyway."""
LENGTHS = frozenset({b"content-length", b"transfer-encoding"})


class HttpProtocol(HttpToolsProtocol):
    """One HTTP connection."""

    _steps = 0
    """How often a head has begun or ended, or something of a body come."""
    _waiting_bytes = 0
    """What has come since the last step."""
    _in_body = False

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        steps = self._steps
        super().data_received(data)
        if self._steps != steps or self.transport.is_closing():
            self._waiting_bytes = 0
            return
        self._waiting_bytes += len(data)
        if self._waiting_bytes > MAX_HEAD_BYTES:
            self.send_400_response("The head of the request is too long.")

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._steps += 1
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers mean nothing here."""
        if not self._in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """End a head. Raises ValueError, which becomes a 400, for one that RFC 9112 wants refused, or that cannot be served."""
        self._steps += 1
        names = [name for name, _ in self.headers]
        if self.parser.get_http_version() == "1.1" and names.count(b"host") != 1:
            raise ValueError("not exactly one Host (RFC 9112, section 3.2)")
        ignored = self.parser.should_upgrade() and not self._should_upgrade()
        if ignored and not LENGTHS.isdisjoint(names):
            # The parser takes what follows for the other protocol: not for the body, but for a request.
            raise ValueError("a body after an Upgrade that is not understood")
        self._in_body = True
        super().on_headers_complete()
        if ignored:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._steps += 1
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._steps += 1
        self._in_body = False
        super().on_message_complete()
