"""Lines as the sample systems' programs write them, and what they say on a day on which nothing is wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

Maker = Callable[[random.Random, datetime], str]


def django(when: datetime, level: str, module: str, message: str) -> str:
    """Return a line in the form that Django's documentation calls verbose."""
    return f"{level} {_stamp(when)} {module} 2114 140213882 {message}"


def python(when: datetime, level: str, name: str, message: str) -> str:
    """Return a line of Python's logging: time, logger, level, message."""
    return f"{_stamp(when)} - {name} - {level} - {message}"


def json_line(when: datetime, level: str, logger: str, message: str, **more: Any) -> str:
    """Return a JSON object on a line."""
    said = {"timestamp": when.isoformat(timespec="milliseconds"), "level": level, "logger": logger, "message": message}
    return json.dumps(said | more)


def plain(when: datetime, level: str, message: str) -> str:
    """Return a line of a program that logs in its own way: local time, level, message."""
    return f"{when:%Y-%m-%d %H:%M:%S} [{level}] {message}"


def postgres(when: datetime, who: str, level: str, message: str) -> str:
    """Return a line of a server with the lab's log_line_prefix, `%m [%p] %q%u@%d %a `; its log_timezone is UTC."""
    at = when.astimezone(UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03} UTC [4711] {who}{level}:  {message}"


def access(
    when: datetime, client: str, request: str, answer: tuple[int, int, float], agent: str = "Mozilla/5.0"
) -> str:
    """Return a line of nginx: combined, with the request's time at the end; `answer` is status, bytes and seconds."""
    status, size, seconds = answer
    return f'{client} - - [{when:%d/%b/%Y:%H:%M:%S %z}] "{request}" {status} {size} "-" "{agent}" {seconds:.3f}'


