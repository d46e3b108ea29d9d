"""uvicorn's HTTP protocol on httptools, with a bound for the head of a request, which the parser has none for."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 16 * 1024
"""Of a head that comes in several reads, without the first of them: what a read brings is bounded anyway."""


class HttpProtocol(HttpToolsProtocol):
    """One HTTP connection."""

    _head_bytes: int | None = None
    """What has come of a head that is not complete; None: there is none."""

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        had = self._head_bytes
        super().data_received(data)
        if had is None or self._head_bytes != had or self.transport.is_closing():
            return
        self._head_bytes = had + len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self.send_400_response("The head of the request is too long.")

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """End a head."""
        self._head_bytes = None
        super().on_headers_complete()
