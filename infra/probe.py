"""Whether the server of this container is ready: exit status 0 or 1. `python -IS infra/probe.py [path]`; PORT says where it is.

The health check of the compose files. It is run each few seconds in every container, hence a bare socket and no imports.
"""

import os
import socket
import sys

TIMEOUT_SECONDS = 3


def ready(port: int, path: str) -> bool:
    """Return whether a GET of the path is answered with 200."""
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode("ascii"))
            line = connection.makefile("rb").readline(64)
    except OSError:
        return False
    return line.split(b" ")[1:2] == [b"200"]


if __name__ == "__main__":
    sys.exit(not ready(int(os.environ.get("PORT", "8080")), *(sys.argv[1:] or ["/health/ready"])))
