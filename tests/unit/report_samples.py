"""Runs to build reports from: a night with trouble, a quiet one, a hostile one and a very large one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from upkeep.core.model import Action, Finding, Measurement, Severity
from upkeep.ledger import events as ev
from upkeep.ledger.record import RunRecord, fold
from upkeep.ledger.verdict import judge_run
from upkeep.report import Extras, Report, Seen, Stored, build, restored
from upkeep.report.shelf import Proven

START = datetime(2026, 11, 21, 6, tzinfo=UTC)
RUN = ev.RunKey(dag_id="maintenance_daily", run_id="scheduled__2026-11-21T06:00:00+00:00")
TITLES = {
    "claims": "Insurance Claims Processing System",
    "campus": "Campus Services",
    "cardiology": "Cardiology Insights",
    "molecular": "Molecular Data Platform",
    "student": "Student Success",
}
ZONES = {
    "claims": "America/New_York",
    "campus": "Europe/Berlin",
    "cardiology": "UTC",
    "molecular": "UTC",
    "student": "America/New_York",
}


def key(routine: str, target: str, tries: int = 1, run: ev.RunKey = RUN) -> ev.RoutineKey:
    return ev.RoutineKey(**run.model_dump(), routine=routine, target=target, try_number=tries)


def finding(check: str, subject: str, severity: Severity, message: str, **more: str) -> Finding:
    return Finding(check=check, subject=subject, severity=severity, message=message, **more)


def measure(name: str, value: float, unit: str, subject: str = "") -> Measurement:
    return Measurement(name=name, value=value, unit=unit, subject=subject)


def story(
    routine: ev.RoutineKey,
    title: str,
    *,
    after: float = 5,
    seconds: float = 1.4,
    state: str | None = "success",
    findings: Iterable[Finding] = (),
    measurements: Iterable[Measurement] = (),
    actions: Iterable[tuple[Action, str, str, dict[str, Any]]] = (),
    reason: str = "",
    hint: str = "",
    dry_run: bool = False,
    settings: dict[str, Any] | None = None,
) -> list[ev.Event]:
    """Everything that one try of a routine says; `state=None` leaves it open, as a killed worker does."""
    at, system = START + timedelta(seconds=after), routine.target.split("/")[0]
    end = at + timedelta(seconds=seconds)
    said: list[ev.Event] = [
        ev.RoutineOpened(
            at=at, routine=routine, system=system, role="dba", title=title, dry_run=dry_run, settings=settings or {}
        ),
        ev.Observed(
            at=at,
            routine=routine,
            stage="judge",
            system=system,
            measurements=tuple(measurements),
            findings=tuple(findings),
        ),
    ]
    for number, (action, status, detail, evidence) in enumerate(actions, 1):
        said.append(ev.ActionOpened(at=at, routine=routine, number=number, action=action, dry_run=dry_run))
        if status:
            said.append(
                ev.ActionClosed(
                    at=end,
                    routine=routine,
                    system=system,
                    number=number,
                    status=status,
                    detail=detail,
                    evidence=evidence,
                )
            )
    if state:
        worst = max((f.severity for f in findings), key=lambda s: s.rank, default=Severity.OK)
        severity = Severity.CRITICAL if state == "failed" else worst
        said.append(ev.RoutineClosed(at=end, routine=routine, state=state, severity=severity, reason=reason, hint=hint))
    return said


def opened(cadence: str = "daily", params: dict[str, Any] | None = None, run: ev.RunKey = RUN) -> ev.RunOpened:
    return ev.RunOpened(
        at=START,
        run=run,
        cadence=cadence,
        run_type="scheduled",
        window_start=START - timedelta(days=1),
        window_end=START,
        params=params or {},
    )


def expected(*items: tuple[str, str], run: ev.RunKey = RUN, skip: dict[str, str] | None = None) -> ev.Expected:
    skips = skip or {}
    return ev.Expected(
        at=START,
        run=run,
        items=tuple(
            ev.Expected.Item(routine=r, target=t, system=t.split("/")[0], skip=skips.get(t, "")) for r, t in items
        ),
    )


def wave(middle: float, width: float, points: int = 24) -> tuple[float, ...]:
    return tuple(middle + width * math.sin(n / 2.3) + width * n / points for n in range(points))


def health(system: str, **more: Any) -> list[ev.Event]:
    """Database health with as many kinds of measurements as the real one has."""
    tables = [f"public.{name}" for name in ("claim", "policy", "document", "audit_log", "payment", "session", "note")]
    tables += [f"archive.claim_{2000 + n}_{m:02d}" for n in range(13) for m in (1, 4, 7, 10)]
    measurements = [
        measure("connect.time", 12.4, "ms"),
        measure("query_time.median", 8.21, "ms"),
        measure("query_time.p95", 31.7, "ms"),
        measure("connections.used_ratio", 0.34, "1"),
        measure("database.size", 1.83e9, "bytes"),
        measure("cache.hit_ratio", 0.9993, "1"),
        measure("xid.age_ratio", 0.118, "1"),
        measure("locks.waiting", 0, "sessions"),
        *(measure("table.size", 4.1e8 / (n + 1), "bytes", t) for n, t in enumerate(tables)),
        *(measure("table.dead_ratio", 0.4 / (n + 2), "1", t) for n, t in enumerate(tables)),
        *(measure("table.rows", 3e6 // (n + 1), "count", t) for n, t in enumerate(tables)),
    ]
    return story(key("database.health", f"{system}/db"), "Database health", measurements=measurements, **more)


def backup(system: str, **more: Any) -> list[ev.Event]:
    evidence = {
        "backup": {
            "id": "20261121T060012Z-7f3a",
            "location": f"s3://upkeep-backups/{system}/db/20261121T060012Z-7f3a",
            "manifest_sha256": "9f2c1d7b5a3e4f60718293a4b5c6d7e8f90123456789abcdef0123456789abcd",
            "content_sha256": "1b0c9e8d7f6a5b4c3d2e1f00112233445566778899aabbccddeeff0011223344",
            "size_bytes": 684_021_311,
            "source_bytes": 1_830_000_000,
            "files": 61,
            "tables": 59,
            "rows": 7_214_003,
            "started": "2026-11-21T06:00:20.100000+00:00",
            "finished": "2026-11-21T06:00:31.900000+00:00",
            "lsn": "0/7F3A1C8",
            "snapshot_time": "2026-11-21T06:00:20.300000+00:00",
            "system_identifier": 7391827364550192837,
            "server_version": 180000,
            "pg_dump": "pg_dump (PostgreSQL) 18.0",
            "compress": "zstd:3",
        }
    }
    action = Action(
        name="dump", subject=f"{system}/db", reason="daily backup", undo="delete the prefix; nothing refers to it yet"
    )
    return story(
        key("backup.postgres", f"{system}/db"),
        "Backup",
        seconds=14.2,
        after=20,
        actions=[(action, "done", "59 tables, 7,214,003 rows in 61 files", evidence)],
        measurements=[measure("backup.size", 684_021_311, "bytes"), measure("backup.duration", 11.8, "s")],
        **more,
    )


def verification(system: str, ok: bool = True) -> list[ev.Event]:
    proof: dict[str, Any] = {
        "id": "20261121T060012Z-7f3a",
        "ok": ok,
        "files": 61,
        "bytes": 684_021_311,
        "rows": 7_214_003,
    }
    proof |= {"tables": 59, "decoded": True, "seconds": 3.1, "errors": [] if ok else ["hash 3342.dat.zst: differs"]}
    damage = finding(
        "hash",
        "3342.dat.zst",
        Severity.CRITICAL,
        "backup 20261121T060012Z-7f3a: 3342.dat.zst is not what its manifest says",
        observed="SHA-256 41d0…",
        limit="SHA-256 9bc2…",
        hint="do not restore from it; run maintenance_daily with routines=[backup.postgres] and check the disks",
    )
    return story(
        key("backup.verify", f"{system}/db"),
        "Backup verification",
        seconds=3.3,
        after=40,
        state="success" if ok else "failed",
        findings=() if ok else (damage,),
        actions=[
            (
                Action(name="verify", subject=proof["id"], reason="newest"),
                "done" if ok else "failed",
                "61 files read",
                {"verification": proof},
            )
        ],
    )


def tested(ok: bool = True, **more: Any) -> dict[str, Any]:
    """Evidence of a restore test, as the routine keeps it."""
    return {
        "id": "20261121T060012Z-7f3a",
        "kind": "dump",
        "ok": ok,
        "started": "2026-11-21T06:01:00+00:00",
        "phases": {"fetch": 3.25, "start": 1.1, "restore": 214.0, "amcheck": 9.4, "compare": 22.5, "smoke": 0.25},
        "rto_seconds": 14_400,
        "age_seconds": 3_600,
        "rpo_seconds": 93_600,
        "differences": []
        if ok
        else [{"name": ["public", "claim"], "expected": "41 rows, hash 7", "seen": "40 rows, hash 9"}],
        "smoke": {"claims": {"ok": True, "seen": 41}, "newest_claim": {"ok": ok, "seen": 0, "least": 1}},
        "server_version": "18.0",
        "method": "local",
        "checked": ["amcheck", "fingerprints"],
        "recovery_seconds": 218.35,
        **more,
    }


def restore_test(system: str, ok: bool = True) -> list[ev.Event]:
    """A restore test of the newest backup."""
    action = Action(name="restore_test", subject="20261121T060012Z-7f3a", reason="the newest")
    status, detail = ("done", "59 tables are identical to their source") if ok else ("failed", "public.claim differs")
    hint = "do not restore from it; make a new backup and test that"
    found = finding("identity", "public.claim", Severity.CRITICAL, "public.claim differs from its source", hint=hint)
    return story(
        key("backup.restore_test", f"{system}/db"),
        "Restore test",
        seconds=251,
        after=60,
        state="success" if ok else "failed",
        findings=() if ok else (found,),
        actions=[(action, status, detail, {"restore_test": tested(ok)})],
    )


def retention(system: str) -> list[ev.Event]:
    """Retention that removed two backups."""
    gone = [
        {"id": f"2026101{n}T060012Z-000000{n:02d}", "kind": "dump", "reason": "no tier keeps it any more"}
        for n in (3, 4)
    ]
    action = Action(name="remove", subject=f"{system}/db", reason="2 backups are no longer kept")
    removed = (action, "done", "removed 2 backups, 1.3 GB", {"removed": {"backups": gone}})
    return story(key("backup.retention", f"{system}/db"), "Backup retention", after=50, actions=[removed])


def proven(target: str, days: int, **more: Any) -> Proven:
    """A backup of the catalogue, made so many days ago."""
    at = START - timedelta(days=days)
    values: dict[str, Any] = {
        "target": target,
        "kind": "dump",
        "id": f"{at:%Y%m%dT%H%M%SZ}-7f3a{days:04d}",
        "tier": "weekly" if at.weekday() == 6 else "daily",
        "key_id": "2026-q4",
        "location": f"s3://upkeep-backups/{target}/{at:%Y%m%dT%H%M%SZ}-7f3a{days:04d}",
        "manifest_sha256": "9f" * 32,
        "content_sha256": "1b" * 32,
        "finished": at,
        "size_bytes": 684_021_311 - days * 1_000_000,
        "source_bytes": 1_830_000_000,
        "verified_at": at + timedelta(minutes=2),
        "verified_ok": True,
        "verification": {"id": "x", "kind": "dump", "ok": True, "files": 61, "decoded": True, "seconds": 3.1},
        "total": 13,
        **more,
    }
    return Proven(**values)


def proof_of(ok: bool = True, days: int = 0, **more: Any) -> dict[str, Any]:
    """What the catalogue says of a backup's restore test."""
    at = START - timedelta(days=days, minutes=-6)
    test = restored.of_evidence(tested(ok, **more), at)
    return {"tested_at": at, "tested_ok": ok, "tests": (test,)}


