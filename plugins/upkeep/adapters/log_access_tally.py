"""Adds up what batches of requests say."""

from __future__ import annotations

from collections import Counter

import numpy as np  # noqa: TID253 - imported by log_access inside its function only

from upkeep.adapters.log_access_batch import METHODS, WRITES, Batch
from upkeep.adapters.log_access_groups import Crowd, Few, Table, bucket, buckets
from upkeep.adapters.log_access_hostile import Hostile
from upkeep.adapters.log_access_look import Look
from upkeep.adapters.log_access_routes import Routes
from upkeep.adapters.log_access_words import Array
from upkeep.core.access_log import AccessOptions

CLIENT = (
    "requests", "errors_4xx", "errors_5xx", "denied", "not_found", "failed_logins", "uploads", "tokens", "probes",
    "attacks", "scanner", "writes_failed", "bytes",
)  # fmt: skip
"""Columns of the table of clients: fields of ClientUse."""
PRECIOUS = tuple(CLIENT.index(name) for name in ("failed_logins", "probes", "attacks", "scanner"))
ROUTE = ("requests", "errors_4xx", "errors_5xx", "bytes", "timed", "took", "slowest")
"""Columns of the table of routes, before those of the response times."""
FINE, COARSE = 16, 7
HIGHEST, LONG = 32, 22
"""Times overall are exact up to 65 s; those of routes up to 128 ms, beyond that within 0.8 % (and up to an hour)."""
SLOW_OVER = (1, 2, 5)