def _stamp(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M:%S},{when.microsecond // 1000:03}"


# A healthy day. What happens once in a while is part of it: a page that is not there, a wrong password.


def claims_django(dice: random.Random, when: datetime) -> str:
    """Claims are filed, looked at, scored."""
    number = dice.randrange(1, 25_000)
    said = dice.choices(
        [
            ("INFO", "views", f"GET /api/claims/{number}/ 200 {_ms(dice, 24)} ms user={number % 400}"),
            ("INFO", "views", f"POST /api/claims/ 201 {_ms(dice, 60)} ms user={number % 400}"),
            ("INFO", "scoring", f"claim {number} scored {dice.random():.3f} by risk-model in {_ms(dice, 9)} ms"),
            ("INFO", "uploads", f"stored claim-{number:05}.pdf, {dice.randrange(20_000, 900_000)} bytes"),
            ("INFO", "auth", f"token issued for user={number % 400}"),
            ("WARNING", "log", f"Not Found: /api/claims/{number + 90_000}/"),
            ("WARNING", "auth", f"Failed login for user{number % 400} from {_client(dice)}"),
            ("ERROR", "tasks", f"Mail about claim {number} was not accepted; it is sent again later"),
        ],
        [600, 160, 150, 60, 90, 8, 6, 1],
    )[0]
    return django(when, *said)


def cardiology_app(dice: random.Random, when: datetime) -> str:
    """The ward looks at records and readings."""
    patient = dice.randrange(1, 4_000)
    level, logger, message, more = dice.choices(
        [
            ("info", "http", "request", {"method": "GET", "path": "/api/observations", "status": 200}),
            ("info", "http", "request", {"method": "POST", "path": "/api/observations", "status": 201}),
            ("info", "fhir", f"bundle for patient {patient} read", {"entries": dice.randrange(1, 60)}),
            ("info", "auth", "login", {"user": f"nurse{patient % 90}", "client": _client(dice), "success": True}),
            ("warn", "auth", "login failed", {"user": f"nurse{patient % 90}", "client": _client(dice)}),
            ("warn", "fhir", f"observation without unit for patient {patient}", {}),
            ("error", "alerts", f"pager did not answer for patient {patient}; sent again", {}),
        ],
        [500, 150, 120, 60, 5, 8, 1],
    )[0]
    if logger == "http":
        more = {**more, "duration_ms": _ms(dice, 22), "client": _client(dice)}
    return json_line(when, level, logger, message, **more)


def molecular_api(dice: random.Random, when: datetime) -> str:
    """Molecules are looked up, and results of the CRO come in."""
    number = dice.randrange(1, 20_000)
    said = dice.choices(
        [
            ("INFO", "api.molecules", f"GET /molecules/{number} 200 {_ms(dice, 30)} ms"),
            ("INFO", "api.search", f"similarity search, {dice.randrange(1, 80)} hits in {_ms(dice, 180)} ms"),
            ("INFO", "api.cro", f"results of batch {number} read, {dice.randrange(1, 96)} rows"),
            ("INFO", "worker", f"fingerprint of molecule {number} computed in {_ms(dice, 12)} ms"),
            ("WARNING", "api.molecules", f"molecule {number} has no structure"),
            ("ERROR", "api.cro", f"batch {number}: the CRO's server closed the connection; asked again"),
        ],
        [400, 120, 80, 200, 8, 1],
    )[0]
    return python(when, *said)


def molecular_postgres(dice: random.Random, when: datetime) -> str:
    """A server logs its checkpoints, and statements of more than 100 ms."""
    session = "molecular_owner@molecules molecular-web "
    took = dice.uniform(101, 420)
    who, message = dice.choices(
        [
            ("", f"checkpoint complete: wrote {dice.randrange(20, 900)} buffers; sync=0.004 s, total=26.900 s"),
            ("", "checkpoint starting: time"),
            (session, f"duration: {took:.3f} ms  statement: SELECT count(*) FROM assays WHERE molecule_id = 17"),
            (
                session,
                f"duration: {took:.3f} ms  execute <unnamed>: SELECT * FROM molecules WHERE mass BETWEEN $1 AND $2",
            ),
            ("", 'automatic analyze of table "molecules.public.assays"'),
        ],
        [50, 50, 20, 20, 10],
    )[0]
    return postgres(when, who, "LOG", message)


def student_app(dice: random.Random, when: datetime) -> str:
    """Schools ask for predictions."""
    school = f"SC{dice.randrange(40):04}"
    said = dice.choices(
        [
            ("INFO", "web", f'{_client(dice)} "GET /dashboard HTTP/1.1" 200 OK {_ms(dice, 40)} ms'),
            ("INFO", "web", f'{_client(dice)} "POST /api/predict HTTP/1.1" 200 OK {_ms(dice, 18)} ms'),
            ("INFO", "predict", f"{dice.randrange(1, 40)} students of {school} in {_ms(dice, 14)} ms"),
            ("INFO", "notifications", f"digest for {school} sent"),
            ("WARNING", "integration", f"{school}: export of the school's system is older than a day"),
            ("ERROR", "notifications", f"digest for {school} bounced; sent again to the second address"),
        ],
        [300, 200, 120, 60, 6, 1],
    )[0]
    return python(when, *said)


def student_monitor(dice: random.Random, when: datetime) -> str:
    """The guide's own monitor finds everything well."""
    return python(when, "INFO", "health_monitor", f"all checks passed in {_ms(dice, 60)} ms")


def campus_app(dice: random.Random, when: datetime) -> str:
    """Students book rooms and ask the assistant."""
    student = dice.randrange(1, 6_000)
    level, message = dice.choices(
        [
            ("info", f"booking of room R{student % 120:03} by student {student} confirmed"),
            ("info", f"assistant answered student {student} in {_ms(dice, 320)} ms"),
            ("info", f"authentication of student {student} ok"),
            ("warn", f"authentication failed for student {student}"),
            ("warn", f"room R{student % 120:03} is double booked in the timetable"),
            ("error", f"mail to student {student} bounced"),
        ],
        [200, 120, 150, 5, 6, 1],
    )[0]
    return plain(when, level, message)


_PAGES = (
    ("GET /api/timetable HTTP/1.1", 200, 0.030), ("GET /api/rooms?free=1 HTTP/1.1", 200, 0.045),
    ("POST /api/bookings HTTP/1.1", 201, 0.080), ("GET / HTTP/1.1", 200, 0.004),
    ("GET /static/app.js HTTP/1.1", 304, 0.001), ("POST /api/auth/login HTTP/1.1", 200, 0.120),
    ("POST /api/assistant HTTP/1.1", 200, 0.320), ("POST /api/upload HTTP/1.1", 201, 0.250),
    ("GET /favicon.ico HTTP/1.1", 404, 0.001), ("POST /api/auth/login HTTP/1.1", 401, 0.110),
    ("GET /api/admin HTTP/1.1", 403, 0.003), ("GET /api/timetable HTTP/1.1", 500, 0.040),
)  # fmt: skip
_OFTEN = (400, 200, 100, 300, 300, 60, 40, 12, 12, 6, 2, 1)


def campus_access(dice: random.Random, when: datetime) -> str:
    """Students look at timetables and rooms."""
    request, status, seconds = dice.choices(_PAGES, _OFTEN)[0]
    taken = min(seconds * dice.lognormvariate(0, 0.5), 0.9)
    return access(when, _client(dice), request, (status, dice.randrange(200, 9_000), taken))


def _client(dice: random.Random) -> str:
    # Networks that are kept for documentation (RFC 5737).
    return f"{dice.choice(('192.0.2', '198.51.100', '203.0.113'))}.{dice.randrange(1, 90)}"


def _ms(dice: random.Random, usual: float) -> int:
    return max(1, round(usual * dice.lognormvariate(0, 0.4)))
