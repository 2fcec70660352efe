"""HTTP with a deadline for the whole answer, a limit on its size, and credentials that never come back out."""

from __future__ import annotations

import re
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from upkeep.adapters.http_watch import Watch
from upkeep.core.errors import ConfigurationError
from upkeep.core.http import Cause, NoReply, Reply, Request

if TYPE_CHECKING:
    import httpx

MAX_REDIRECTS = 5
_CHUNK = 64 << 10
# Keys that HttpHook takes from `extra` for itself; every other key there is a header.
_NOT_HEADERS = {
    "allow_redirects", "cert", "check_response", "headers", "max_redirects", "proxies", "proxy", "stream", "timeout",
    "trust_env", "verify",
}  # fmt: skip
_HEADER = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e]*")
_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d+)?")


class Connection(Protocol):
    """What is needed of an Airflow connection of type http."""

    conn_id: Any
    host: Any
    port: Any
    schema: Any
    login: Any
    password: Any

    @property
    def extra_dejson(self) -> Any:
        """The `extra` field as a mapping."""
        ...


@dataclass(frozen=True)
class Address:
    """Where a service is and what it wants to see from its clients."""

    base_url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    verify: bool | str = True
    """Whether to check the certificate, or the file with the authority that signed it."""
    password: str = field(default="", repr=False)

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """Everything that must not come back out of an answer, longest first."""
        values = {part for value in self.headers.values() for part in (value, value.rpartition(" ")[2])}
        values.add(self.password)
        return tuple(sorted((v.encode() for v in values if len(v) >= 6), key=len, reverse=True))


def address_of(connection: Connection) -> Address:
    """Read an Airflow connection as `HttpHook` does: the scheme in `schema` or `host`, headers in `extra`.

    :raises ConfigurationError: it names no host, or something that is not http.
    """
    host = str(connection.host or "")
    base = host if "://" in host else f"{connection.schema or 'http'}://{host}"
    parts = urlsplit(base)
    if parts.scheme not in {"http", "https"} or not _HOST.fullmatch(parts.netloc):
        raise ConfigurationError(
            f"connection {connection.conn_id!r} has no usable host; expected a host name and schema http or https",
            "credentials belong in its login and password, not in the host",
        )
    if connection.port and parts.port is None:
        base = parts._replace(netloc=f"{parts.netloc}:{connection.port}").geturl()
    extra = connection.extra_dejson or {}
    plain: dict[str, Any] = extra["headers"] if isinstance(extra.get("headers"), dict) else {}
    headers = {str(k): str(v) for k, v in {**extra, **plain}.items() if k not in _NOT_HEADERS}
    if connection.login:
        pair = f"{connection.login}:{connection.password or ''}".encode()
        headers["Authorization"] = f"Basic {b64encode(pair).decode()}"
    verify = extra.get("verify", True)
    password = str(connection.password or "")
    return Address(base.rstrip("/"), headers, verify if isinstance(verify, bool | str) else True, password)


def opener(connection: Callable[[str], Connection]) -> Callable[..., AbstractContextManager[Client]]:
    """Return what `Tools.http` is: a function that opens a client by connection id or by address."""

    def open_http(*, conn_id: str | None = None, base_url: str | None = None) -> AbstractContextManager[Client]:
        return open_client(address_of(connection(conn_id)) if conn_id else Address((base_url or "").rstrip("/")))

    return open_http


@contextmanager
def open_client(address: Address) -> Iterator[Client]:
    """Open a client that keeps one connection, so that only the first request pays for setting it up.

    Proxies of the environment are not used: the question is whether the service answers, not whether a proxy does.
    """
    import httpx

    headers = {"User-Agent": "airflow-upkeep", **address.headers, "Accept-Encoding": "identity"}
    if not all(_HEADER.fullmatch(f"{name}:{value}") for name, value in headers.items()):
        raise ConfigurationError(
            "a header of the connection has a name or a value that HTTP does not allow",
            "correct the connection's extra",
        )
    with httpx.Client(
        headers=headers,
        verify=_trust(address),
        trust_env=False,
        limits=httpx.Limits(max_connections=1),
    ) as client:
        yield Client(client, address)


def _trust(address: Address) -> ssl.SSLContext | bool:
    """The machine's own authorities (and SSL_CERT_FILE), where httpx alone would know certifi's only."""
    if not address.base_url.startswith("https"):
        return True
    if address.verify is False:
        return False
    try:
        return ssl.create_default_context(cafile=address.verify if isinstance(address.verify, str) else None)
    except OSError as error:
        raise ConfigurationError(
            f"file of authorities {address.verify!r} cannot be read: {error.strerror or 'not PEM'}",
            "correct `verify` in the connection's extra",
        ) from error


