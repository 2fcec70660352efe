"""Makes the answers out of what was added up: names what matters, redacts what is shown."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import numpy as np  # noqa: TID253 - imported by log_access inside its function only

from upkeep.adapters.log_access_batch import METHODS
from upkeep.adapters.log_access_groups import Few, percentile
from upkeep.adapters.log_access_hostile import Hostile, Seen
from upkeep.adapters.log_access_secrets import shown
from upkeep.adapters.log_access_tally import CLIENT, COARSE, FINE, PRECIOUS, ROUTE, Tally
from upkeep.adapters.log_access_words import Array
from upkeep.core.access_log import (
    AccessReview,
    Answers,
    Attack,
    Burst,
    Capped,
    ClientUse,
    FailedWrite,
    Leak,
    Probe,
    Referrer,
    RouteUse,
    Scanner,
    Slow,
    Times,
)
from upkeep.core.log_files import Lines


def review(tally: Tally, lines: Lines) -> AccessReview:
    """Return the answers."""
    hostile, top = tally.hostile, tally.options.top
    return AccessReview(
        lines=lines,
        untimed=tally.untimed,
        first=None if tally.first is None else _at(tally.first),
        last=None if tally.last is None else _at(tally.last),
        bytes=tally.bytes,
        statuses={int(code): int(tally.status[code]) for code in np.flatnonzero(tally.status)},
        methods={METHODS[int(n)]: int(tally.method[n]) for n in np.flatnonzero(tally.method)},
        times=_times(tally.times, FINE, tally.longest),
        slow_over=tally.slow_over,
        routes=tuple(_routes(tally)),
        clients=tuple(_clients(tally)),
        distinct_clients=len(tally.clients.table()[0]),
        slowest=tuple(
            Slow(at=_at(at), seconds=took / 1000, client=shown(who), method=how, target=shown(what), status=status)
            for took, at, who, how, what, status in tally.slowest
        ),
        bursts=tuple(_bursts(tally)),
        denied=tally.denied,
        failed_logins=tally.failed_logins,
        logins=_answers(tally.answers["login"]),
        tokens=_answers(tally.answers["token"]),
        uploads=_answers(tally.answers["upload"]),
        upload_bytes=tally.upload_bytes,
        attacks=tuple(
            Attack(
                kind=rule.kind, rule=rule.number, title=rule.title, answers=_answers(seen.answers),
                route=shown(seen.route), sample=shown(seen.sample), first=_at(seen.first),
            )
            for rule, seen in _most(hostile.attacks)
        ),
        probes=tuple(
            Probe(name=name, answers=_answers(seen.answers), sample=shown(seen.sample))
            for name, seen in _most(hostile.probes)
        ),
        scanners=tuple(
            Scanner(name=name, answers=_answers(seen.answers)) for name, seen in _most(hostile.scanners)
        ),
        referrers=tuple(_referrers(hostile, top)),
        writes=_answers(tally.answers["write"]),
        refused_writes=tally.refused_writes,
        failed_writes=tuple(
            FailedWrite(method=how, route=shown(where), status=status, count=count)
            for (how, where, status), count in tally.failed_writes.top(top)
        ),
        leaks=tuple(
            Leak(kind=kind, route=shown(where), count=count, sample=shown(hostile.leak_samples.get((kind, where), b"")))
            for (kind, where), count in hostile.leaks.top(top)
        ),
        capped=tuple(_capped(tally)),
    )  # fmt: skip


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _times(counts: Array, bits: int, longest: int) -> Times | None:
    if not (count := int(counts.sum())):
        return None
    # The middle of a bucket may lie above the slowest of them.
    p50, p95, p99 = (min(percentile(counts, share, bits), longest) / 1000 for share in (0.5, 0.95, 0.99))
    return Times(count=count, p50=p50, p95=p95, p99=p99, max=longest / 1000)


def _answers(hundreds: Array) -> Answers:
    return Answers(
        requests=int(hundreds.sum()),
        passed=int(hundreds[2]),
        redirected=int(hundreds[1] + hundreds[3]),
        refused=int(hundreds[4]),
        failed=int(hundreds[5:].sum()),
    )


def _most[K](seen: dict[K, Seen]) -> list[tuple[K, Seen]]:
    return sorted(seen.items(), key=lambda item: (-int(item[1].answers.sum()), str(item[0])))


def _routes(tally: Tally) -> Iterator[RouteUse]:
    """Yield the routes with the most requests, errors 5xx and time, those with the most requests first."""
    table = tally.routes
    used = table.counts[1 : len(table.names)]
    columns = [ROUTE.index(c) for c in ("requests", "errors_5xx", "took")]
    for row in _leaders(used[:, columns], tally.options.top, table.names[1:]):
        count = used[row]
        yield RouteUse(
            route=shown(table.names[row + 1]),
            requests=int(count[0]), errors_4xx=int(count[1]), errors_5xx=int(count[2]), bytes=int(count[3]),
            times=_times(count[len(ROUTE) :], COARSE, int(count[ROUTE.index("slowest")])),
        )  # fmt: skip


def _clients(tally: Tally) -> Iterator[ClientUse]:
    """Yield the clients with the most requests and with the most of what is suspicious."""
    names, used = tally.clients.table()
    columns = [0, *PRECIOUS, *(CLIENT.index(c) for c in ("denied", "not_found", "writes_failed", "uploads", "tokens"))]
    # Errors 4xx and 5xx together, as CM-S01 counts them.
    errors = used[:, CLIENT.index("errors_4xx")] + used[:, CLIENT.index("errors_5xx")]
    for row in _leaders(np.column_stack((used[:, columns], errors)), tally.options.top, names):
        counts = dict(zip(CLIENT, used[row].tolist(), strict=True))
        yield ClientUse(client=shown(names[row].as_py()), **counts)


def _leaders(counts: Array, top: int, names: Any) -> list[int]:
    """Return the rows that are among the `top` of any column, by their first column, and of equal ones by name."""
    import pyarrow as pa
    import pyarrow.compute as pc

    by_name = pc.sort_indices(pa.array(names, pa.binary())).to_numpy().astype(np.int64)
    place = np.argsort(by_name)
    found: set[int] = set()
    for column in range(counts.shape[1]):
        order = by_name[np.argsort(-counts[by_name, column], kind="stable")[:top]]
        found.update(int(row) for row in order if counts[row, column] > 0)
    return sorted(found, key=lambda row: (-int(counts[row, 0]), int(place[row])))


def _bursts(tally: Tally) -> list[Burst]:
    """Return each client's worst minutes, the worst clients first."""
    wide = tally.options.burst_minutes
    found = []
    by_client = groupby(sorted(tally.minutes.counts.items()), key=lambda item: item[0][0])
    for client, items in by_client:
        minutes = [(minute, count) for (_, minute), count in items]
        count, at = max(
            (sum(n for m, n in minutes[k : k + wide] if m < minute + wide), -minute)
            for k, (minute, _) in enumerate(minutes)
        )
        found.append((count, -at, client))
    worst = sorted(found, key=lambda b: (-b[0], b[1], b[2]))[: tally.options.top]
    return [Burst(client=shown(client), count=count, at=_at(at * 60)) for count, at, client in worst]


def _referrers(hostile: Hostile, top: int) -> Iterator[Referrer]:
    for host, refused in hostile.refused.top(top):
        yield Referrer(host=shown(host.encode()), refused=refused, passed=hostile.passed.counts.get(host, 0))


def _capped(tally: Tally) -> Iterator[Capped]:
    if tally.clients.capped:
        yield Capped(what="clients", folded=int(tally.clients.others[0]), at_most=tally.clients.at_most)
    if tally.routes.capped:
        yield Capped(what="routes", folded=int(tally.routes.counts[0, 0]), at_most=tally.routes.at_most)
    hostile = tally.hostile
    few: list[tuple[str, Few[Any]]] = [
        ("bursts", tally.minutes), ("failed_writes", tally.failed_writes), ("leaks", hostile.leaks),
        ("referrers", hostile.refused), ("referrers", hostile.passed),
    ]  # fmt: skip
    for name, counter in few:
        if counter.folded:
            yield Capped(what=name, folded=counter.folded, at_most=counter.at_most)
