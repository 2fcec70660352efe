"""Settings judged against the size of the server, the database and each other."""

from __future__ import annotations

from upkeep.core.model import Finding, Judgement, Severity, Threshold
from upkeep.routines.database._review_seen import Review, Value
from upkeep.routines.database._review_settings import Settings
from upkeep.routines.database._seen import measured
from upkeep.routines.database._text import byte_size

_GB = 2.0**30
_MEMORY = "runtime-config-resource.html#RUNTIME-CONFIG-RESOURCE-MEMORY"
_AUTO = "routine-vacuuming.html#AUTOVACUUM"
_COST = "runtime-config-vacuum.html"
NAMES = (
    *("shared_buffers", "work_mem", "max_connections", "maintenance_work_mem"),
    *("autovacuum_work_mem", "effective_cache_size", "autovacuum_max_workers", "autovacuum_worker_slots"),
    *("autovacuum_vacuum_cost_delay", "autovacuum_vacuum_cost_limit", "vacuum_cost_delay", "vacuum_cost_limit"),
    *("vacuum_cost_page_dirty", "random_page_cost", "seq_page_cost"),
)


def judge(review: Review, settings: Settings) -> Judgement:
    """Judge memory, autovacuum's strength and the planner's costs."""
    found = [*_buffers(review, settings), *_workers(review, settings), *_costs(review)]
    if settings.memory_gb is not None:
        found += _memory(review, settings, settings.memory_gb * _GB)
    return Judgement(findings=tuple(found)) + _rate(review, settings)


def _buffers(review: Review, settings: Settings) -> list[Finding]:
    """128 MB is what initdb takes for any server; nobody chose it."""
    buffers, size = review.value("shared_buffers"), review.server.get("bytes", 0)
    if buffers is None or buffers.bytes > 128 * 2**20 or size < settings.small_buffers_bytes:
        return []
    why = f"the database holds {byte_size(size)}; a quarter of the server's memory is the usual start"
    memory = settings.memory_gb
    wanted = f"{max(round(memory * 256), 256)}MB" if memory else "1GB"
    return [review.finding(buffers, Severity.INFO, wanted, why, _MEMORY)]


def _memory(review: Review, settings: Settings, memory: float) -> list[Finding]:
    found: list[Finding] = []
    buffers, cache = review.value("shared_buffers"), review.value("effective_cache_size")
    quarter = f"{max(round(memory / 4 / 2**20), 128)}MB"
    if buffers and buffers.bytes > memory / 2:
        why = f"more than half of the memory ({byte_size(memory)}) leaves too little for sessions and the file cache"
        found.append(review.finding(buffers, Severity.INFO, quarter, why, _MEMORY))
    if cache and cache.bytes > memory:
        why = f"the server has {byte_size(memory)} of memory: the planner believes in a cache that is not there"
        wanted = f"{max(round(memory * 0.75 / 2**20), 1)}MB"
        found.append(
            review.finding(
                cache, Severity.INFO, wanted, why, "runtime-config-query.html#RUNTIME-CONFIG-QUERY-CONSTANTS"
            )
        )
    return [*found, *_sessions(review, settings, memory), *_maintenance(review, settings, memory)]


def _sessions(review: Review, settings: Settings, memory: float) -> list[Finding]:
    work, connections = review.value("work_mem"), review.value("max_connections")
    if work is None or connections is None:
        return []
    share = 100 * work.bytes * connections.number / memory
    fits = (settings.work_mem_share.info or settings.work_mem_share.warning or 100) / 100 * memory / connections.number
    why = (
        f"{connections.number:.0f} connections with one work_mem each take {share:.0f} % of {byte_size(memory)}, and a"
        " statement may take several; when memory runs out the kernel kills the server"
    )
    return _crossed(review, work, settings.work_mem_share, share, wanted=_kilobytes(fits), why=why)


