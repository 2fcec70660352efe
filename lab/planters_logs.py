"""How the faults that logs tell of are planted and taken away: in the newest window of the daily runs.

Planters only note what is to be there; `log_writers.write_logs` writes the logs afterwards.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from contextlib import closing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from lab import log_lines
from lab.log_writers import Change, Line, log_set
from lab.planted import Planted
from lab.planters import set_web_fault
from lab.windows import Span

if TYPE_CHECKING:
    from lab.embedded import Lab

OVERSIZE_LINES = 40_000
_OVERSIZE = 4_000_000
STRAY_DAYS = 12


def error_burst(lab: Lab, planted: bool) -> None:
    """Let campus's database be away for twenty minutes: nginx answers 502, and the application says something new."""
    Planted(lab.home).set("campus/nginx-log/access.log", "bad_gateway", planted)
    Planted(lab.home).set("campus/app-log/app.log", "database_away", planted)


def injection(lab: Lab, planted: bool) -> None:
    """Let somebody try injections on campus; one is answered with 200."""
    Planted(lab.home).set("campus/nginx-log/access.log", "injections", planted)


def failed_logins(lab: Lab, planted: bool) -> None:
    """Let somebody try passwords on claims and on campus."""
    Planted(lab.home).set("claims/django-log/django.log", "guessing", planted)
    Planted(lab.home).set("campus/nginx-log/access.log", "guessing_over_http", planted)


def secret_in_log(lab: Lab, planted: bool) -> None:
    """Let student's application log a password."""
    Planted(lab.home).set("student/app-log/app.log", "password", planted)


def torn_lines(lab: Lab, planted: bool) -> None:
    """Let cardiology's log hold halves of lines, as two writers without a lock leave them."""
    Planted(lab.home).set("cardiology/app-log/app.log", "torn", planted)


def slow_statement(lab: Lab, planted: bool) -> None:
    """Let molecular's PostgreSQL log a search that takes 12 s."""
    Planted(lab.home).set("molecular/postgres-log/postgresql.log", "slow_search", planted)


def deaf_writer(lab: Lab, planted: bool) -> None:
    """Leave debugging on in molecular's log, which grows over its size, and let its writer not listen to signals."""
    Planted(lab.home).set("molecular/app-log/api.log", "debugging", planted)
    live = lab.home / log_set("molecular/app-log").file
    if planted and live.exists() and live.stat().st_size < _OVERSIZE:
        live.unlink()  # rotated by a run: to be written anew
    set_web_fault(lab, "molecular", "log", {"deaf": True} if planted else None)


def stray_database(lab: Lab, planted: bool) -> None:
    """Leave a test database in student's folder, as a test run that was cut off does; a fresh one is always there."""
    folder = lab.home / "student" / "scratch"
    folder.mkdir(parents=True, exist_ok=True)
    for name, days in (("test_import.db", STRAY_DAYS), ("test_today.db", 0)):
        file = folder / name
        if days and not planted:
            file.unlink(missing_ok=True)
        elif not file.exists():
            with closing(sqlite3.connect(file)) as db, db:
                db.execute("CREATE TABLE students (id integer PRIMARY KEY, name text)")
        if file.exists():
            os.utime(file, times=(when := time.time() - days * 86_400, when))


def _spread(span: Span, share: float, minutes: float, count: int) -> list[datetime]:
    """Return moments from a share of the window on, evenly over some minutes."""
    first = span.at(share)
    return [first + timedelta(minutes=minutes * number / count) for number in range(count)]


def _bad_gateway(_: random.Random, span: Span, zone: ZoneInfo, lines: list[Line]) -> list[Line]:
    more = [
        (when, log_lines.access(when.astimezone(zone), f"192.0.2.{number % 80 + 1}", "POST /api/bookings HTTP/1.1",
                                (502, 166, 0.8)))
        for number, when in enumerate(_spread(span, 0.55, 20, 60))
    ]  # fmt: skip
    return lines + more