def proofs(system: str) -> tuple[Proven, ...]:
    """The backups of a system's database: proved ones, an unproved one, a damaged one, one that was restored late."""
    target = f"{system}/db"
    full = proven(target, 6, kind="physical", total=2, key_id="", size_bytes=910_000_000)
    more = proven(target, 1, kind="physical", total=2, key_id="", size_bytes=31_000_000, parent=full.id)
    late = {"phases": {"fetch": 900, "restore": 16_000}, "recovery_seconds": 16_900, "age_seconds": 100_000}
    dumps = [
        proven(target, 0, **proof_of()),
        proven(target, 1, verified_at=None, verified_ok=None, verification=None),
        proven(target, 2, verified_ok=False, **proof_of(ok=False, days=2)),
        proven(target, 3, key_id="", **proof_of(days=3, **late)),
        *(proven(target, days) for days in range(4, 13)),
    ]
    return (*dumps, more, full)


def proved() -> Report:
    """A week's proof: restore tests, one of which failed, a retention, and the backups of both systems."""
    systems = ("claims", "campus")
    routines = ("backup.verify", "backup.restore_test", "backup.retention")
    said: list[ev.Event] = [opened("weekly"), expected(*((r, f"{s}/db") for s in systems for r in routines))]
    for system in systems:
        said += [*verification(system), *restore_test(system, ok=system == "claims"), *retention(system)]
    return report_of(said, troubled_extras(proofs={f"{s}/db": proofs(s) for s in systems}))