def _maintenance(review: Review, settings: Settings, memory: float) -> list[Finding]:
    own, general = review.value("autovacuum_work_mem"), review.value("maintenance_work_mem")
    workers = review.value("autovacuum_max_workers")
    if own is None or general is None or workers is None:
        return []
    value = general if own.number < 0 else own
    share = 100 * value.bytes * workers.number / memory
    limits = settings.maintenance_share
    fits = (limits.info or limits.warning or 25) / 100 * memory / workers.number
    why = f"{workers.number:.0f} autovacuum workers together may take {share:.0f} % of {byte_size(memory)}"
    return _crossed(review, own, limits, share, wanted=_kilobytes(fits), why=why)


def _crossed(
    review: Review, value: Value, threshold: Threshold, seen: float, *, wanted: str, why: str, where: str = _MEMORY
) -> list[Finding]:
    severity = threshold.judge(seen)
    return [] if severity is Severity.OK else [review.finding(value, severity, wanted, why, where)]


def _kilobytes(count: float) -> str:
    """Write an amount for a configuration file, rounded down to whole MB where it has some.

    >>> _kilobytes(5.5 * 2**20), _kilobytes(100)
    ('5MB', '64kB')
    """
    return f"{int(count // 2**20)}MB" if count >= 2**20 else f"{max(int(count // 1024), 64)}kB"


def _workers(review: Review, settings: Settings) -> list[Finding]:
    workers, slots = review.value("autovacuum_max_workers"), review.value("autovacuum_worker_slots")
    if workers is None:
        return []
    if slots is not None and workers.number > slots.number:
        why = f"only autovacuum_worker_slots = {slots.shown} of them can run; for more raise that too and restart"
        return [review.finding(workers, Severity.WARNING, slots.setting, why, "runtime-config-autovacuum.html")]
    tables = review.server.get("tables", 0)
    if tables <= settings.tables_per_worker * workers.number:
        return []
    wanted = -(-tables // settings.tables_per_worker)
    why = (
        f"{tables} tables wait for their turn; the cost limit is shared, so raise autovacuum_vacuum_cost_limit by the"
        " same factor"
    )
    return [review.finding(workers, Severity.INFO, f"{wanted}", why, _AUTO)]


def _rate(review: Review, settings: Settings) -> Judgement:
    """What all workers together may dirty a second: cost limit / cost of a dirtied page * page size / delay."""
    names = ("autovacuum_vacuum_cost_delay", "autovacuum_vacuum_cost_limit", "vacuum_cost_page_dirty")
    delay, limit, dirty = (review.value(name) for name in names)
    if delay is None or limit is None or dirty is None:
        return Judgement()
    wait = _fallback(delay, review.value("vacuum_cost_delay"))
    points = _fallback(limit, review.value("vacuum_cost_limit"))
    if wait <= 0 or dirty.number <= 0 or points <= 0:
        return Judgement()
    rate = points / dirty.number * 8192 / (wait / 1000) / 2**20
    size = review.server.get("bytes", 0)
    why = (
        f"with a limit of {points:.0f} all workers together may dirty {rate:.1f} MB/s, so that a pass over this"
        f" database ({byte_size(size)}) may take {size / 2**20 / rate / 3600:.1f} h"
    )
    findings = _crossed(review, delay, settings.vacuum_rate, rate, wanted="2ms", why=why, where=_COST)
    return Judgement(measurements=measured("autovacuum.rate", rate, "MB/s"), findings=tuple(findings))


def _fallback(value: Value, general: Value | None) -> float:
    """Return autovacuum's own value, or with -1 the one that VACUUM has."""
    return value.number if value.number >= 0 or general is None else general.number


def _costs(review: Review) -> list[Finding]:
    random, sequential = review.value("random_page_cost"), review.value("seq_page_cost")
    if random is None or sequential is None or random.number >= sequential.number:
        return []
    why = f"no storage reads scattered pages cheaper than adjacent ones (seq_page_cost {sequential.shown})"
    where = "runtime-config-query.html#RUNTIME-CONFIG-QUERY-CONSTANTS"
    return [review.finding(random, Severity.INFO, sequential.shown, why, where)]