class Client:
    """One service, asked one thing at a time. Implements `core.job.Http`."""

    def __init__(self, client: httpx.Client, address: Address) -> None:
        self._client = client
        self._address = address
        self._watch = Watch()

    def ask(self, request: Request) -> Reply | NoReply:
        """Send a request and return the answer, or why there was none.

        :raises ConfigurationError: the request cannot be sent at all.
        """
        import httpx

        started = time.perf_counter()
        try:
            with self._watch.within(request.timeout):
                return self._follow(request, started)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError):
            # Their texts repeat the header or address at fault, and headers hold credentials.
            raise ConfigurationError(
                f"{request.method} {self._address.base_url}{request.path} cannot be sent: the address, or a header of"
                " the connection, has characters that HTTP does not allow",
                "correct the connection's host and extra, or the endpoint's path",
            ) from None
        except (httpx.TransportError, _Astray) as error:
            cause, detail = _explain(error, late=self._watch.late, timeout=request.timeout)
            return NoReply(cause, detail, time.perf_counter() - started)

    def _follow(self, request: Request, started: float) -> Reply:
        sent = self._client.build_request(
            request.method,
            self._address.base_url + request.path,
            json=request.json_body,
            timeout=request.timeout,
            extensions={"trace": self._watch.trace},
        )
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._client.send(sent, stream=True)
            try:
                onward = answer.next_request if request.follow_redirects else None
                if onward is None:
                    return self._read(answer, request.limit_bytes, started)
            finally:
                answer.close()
            sent = self._onward(onward, answer)
        raise _Astray(f"more than {MAX_REDIRECTS} redirects")

    def _onward(self, onward: httpx.Request, answer: httpx.Response) -> httpx.Request:
        """Return the request that a redirect asks for; never to another host, which would see our credentials."""
        before, after = answer.request.url, onward.url
        upgraded = (before.scheme, after.scheme) == ("http", "https") and before.host == after.host
        if not upgraded and (before.scheme, before.host, before.port) != (after.scheme, after.host, after.port):
            raise _Astray(f"sent on to another place, {after.scheme}://{after.netloc.decode(errors='replace')}")
        return onward

    def _read(self, answer: httpx.Response, limit: int, started: float) -> Reply:
        body = bytearray()
        # Raw bytes: a body compressed against our wish stays compressed, and no bomb unfolds in memory.
        for chunk in answer.iter_raw(_CHUNK):
            body += chunk
            if len(body) > limit:
                break
        seconds = time.perf_counter() - started
        if self._watch.late:
            raise _Astray("")
        kept = bytes(body[:limit])
        for secret in self._address.secrets:
            kept = kept.replace(secret, b"***")
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Reply(answer.status_code, kept, seconds, truncated=len(body) > limit, headers=headers)


class _Astray(Exception):
    """Redirects that lead nowhere."""


def _explain(error: Exception, *, late: bool, timeout: float) -> tuple[Cause, str]:
    """Return why there was no answer, in words without addresses or credentials."""
    import httpx

    if isinstance(error, _Astray) and not late:
        return Cause.REDIRECT, str(error)
    if isinstance(error, httpx.ConnectTimeout):
        return Cause.CONNECT, f"no connection within {timeout:g} s"
    if late or isinstance(error, httpx.TimeoutException):
        return Cause.TIMEOUT, f"no complete answer within {timeout:g} s"
    tls = next((e for e in _causes(error) if isinstance(e, ssl.SSLError)), None)
    if tls is not None:
        return Cause.TLS, getattr(tls, "verify_message", "") or tls.reason or "the TLS handshake failed"
    return _no_connection(error) if isinstance(error, httpx.ConnectError) else _broken_off(error)


def _no_connection(error: Exception) -> tuple[Cause, str]:
    import socket

    reason = next((e for e in _causes(error) if isinstance(e, OSError)), None)
    if isinstance(reason, socket.gaierror):
        return Cause.NAME, "the host's name cannot be resolved"
    return Cause.CONNECT, (reason.strerror or "no connection").lower() if reason else "no connection"


def _broken_off(error: Exception) -> tuple[Cause, str]:
    """Tell an answer that ends too early from one that is not HTTP; httpx has one class for both."""
    import httpx

    ended = "disconnected" in str(error) or "closed" in str(error)
    if isinstance(error, httpx.RemoteProtocolError) and not ended:
        return Cause.PROTOCOL, "the answer is not HTTP"
    return Cause.CUT, "the connection ended before the answer did"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


__all__ = ["Address", "Client", "address_of", "open_client", "opener"]