def service(system: str, **more: Any) -> list[ev.Event]:
    measurements = [measure("service.state", 1, "state")]
    for n, endpoint in enumerate(("health", "claims", "predict")):
        measurements += [
            measure("endpoint.state", int(n == 2), "state", endpoint),
            measure("error_rate", 10.0 * (n == 2), "%", endpoint),
            measure("tries", 10, "count", endpoint),
            measure("response_time.median", 21.5 * (n + 1) ** 2, "ms", endpoint),
            measure("response_time.p95", 44.0 * (n + 1) ** 2, "ms", endpoint),
            measure("endpoint.uptime", 100 - n / 3, "%", endpoint),
        ]
    return story(key("services.health", f"{system}/api"), "Service health", after=9, measurements=measurements, **more)


def troubled_events() -> list[ev.Event]:
    """A night in which nearly everything happened that can."""
    slow = finding(
        "response_time",
        "predict",
        Severity.WARNING,
        "answers slowly: median 194 ms of 10 tries",
        observed="194 ms",
        limit="100 ms",
        hint="compare with its history in the report, and with the database's query times of this run",
    )
    sequence = finding(
        "sequence",
        "public.claim_id_seq",
        Severity.CRITICAL,
        "sequence public.claim_id_seq has given out 96 % of its values; inserts fail when it is exhausted",
        observed="96 %",
        limit="90 %",
        hint="alter the column and the sequence to bigint in the next maintenance window",
    )
    blind = finding(
        "privilege",
        "pg_stat_activity",
        Severity.UNKNOWN,
        "sessions of other users cannot be seen: long queries and locks are unknown",
        hint="GRANT pg_read_all_stats TO upkeep;",
    )
    note = finding("version", "server", Severity.INFO, "PostgreSQL 18.1 is out, this is 18.0", hint="update at leisure")
    systems = ("claims", "campus", "cardiology", "molecular", "student")
    wanted = [(r, f"{s}/db") for s in systems for r in ("database.health", "backup.postgres", "backup.verify")]
    wanted += [("services.health", f"{s}/api") for s in systems] + [("database.health", "student/archive")]
    died = key("backup.postgres", "molecular/db")
    skipped = "excluded by the system file: a replica is backed up at its primary"
    return [
        opened(params={"settings": {"services.health": {"tries": 10}}, "dry_run": False}),
        expected(*wanted, skip={"student/archive": skipped}),
        *health("claims", state="failed", findings=(sequence, note), settings={"long_query": {"warning": 300}}),
        *backup("claims"),
        *verification("claims"),
        *service("claims", findings=(slow,)),
        *health("campus", findings=(blind,)),
        *backup("campus"),
        *verification("campus", ok=False),
        *service("campus"),
        *health("cardiology"),
        *backup("cardiology"),
        *verification("cardiology"),
        *service("cardiology"),
        *health("molecular"),
        *story(
            died,
            "Backup",
            state=None,
            actions=[(Action(name="dump", subject="molecular/db", reason="daily"), "", "", {})],
        ),
        *verification("molecular"),
        *service("molecular"),
        *story(key("database.health", "student/db"), "Database health", state="retry", reason="connection cut"),
        *story(
            key("database.health", "student/db", 2),
            "Database health",
            state="failed",
            seconds=5.2,
            reason="127.0.0.1:5432/student: the password of role upkeep was refused",
            hint="correct the connection student_db",
        ),
        *story(
            key("backup.postgres", "student/db"),
            "Backup",
            state="skipped",
            seconds=0.1,
            reason="outside the maintenance window 22:00 to 05:00",
        ),
        *verification("student"),
        *service("student"),
        ev.Escalated(
            at=START + timedelta(seconds=60),
            run=RUN,
            cause="failure",
            subject="claims/db",
            system="claims",
            rung=1,
            message="claims/db: Database health found something critical",
            deliveries=(
                ev.Escalated.Delivery(
                    contact="Database Administrator",
                    channel="email",
                    address="dba@insurance-claims.com",
                    delivered=True,
                    detail="250 2.0.0 Ok: queued as 4cT1",
                ),
                ev.Escalated.Delivery(
                    contact="On-call", channel="phone", address="+1-555-0100", delivered=None, detail="no gateway"
                ),
            ),
        ),
        ev.Escalated(
            at=START + timedelta(seconds=70),
            run=RUN,
            cause="failure",
            subject="campus/db",
            system="campus",
            rung=1,
            message="campus/db: Backup verification found something critical",
            deliveries=(
                ev.Escalated.Delivery(
                    contact="Campus IT",
                    channel="webhook",
                    address="campus_chat",
                    delivered=False,
                    detail="503 Service Unavailable",
                ),
            ),
        ),
    ]