class Tally:
    """Everything that is counted of the requests in the window."""

    def __init__(self, options: AccessOptions) -> None:
        self.options = options
        self.requests = self.bytes = self.untimed = self.denied = self.failed_logins = 0
        self.refused_writes = self.upload_bytes = 0
        self.first: int | None = None
        self.last: int | None = None
        self.status = np.zeros(1000, np.int64)
        self.method = np.zeros(len(METHODS), np.int64)
        self.times = np.zeros(buckets(FINE, HIGHEST), np.int64)
        self.longest = 0
        self.slow_over = dict.fromkeys(SLOW_OVER, 0)
        self.slowest: list[tuple[int, int, bytes, str, bytes, int]] = []
        self.clients = Crowd(len(CLIENT), options.max_clients, PRECIOUS)
        self.routes = Table(len(ROUTE) + buckets(COARSE, LONG), options.max_routes)
        self.minutes: Few[tuple[bytes, int]] = Few(20_000)
        self.failed_writes: Few[tuple[str, bytes, int]] = Few(5_000)
        self.answers = {name: np.zeros(10, np.int64) for name in ("login", "token", "upload", "write")}
        self.hostile = Hostile()

    def add(self, seen: Look | None) -> None:
        """Count a batch."""
        if seen is None:
            return
        batch = seen.batch
        self.requests += len(batch)
        self.bytes += int(batch.size.sum())
        self.status += np.bincount(batch.status, minlength=1000)[:1000]
        self.method += np.bincount(batch.method, minlength=len(METHODS))
        first, last = int(batch.at.min()), int(batch.at.max())
        self.first = first if self.first is None else min(first, self.first)
        self.last = last if self.last is None else max(last, self.last)
        self._durations(batch)
        self._route(batch, seen.named)
        self._uses(seen)

    def _durations(self, batch: Batch) -> None:
        known = batch.took[batch.took >= 0]
        self.untimed += len(batch) - len(known)
        if not len(known):
            return
        found = np.bincount(bucket(known, FINE, HIGHEST))
        self.times[: len(found)] += found
        self.longest = max(self.longest, int(known.max()))
        for seconds in SLOW_OVER:
            self.slow_over[seconds] += int((known > seconds * 1000).sum())
        self._slowest(batch)

    def _slowest(self, batch: Batch) -> None:
        """Keep the slowest requests, of equal ones the earliest, wherever in the log they stand."""
        most = self.options.slowest
        if not most:
            return
        least = self.slowest[-1][0] if len(self.slowest) >= most else -1
        late = np.flatnonzero(batch.took >= max(least, 0))
        if len(late) > most:
            late = late[np.lexsort((batch.at[late], -batch.took[late]))[:most]]
        self.slowest += [
            (
                int(batch.took[n]), int(batch.at[n]), batch.clients[int(batch.client[n])].as_py(),
                METHODS[int(batch.method[n])], batch.target[n].as_py()[:4096], int(batch.status[n]),
            )
            for n in late.tolist()
        ]  # fmt: skip
        self.slowest = sorted(self.slowest, key=lambda s: (-s[0], *s[1:]))[:most]

    def _route(self, batch: Batch, named: Routes) -> None:
        table, code = self.routes, named.code
        weight = np.bincount(code, minlength=len(named.names))
        rows = table.rows(named.names, weight)
        hundreds = batch.status // 100
        columns = (
            weight,
            np.bincount(code[hundreds == 4], minlength=len(weight)),
            np.bincount(code[hundreds == 5], minlength=len(weight)),
            np.bincount(code, weights=batch.size, minlength=len(weight)).astype(np.int64),
        )
        for number, column in enumerate(columns):
            table.add(rows, number, column)
        known = batch.took >= 0
        if not known.any():
            return
        took, at = batch.took[known], rows[code[known]]
        table.add(rows, 4, np.bincount(code[known], minlength=len(weight)))
        table.add(rows, 5, np.bincount(code[known], weights=took, minlength=len(weight)).astype(np.int64))
        np.maximum.at(table.counts, (at, np.full(len(at), 6)), took)
        np.add.at(table.counts, (at, len(ROUTE) + bucket(took, COARSE, LONG)), 1)

    def _uses(self, seen: Look) -> None:
        """Find what each request did, and count it by client."""
        batch, named = seen.batch, seen.named
        status, code = batch.status, named.code
        write = np.isin(batch.method, WRITES)
        refused = (status == 401) | (status == 403)
        login = named.login[code]
        post = batch.method == METHODS.index("POST")
        # Where there is no login (404, 405), nobody can fail to log in.
        bad = (status >= 400) & (status < 500) & (status != 404) & (status != 405)
        failed = login & (refused | (post & bad))
        upload, token = named.upload[code] & write & (batch.method != METHODS.index("DELETE")), named.token[code]
        self.denied += int(refused.sum())
        self.failed_logins += int(failed.sum())
        self.refused_writes += int((write & (status == 403)).sum())
        self.upload_bytes += int(batch.size[upload].sum())
        for name, mask in (("login", login & post), ("token", token), ("upload", upload), ("write", write)):
            self.answers[name] += np.bincount(status[mask] // 100, minlength=10)
        self._write(batch, named, write & (status >= 400))
        masks = {
            "errors_4xx": status // 100 == 4, "errors_5xx": status // 100 == 5, "denied": refused,
            "not_found": status == 404, "failed_logins": failed, "uploads": upload, "tokens": token,
            "writes_failed": write & (status >= 400), **self.hostile.add(seen, write),
        }  # fmt: skip
        self._client(batch, masks)
        self._minutes(batch, refused)

    def _client(self, batch: Batch, masks: dict[str, Array]) -> None:
        code, many = batch.client, len(batch.clients)
        counts: dict[int, Array] = {
            CLIENT.index(name): np.bincount(code[mask], minlength=many) for name, mask in masks.items() if mask.any()
        }
        counts[0] = np.bincount(code, minlength=many)
        counts[CLIENT.index("bytes")] = np.bincount(code, weights=batch.size, minlength=many)
        used = np.flatnonzero(counts[0])  # clients of lines outside the window have no requests
        if len(used) == many:
            self.clients.add(batch.clients, counts)
        else:
            self.clients.add(batch.clients.take(used), {column: values[used] for column, values in counts.items()})

    def _minutes(self, batch: Batch, refused: Array) -> None:
        where = np.flatnonzero(refused)
        if not len(where):
            return
        minute = batch.at[where] // 60
        key, count = np.unique(batch.client[where].astype(np.int64) << 32 | minute, return_counts=True)
        for pair, n in zip(key.tolist(), count.tolist(), strict=True):
            self.minutes.add((batch.clients[pair >> 32].as_py(), pair & 0xFFFFFFFF), n)

    def _write(self, batch: Batch, named: Routes, failed: Array) -> None:
        where = np.flatnonzero(failed)
        if not len(where):
            return
        key = (named.code[where].astype(np.int64) * 8 + batch.method[where]) * 1000 + batch.status[where]
        for packed, n in Counter(key.tolist()).items():
            rest, status = divmod(packed, 1000)
            route, method = divmod(rest, 8)
            self.failed_writes.add((METHODS[method], named.names[route], status), n)