def _database_away(_: random.Random, span: Span, zone: ZoneInfo, lines: list[Line]) -> list[Line]:
    said = "PrismaClientInitializationError: Can't reach database server at db:5432"
    more = [(when, log_lines.plain(when.astimezone(zone), "error", said)) for when in _spread(span, 0.55, 20, 60)]
    return lines + more


_TRIED = (
    ("GET /api/rooms?id=1%27%20UNION%20SELECT%20username,password%20FROM%20users-- HTTP/1.1", 200),
    ("GET /api/rooms?id=1%27%20OR%20%271%27=%271 HTTP/1.1", 400),
    ("GET /api/rooms?id=1;DROP%20TABLE%20rooms-- HTTP/1.1", 400),
    ("GET /search?q=%3Cscript%3Ealert(1)%3C/script%3E HTTP/1.1", 404),
    ("GET /static/../../../../etc/passwd HTTP/1.1", 400),
    ("GET /static/%2e%2e/%2e%2e/etc/passwd HTTP/1.1", 404),
)


def _injections(_: random.Random, span: Span, zone: ZoneInfo, lines: list[Line]) -> list[Line]:
    asked = zip(_spread(span, 0.3, 4, len(_TRIED)), _TRIED, strict=True)
    more = [
        (when, log_lines.access(when.astimezone(zone), "203.0.113.201", request, (status, 512, 0.03), "Wget/1"))
        for when, (request, status) in asked
    ]  # fmt: skip
    return lines + more


def _guessing(_: random.Random, span: Span, zone: ZoneInfo, lines: list[Line]) -> list[Line]:
    said = "Failed login for admin from 203.0.113.77"
    more = [
        (when, log_lines.django(when.astimezone(zone), "WARNING", "auth", said))
        for when in _spread(span, 0.7, 6, 150)
    ]  # fmt: skip
    return lines + more


def _guessing_over_http(_: random.Random, span: Span, zone: ZoneInfo, lines: list[Line]) -> list[Line]:
    request = "POST /api/auth/login HTTP/1.1"
    more = [
        (when, log_lines.access(when.astimezone(zone), "203.0.113.77", request, (401, 48, 0.11), "curl/8"))
        for when in _spread(span, 0.7, 4, 120)
    ]
    return lines + more


def _password(_: random.Random, span: Span, zone: ZoneInfo, lines: list[Line]) -> list[Line]:
    # Made up, as everything here is.
    said = "login attempt user=teacher7 password=Wint3r-2026-Rain from 192.0.2.17"
    more = [(when, log_lines.python(when.astimezone(zone), "DEBUG", "web", said)) for when in _spread(span, 0.4, 30, 3)]
    return lines + more


def _torn(dice: random.Random, span: Span, _: ZoneInfo, lines: list[Line]) -> list[Line]:
    """Cut every eighth line of the window."""
    return [
        (when, line[: dice.randrange(20, 60)] if span.holds(when) and number % 8 == 0 else line)
        for number, (when, line) in enumerate(lines)
    ]


def _slow_search(_: random.Random, span: Span, __: ZoneInfo, lines: list[Line]) -> list[Line]:
    said = "duration: 12345.678 ms  statement: SELECT id FROM molecules WHERE lower(smiles) LIKE '%c1ccccc1%'"
    session = "molecular_owner@molecules molecular-web "
    return lines + [(when, log_lines.postgres(when, session, "LOG", said)) for when in _spread(span, 0.5, 60, 5)]


def _debugging(_: random.Random, __: Span, zone: ZoneInfo, lines: list[Line]) -> list[Line]:
    last = max(when for when, _ in lines)
    said = log_lines.python(
        last.astimezone(zone), "DEBUG", "api.search", "fingerprint 0f3a" + "9c41" * 16 + " compared"
    )
    return [*lines, (last, "\n".join([said] * OVERSIZE_LINES))]


CHANGES: dict[str, Change] = {
    "bad_gateway": _bad_gateway,
    "database_away": _database_away,
    "injections": _injections,
    "guessing": _guessing,
    "guessing_over_http": _guessing_over_http,
    "password": _password,
    "torn": _torn,
    "slow_search": _slow_search,
    "debugging": _debugging,
}