def troubled_extras(**more: Any) -> Extras:
    series = {}
    for system in TITLES:
        for n, name in enumerate(("connect.time", "query_time.median", "query_time.p95", "database.size")):
            series[f"{system}/db", "database.health", name, ""] = wave(1.8e9 if n == 3 else 10, 2e7 if n == 3 else 3)
        for endpoint in ("health", "claims", "predict"):
            series[f"{system}/api", "services.health", "response_time.median", endpoint] = wave(80, 25)
        series[f"{system}/db", "database.health", "table.size", "public.claim"] = wave(4e8, 2e6)
        series[f"{system}/db", "backup.postgres", "backup.size", ""] = wave(6.8e8, 4e6)
    seen = {"claims/db|database.health|sequence|public.claim_id_seq": Seen(first=START - timedelta(days=3), times=4)}
    stored = {
        f"{system}/db": Stored(
            kept=31, newest_at=START, proven_id="20261121T060012Z-7f3a", proven_at=START + timedelta(seconds=45)
        )
        for system in TITLES
    }
    values: dict[str, Any] = {
        "now": START + timedelta(seconds=95),
        "titles": TITLES,
        "zones": ZONES,
        "series": series,
        "first_seen": seen,
        "stored": stored,
    }
    return Extras(**(values | more))


