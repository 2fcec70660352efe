"""A service that speaks OSV's API (https://google.github.io/osv.dev/api/) as a source.

Packages are asked about in batches (`POST /v1/querybatch`), page by page; the advisories that it names are then fetched
one by one (`GET /v1/vulns/<id>`). Whatever does not come back whole is said of the packages that it concerns.

"Nothing known" looks the same in a service that knows everything and in one that knows nothing: `{}`. So a package that
has been vulnerable since it exists is asked about too, in every ecosystem; if nothing is known of that one, the rest of
the service's silence says nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol
from urllib.parse import quote

from upkeep.adapters._package_text import UnreadableError, json_object, shown
from upkeep.adapters.advisories_answer import Answer, Key
from upkeep.adapters.advisories_osv import Advisory, read
from upkeep.core.audit import Limits, SourceState
from upkeep.core.http import Cause, NoReply, Reply, Request

_BATCH = 500  # OSV takes 1,000
_PAGES = 50
_BODY = 32 << 20
_TRIES = (0.2, 1.0)  # seconds before the second and the third try
_GONE_AFTER = 3
_PASSING = {Cause.CONNECT, Cause.TIMEOUT, Cause.CUT}
# Old versions of packages that have advisories wherever the ecosystem is known at all.
_CANARIES = {
    "PyPI": ("django", "3.2"),
    "npm": ("lodash", "4.17.11"),
    "Debian": ("openssl", "0.9.8c-1"),
    "Ubuntu": ("openssl", "0.9.8c-1"),
    "Alpine": ("openssl", "1.0.0-r0"),
}
_AWAY = "check that the service runs and the way there; until then nothing is known of these packages"
_NOT_OSV = "check the address: it must be the root of a service that speaks OSV's API (/v1/querybatch)"


class Client(Protocol):
    """What is needed of an HTTP client; see `adapters.http`."""

    def ask(self, request: Request) -> Reply | NoReply:
        """Send a request; return the answer, or why there was none."""
        ...


class _Silent(Exception):
    """A question without a usable answer. `gone`: there is no point in asking more."""

    def __init__(self, reason: str, hint: str, gone: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.hint, self.gone = reason, hint, gone


def ask(
    opened: Callable[[], AbstractContextManager[Client]], place: str, keys: Sequence[Key], limits: Limits
) -> Answer:
    """Return what a service says of some packages."""
    with opened() as client:
        return _Service(client, place, limits).ask(keys)


class _Service:
    def __init__(self, client: Client, place: str, limits: Limits) -> None:
        self._client, self._limits = client, limits
        self._started = time.monotonic()
        self._answer = Answer(place, SourceState(place=place))
        self._named: dict[Key, dict[str, None]] = {}
        self._read: dict[str, Advisory | str] = {}

    def ask(self, keys: Sequence[Key]) -> Answer:
        canaries = {eco: (eco, *_CANARIES[eco.partition(":")[0]]) for eco in {key[0] for key in keys} if _known(eco)}
        asked = sorted({*keys, *canaries.values()})
        for start in range(0, len(asked), _BATCH):
            try:
                self._ask_batch(asked[start : start + _BATCH])
            except _Silent as silent:
                left = len(asked) - start if silent.gone else len(asked[start : start + _BATCH])
                self._answer.trouble(f"{silent.reason}; nothing is known of {left} packages", silent.hint)
                if silent.gone:
                    break
        self._believe(keys, canaries)
        self._fetch(keys)
        return self._finished(keys)

    def _ask_batch(self, keys: Sequence[Key]) -> None:
        """Ask about some packages, and go on with those whose answer has more pages."""
        waiting: list[tuple[Key, str]] = [(key, "") for key in keys]
        for _ in range(_PAGES):
            results = self._post([_query(key, token) for key, token in waiting])
            pages = list[tuple[Key, str]]()
            for (key, _), result in zip(waiting, results, strict=True):
                self._take(key, result, pages)
            if not pages:
                return
            waiting = pages
        raise _Silent(f"the answers do not end after {_PAGES} pages", _NOT_OSV)

    def _take(self, key: Key, result: Any, pages: list[tuple[Key, str]]) -> None:
        try:
            ids, token = _result(result)
        except UnreadableError as error:
            self._answer.trouble(f"its answer about {key[1]} {key[2]} is unusable: {error}", _NOT_OSV)
            return
        self._named.setdefault(key, {}).update(dict.fromkeys(ids))
        if token:
            pages.append((key, token))
        else:
            self._answer.answered.add(key)

    def _post(self, queries: list[dict[str, Any]]) -> list[Any]:
        body = self._json(Request("/v1/querybatch", "POST", {"queries": queries}, limit_bytes=_BODY))
        results = body.get("results")
        if not isinstance(results, list) or len(results) != len(queries):
            seen = f"{len(results)} results" if isinstance(results, list) else "no list of `results`"
            raise _Silent(f"POST /v1/querybatch gave {seen}, expected {len(queries)}", _NOT_OSV)
        return results

    def _believe(self, keys: Sequence[Key], canaries: dict[str, Key]) -> None:
        """Take back what was said about an ecosystem of which the service knows nothing."""
        for ecosystem, canary in sorted(canaries.items()):
            if canary in self._answer.answered and not self._named.get(canary):
                empty = {k for k in self._answer.answered if k[0] == ecosystem and not self._named.get(k)}
                self._answer.answered -= empty
                self._answer.trouble(
                    f"it knows of nothing wrong with {canary[1]} {canary[2]} of {ecosystem}, which has been vulnerable"
                    f" for years; its silence about {len(empty)} packages says nothing",
                    f"let the service load the advisories of {ecosystem}, or name another source",
                )
        for canary in canaries.values():
            if canary not in keys:
                self._named.pop(canary, None)
                self._answer.answered.discard(canary)

    def _fetch(self, keys: Sequence[Key]) -> None:
        """Read every advisory that was named, once, and attach it to its packages."""
        silent = 0
        for name in dict.fromkeys(id for key in keys for id in self._named.get(key, ())):
            if silent >= _GONE_AFTER:
                self._read[name] = "the service stopped answering"
                continue
            try:
                self._read[name] = self._advisory(name)
                silent = 0
            except _Silent as error:
                self._read[name] = error.reason
                silent += error.gone
        for key in keys:
            for name in self._named.get(key, ()):
                self._attach(key, name)
        if failed := [f"{name}: {why}" for name, why in self._read.items() if isinstance(why, str)]:
            more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
            self._answer.trouble(
                f"the details of {len(failed)} of {len(self._read)} advisories are missing: "
                f"{'; '.join(failed[:5])}{more}",
                "they count as known with unknown severity and fix; run the audit again, or look them up by hand",
            )

    def _attach(self, key: Key, name: str) -> None:
        advisory = self._read[name]
        if isinstance(advisory, str):
            self._answer.name_only(key, name, advisory)
        elif advisory.withdrawn:
            return
        elif advisory.about(key[0], key[1]):
            self._answer.add(key, advisory, claimed=True)
        else:
            # An answer in the wrong place: then the answer that belongs here is somewhere else.
            self._answer.answered.discard(key)
            self._answer.trouble(
                f"it names {name} for {key[1]} {key[2]}, and that advisory is about something else", _NOT_OSV
            )

    def _advisory(self, name: str) -> Advisory:
        body = self._json(Request(f"/v1/vulns/{quote(name, safe='')}", limit_bytes=_BODY))
        try:
            advisory = read(body)
        except UnreadableError as error:
            raise _Silent(str(error), _NOT_OSV) from None
        if advisory.id != name:
            raise _Silent(f"the answer is {advisory.id}", _NOT_OSV)
        return advisory

    def _json(self, request: Request) -> dict[str, Any]:
        """Return the object that a request is answered with.

        :raises _Silent: there is none, after three tries where trying again may help.
        """
        told = f"{request.method} {request.path}"
        reply = self._reply(request)
        if isinstance(reply, NoReply):
            raise _Silent(f"{told}: {reply.detail}", _AWAY, gone=True)
        if reply.status != 200:
            passing = reply.status == 429 or reply.status >= 500
            raise _Silent(f"{told}: HTTP {reply.status}, expected 200", _AWAY if passing else _NOT_OSV, gone=passing)
        if reply.truncated:
            raise _Silent(f"{told}: the answer is larger than {_BODY >> 20} MiB", _NOT_OSV)
        try:
            return json_object(reply.body)
        except UnreadableError as error:
            raise _Silent(f"{told}: {error}", _NOT_OSV) from None

    def _reply(self, request: Request) -> Reply | NoReply:
        for pause in (*_TRIES, None):
            left = self._limits.source_seconds - (time.monotonic() - self._started)
            if left <= 0:
                return NoReply(Cause.TIMEOUT, f"given up after {self._limits.source_seconds:g} s in all", 0)
            reply = self._client.ask(
                Request(
                    request.path,
                    request.method,
                    request.json_body,
                    timeout=min(self._limits.request_seconds, left),
                    limit_bytes=request.limit_bytes,
                )
            )
            passing = reply.cause in _PASSING if isinstance(reply, NoReply) else reply.status in {429, 502, 503, 504}
            if pause is None or not passing:
                return reply
            time.sleep(min(pause, left))
        raise AssertionError("the last try returns")

    def _finished(self, keys: Sequence[Key]) -> Answer:
        self._answer.answered &= set(keys)
        self._answer.state = self._answer.state.model_copy(
            update={"answered": len(self._answer.answered), "seconds": time.monotonic() - self._started}
        )
        return self._answer


def _known(ecosystem: str) -> bool:
    return ecosystem.partition(":")[0] in _CANARIES


def _query(key: Key, token: str) -> dict[str, Any]:
    ecosystem, name, version = key
    query: dict[str, Any] = {"package": {"ecosystem": ecosystem, "name": name}, "version": version}
    return query | ({"page_token": token} if token else {})


def _result(result: Any) -> tuple[list[str], str]:
    """Return the ids and the token of the next page of one result; an empty object is "nothing known".

    :raises UnreadableError: it is something else.
    """
    if not isinstance(result, dict) or set(result) - {"vulns", "next_page_token"}:
        raise UnreadableError(f"{shown(json.dumps(result), 60)}, expected an object with `vulns`")
    found, token = result.get("vulns", []), result.get("next_page_token", "")
    if not isinstance(found, list) or not isinstance(token, str):
        raise UnreadableError("`vulns` is no list, or `next_page_token` no text")
    ids = [v.get("id") if isinstance(v, dict) else None for v in found]
    named = [i for i in ids if isinstance(i, str) and 3 <= len(i) <= 100 and i.isprintable()]
    if len(named) < len(ids):
        raise UnreadableError("`vulns` holds an entry without a usable id")
    return named, token


__all__ = ["ask"]
