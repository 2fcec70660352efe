"""A deadline for a whole HTTP answer."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class Watch:
    """Ends a request that takes too long as a whole.

    httpx knows timeouts for each read only: a server that sends a byte every few seconds is never late for it. So the
    socket is shut down from a timer's thread; the sockets are learnt through httpx's `trace` extension.
    """

    def __init__(self) -> None:
        self.late = False
        self._streams: list[Any] = []

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Note the streams of a connection when they are opened."""
        if event == "connection.connect_tcp.complete":
            self._streams = [info["return_value"]]
        elif event == "connection.start_tls.complete":
            self._streams.append(info["return_value"])

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Shut the connection down if the block takes longer."""
        self.late = False
        timer = threading.Timer(seconds, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _end(self) -> None:
        self.late = True
        for stream in reversed(self._streams):
            with contextlib.suppress(OSError):
                # Below TLS where there is TLS: a polite close would wait for the other side.
                _shutdown(stream.get_extra_info("socket"))


def _shutdown(sock: Any) -> None:
    if sock is not None:
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