def record_of(events: Iterable[ev.Event], run: ev.RunKey = RUN) -> RunRecord:
    return fold(run, events)


def report_of(events: Iterable[ev.Event], extras: Extras | None = None, run: ev.RunKey = RUN) -> Report:
    record = fold(run, events)
    return build(record, judge_run(record), extras or Extras(now=START + timedelta(seconds=95)))


def troubled() -> Report:
    return report_of(troubled_events(), troubled_extras())


def quiet_events(systems: Iterable[str] = ("claims", "campus"), dry_run: bool = False) -> list[ev.Event]:
    """A night in which all is well."""
    names = list(systems)
    wanted = [(r, f"{s}/db") for s in names for r in ("database.health", "backup.postgres")]
    said: list[ev.Event] = [opened(params={"dry_run": dry_run}), expected(*wanted)]
    for system in names:
        said += [*health(system, dry_run=dry_run), *backup(system, dry_run=dry_run)]
    return said


def vacuumed(name: str, size: int, **more: Any) -> dict[str, Any]:
    """Evidence of a table, as the vacuum keeps it."""
    return {
        "table": name,
        "oid": 16_400,
        "seconds": size / 2e8,
        "before": {"heap": size, "indexes": size // 2, "dead": size // 900, "xid_age": 180_000_000},
        "after": {"heap": size * 3 // 4, "indexes": size // 2, "dead": 0, "xid_age": 5},
        "report": {"removed": size // 900, "pages_removed": size // 4 // 8192, "wal_bytes": size // 10},
        **more,
    }


def vacuum(system: str, tables: int) -> list[ev.Event]:
    """A night after a long time: most tables done, some in bundles, a few locked, one damaged."""
    actions: list[tuple[Action, str, str, dict[str, Any]]] = []
    findings: list[Finding] = []
    for n in range(tables):
        name = f"public.claim_{n:04d}"
        action = Action(name="vacuum", subject=name, reason="20 % of its rows are dead")
        if n % 50 == 7:
            why = f"{name} could not be vacuumed: it was locked, and again at the end of the run: pid {4000 + n} app"
            findings.append(finding("locked", name, Severity.WARNING, why, hint="end what holds the lock"))
            actions.append((action, "skipped", why, {"table": name, "carried": True, "waited": 2, "locked": True}))
        elif n == 11:
            why = f"{name}: invalid page in block 17 of relation base/5/16400 (SQLSTATE XX001)"
            findings.append(finding("damaged", name, Severity.CRITICAL, why, hint="change nothing, keep every backup"))
            actions.append((action, "failed", why, {"table": name, "sqlstate": "XX001", "seconds": 0.2}))
        else:
            size = 3_000_000_000 // (n + 1)
            told = f"vacuumed in {size / 2e8:.2f} s, {size // 900:,} rows removed"
            actions.append((action, "done", told, vacuumed(name, size)))
    small = [{**vacuumed(f"public.note_{n:02d}", 20_000), "status": "done", "detail": "vacuumed"} for n in range(50)]
    bundle = Action(name="vacuum", subject="public.note_00 and 49 more small tables", reason="dead rows; and so on")
    actions.append((bundle, "done", "50 small tables: 50 done; 1,100 rows removed", {"tables": small}))
    measurements = [
        measure("vacuum.done", tables, "tables"),
        measure("vacuum.oldest_age", 182_345_678, "xids"),
        measure("vacuum.wal_bytes", 5.3e8, "bytes"),
        measure("vacuum.carried_over", 1, "tables"),
        *(measure("vacuum.seconds", 9 / (n + 1), "s", f"public.claim_{n:04d}") for n in range(tables // 2)),
    ]
    return story(
        key("database.vacuum", f"{system}/db"),
        "Vacuum and analyze",
        seconds=900,
        state="failed",
        findings=findings,
        measurements=measurements,
        actions=actions,
    )


def reindex(system: str) -> list[ev.Event]:
    """Some indexes rebuilt, some left to people."""
    actions: list[tuple[Action, str, str, dict[str, Any]]] = []
    for n in range(12):
        name, size = f"public.claim_{n:02d}_date_idx", 900_000_000 // (n + 1)
        approval = f"rebuilding {name} takes about {12 - n} min" if n < 3 else ""
        action = Action(
            name="rebuild",
            subject=name,
            reason=f"{60 - n} % of it is empty",
            approval=approval,
            undo="",
            details={"bytes": size, "command": f"REINDEX INDEX CONCURRENTLY {name}"},
        )
        proof = {"index": name, "seconds": size / 3e7, "bytes_before": size, "bytes_after": size // 3}
        told = f"{name} was rebuilt: {size // 1_000_000} MB before, {size // 3_000_000} MB now"
        actions.append((action, "proposed", "", {}) if approval else (action, "done", told, proof))
    said = story(key("database.reindex", f"{system}/db"), "Index rebuilds", after=30, actions=actions)
    return [
        event.model_copy(update={"proposed": True}) if isinstance(event, ev.ActionOpened) and event.action.approval
        else event
        for event in said
        if not (isinstance(event, ev.ActionClosed) and event.status == "proposed")
    ]  # fmt: skip


def heavy_events(tables: int = 40, systems: Iterable[str] = tuple(TITLES)) -> list[ev.Event]:
    """The heavy work of a weekend, with findings of several lines and one that all systems share."""
    names = list(systems)
    routines = ("database.vacuum", "database.reindex", "database.slow_queries", "capacity.growth")
    said: list[ev.Event] = [opened("weekly"), expected(*((r, f"{s}/db") for s in names for r in routines))]
    slow = finding(
        "slow",
        "4711",
        Severity.WARNING,
        "65 calls of 812 ms in the mean, of one statement\nSELECT *\n  FROM claim\n WHERE id = $1\nSeq Scan on claim",
        observed="812 ms",
        limit="50 ms",
        hint="CREATE INDEX CONCURRENTLY claim_id ON claim (id);\nundo: DROP INDEX CONCURRENTLY claim_id;",
    )
    short = finding(
        "history",
        "server",
        Severity.UNKNOWN,
        "too little history to tell when space will be used up: 1 point, expected 5",
        hint="wait for four more runs",
    )
    for system in names:
        said += vacuum(system, tables)
        said += reindex(system)
        taken = measure("statements.taken_at", START.timestamp(), "epoch s")
        slow_key = key("database.slow_queries", f"{system}/db")
        said += story(slow_key, "Slow queries", after=12, findings=(slow,), measurements=(taken,))
        said += story(key("capacity.growth", f"{system}/db"), "Growth and capacity", after=13, findings=(short,))
    return said


def heavy(tables: int = 40) -> Report:
    return report_of(heavy_events(tables), troubled_extras())


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7*7 }}{% raw %}",
    "nul\x00 bell\x07 \x1b[31mred\x1b[0m \x1b]8;;http://evil.example\x07link\x1b]8;;\x07",
    "\u202etxt.exe\u2066 \u200f",
    "W" * 3000,
    "</style><style>*{display:none}</style>",
    "<!--bar-->",
    "`code` **bold** [link](http://evil.example) | pipe \n# heading\n- item",
    "lone \ud800 surrogate",
    'x"; drop table y;--',
    "javascript:alert(1)",
)


def hostile_events() -> list[ev.Event]:
    """Every place that takes foreign text holds something nasty."""
    run = RUN.model_copy(update={"run_id": f"manual__{HOSTILE[1]}"})
    said: list[ev.Event] = [opened(run=run, params={HOSTILE[0]: HOSTILE[1], "dry_run": False})]
    wanted = []
    for n, text in enumerate(HOSTILE):
        target = f"sys{n}{text}/db"
        wanted.append(("database.health", target))
        found = finding(text, text, Severity.CRITICAL, text, observed=text, limit=text, hint=text)
        action = Action(name=text, subject=text, reason=text, undo=text, details={text: text})
        evidence = {"backup": {"id": text, "location": text, text: text}, text: [text]}
        said += story(
            key("database.health", target, run=run),
            text,
            state="failed",
            reason=text,
            hint=text,
            findings=(found,),
            measurements=[measure(text, 1.5, text, text), measure(text, 1.5, text)],
            actions=[(action, "done", text, evidence)],
            settings={text: text},
        )
        said.append(
            ev.Escalated(
                at=START,
                run=run,
                cause="failure",
                subject=text,
                system=target.split("/", maxsplit=1)[0],
                rung=1,
                message=text,
                deliveries=(
                    ev.Escalated.Delivery(contact=text, channel=text, address=text, delivered=False, detail=text),
                ),
            )
        )
    said.insert(1, expected(*wanted, ("logs.review", f"{HOSTILE[1]}/gone"), run=run, skip={wanted[0][1]: HOSTILE[0]}))
    return said


def hostile() -> Report:
    run = RUN.model_copy(update={"run_id": f"manual__{HOSTILE[1]}"})
    extras = Extras(
        now=START + timedelta(seconds=95),
        titles={f"sys{n}{text}".split("/")[0]: text for n, text in enumerate(HOSTILE)},
        ledger_away=HOSTILE[1],
    )
    return report_of(hostile_events(), extras, run)
