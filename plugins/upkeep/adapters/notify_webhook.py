"""One notice posted as JSON to a webhook.

The connection is Airflow's `http` type: `host` is the address (with or without scheme), `schema` the scheme, extra
`path` the rest of a secret URL, `password` a bearer token (with `login`: basic authentication), extra `headers`
further headers, extra `timeout` seconds. Nothing of it is ever repeated in a result: the whole URL may be a secret.
"""

from __future__ import annotations

from typing import Any

from upkeep.adapters.notify_result import Hopeless, NoChannel, PassingTrouble
from upkeep.core.notice import Notice

TIMEOUT_SECONDS = 10.0


def post(connection: Any, notice: Notice) -> str:
    """Post a notice; any 2xx means delivered. Redirects are not followed: they could carry the token elsewhere.

    :raises NoChannel: the connection has no address.
    :raises Hopeless: the other side refuses, redirects or hangs.
    :raises PassingTrouble: it answered 429 or 5xx, or the line was cut.
    """
    import httpx

    name, extra = connection.conn_id, connection.extra_dejson
    headers = {"Idempotency-Key": notice.id, **{str(k): str(v) for k, v in (extra.get("headers") or {}).items()}}
    if connection.password and not connection.login:
        headers["Authorization"] = f"Bearer {connection.password}"
    auth = (connection.login, connection.password or "") if connection.login else None
    timeout = float(extra.get("timeout") or TIMEOUT_SECONDS)
    url = _url(connection, str(extra.get("path") or ""))
    try:
        with (
            httpx.Client(timeout=timeout, follow_redirects=False) as client,
            # Streamed: the status is all that counts, and a body without end must not be waited for.
            client.stream("POST", url, json=notice.payload(), headers=headers, auth=auth) as answer,
        ):
            code = answer.status_code
    except httpx.TimeoutException:
        raise Hopeless(f"webhook {name} did not answer in {timeout:g} s", True) from None
    except httpx.TransportError as error:
        raise PassingTrouble(f"webhook {name} cannot be reached ({type(error).__name__})", True) from None
    except (httpx.InvalidURL, ValueError, TypeError) as error:
        raise Hopeless(f"connection {name} is no usable http connection ({type(error).__name__})", True) from None
    if 200 <= code < 300:
        return f"webhook {name} answered {code}"
    if code == 429 or code >= 500:
        raise PassingTrouble(f"webhook {name} answered {code}", True)
    raise Hopeless(f"webhook {name} answered {code}, expected 2xx", True)


def _url(connection: Any, path: str) -> str:
    if not connection.host:
        raise NoChannel(f"no channel configured: connection {connection.conn_id} has no host")
    host = connection.host if "://" in connection.host else f"{connection.schema or 'https'}://{connection.host}"
    if not host.startswith(("http://", "https://")):
        raise Hopeless(f"connection {connection.conn_id} is neither http nor https", True)
    port = f":{connection.port}" if connection.port else ""
    return f"{host.rstrip('/')}{port}/{path.lstrip('/')}" if path or port else host
