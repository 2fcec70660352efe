"""Healthy days: what programs write when nothing is wrong must not be trouble; and real trouble must be."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.integration.log_review_bench import DAY, LogBench
from upkeep.core.model import Severity

Day = Callable[[datetime, random.Random, bool], Iterator[str]]
REFUSED = "claims.models.Claim.DoesNotExist: Claim matching query does not exist."


def moments(day: datetime, count: int) -> Iterator[tuple[int, datetime]]:
    for n in range(count):
        yield n, day + timedelta(seconds=86_000 * n / count)


def django(day: datetime, dice: random.Random, deploy: bool) -> Iterator[str]:
    """404s, forgotten CSRF tokens, mistyped passwords, one view that fails now and then, a restart of gunicorn."""
    for n, at in moments(day, 1500):
        s, chance = f"{at:%Y-%m-%d %H:%M:%S},{n % 1000:03d}", dice.random()
        if chance < 0.03:
            yield f"WARNING {s} log 7 14 Not Found: /{dice.choice(['favicon.ico', 'wp-login.php', '.env'])}\n"
        elif chance < 0.036:
            yield f"WARNING {s} log 7 14 Forbidden (CSRF token missing.): /login/\n"
        elif chance < 0.04:
            yield f"WARNING {s} views 7 14 Failed login for user u{n % 90} from 10.0.0.{n % 250}\n"
        elif chance < 0.042:
            yield f"ERROR {s} log 7 14 Internal Server Error: /claims/{n}/\nTraceback (most recent call last):\n"
            yield f'  File "/srv/app/views.py", line 3, in get\n    return x\n{REFUSED}\n'
        else:
            yield f'INFO {s} basehttp 7 14 "GET /claims/{n}/ HTTP/1.1" {dice.choice([200, 302, 304])} {n}\n'
        for worker in range(9 if deploy and n == 700 else 0):
            yield f"[{at:%Y-%m-%d %H:%M:%S} +0000] [7] [ERROR] Worker (pid:{worker + 50}) was sent SIGTERM!\n"


def structured(day: datetime, dice: random.Random, _: bool) -> Iterator[str]:
    """Ids of every kind, empty fields of errors, a declined card, an expired token."""
    for n, at in moments(day, 1500):
        said = {
            "timestamp": at.isoformat().replace("+00:00", "Z"), "level": "info", "event": "request", "status": 200,
            "dd.trace_id": str(dice.getrandbits(63)), "span_id": dice.getrandbits(63), "error": None, "errors": 0,
            "request_id": f"{dice.getrandbits(128):032x}", "user": f"u{n % 50}", "ms": dice.randrange(90),
        }  # fmt: skip
        if n % 300 == 7:
            said |= {
                "level": "error",
                "event": f"payment {n} declined",
                "exc_info": "Traceback\n  x\nCardError: declined",
            }
        elif n % 150 == 11:
            said |= {"level": "warning", "event": "login failed" if n % 2 else "token expired"}
        yield json.dumps(said) + "\n"


def plain(day: datetime, dice: random.Random, _: bool) -> Iterator[str]:
    """Programs that say that there was no error."""
    good = ("sync done: 120 records, 0 errors, error=None, last_error: null", "job 7 finished without error",
            "exit 0, no error", "request 7 took 3 ms", '{"error": null, "exception": ""}')  # fmt: skip
    for n, at in moments(day, 1000):
        text = f"ERROR: could not open file {n}" if n % 400 == 3 else dice.choice(good)
        yield f"{at:%Y-%m-%dT%H:%M:%S}Z {text}\n"


def nginx(day: datetime, dice: random.Random, deploy: bool) -> Iterator[str]:
    """The error log, which calls every file that is not there an error."""
    for n, at in moments(day, 300):
        name = dice.choice(["wp-login.php", "auth/failed", "favicon.ico"])
        text = f'[error] 7#7: *{n} open() "/srv/www/{name}" failed (2: No such file or directory), client: 10.0.0.1'
        yield f"{at:%Y/%m/%d %H:%M:%S} " + (text if n % 2 else "[notice] 7#7: signal process started") + "\n"
    if deploy:
        yield f"{at:%Y/%m/%d %H:%M:%S} [notice] 7#7: reconfiguring\n"


def postgres(day: datetime, dice: random.Random, deploy: bool) -> Iterator[str]:
    """Checkpoints, statements, a mistyped password, a key that is there already, a restart with 40 connections."""
    for n, at in moments(day, 1500):
        s, chance = f"{at:%Y-%m-%d %H:%M:%S}.123 UTC [{n % 90 + 100}]", dice.random()
        if chance < 0.004:
            yield f'{s} app@db FATAL:  password authentication failed for user "bob"\n'
        elif chance < 0.006:
            yield f'{s} app@db ERROR:  duplicate key value violates unique constraint "x_pkey"\n'
            yield f"{s} app@db DETAIL:  Key (id)=({n}) already exists.\n"
        elif chance < 0.1:
            yield f"{s} app@db LOG:  duration: {200 + n % 300}.123 ms  statement: select * from t where id={n}\n"
        else:
            yield f"{s} app@db LOG:  connection received: host=10.0.0.1 port={n}\n"
        for _ in range(40 if deploy and n == 700 else 0):
            yield f"{s} app@db FATAL:  terminating connection due to administrator command\n"
            yield f"{s} app@db FATAL:  the database system is starting up\n"


KINDS: dict[str, tuple[str, Day]] = {
    "django": ("django", django), "json": ("json", structured), "plain": ("plain", plain),
    "nginx": ("plain", nginx), "postgres": ("postgres", postgres),
}  # fmt: skip
TROUBLE = {
    "django": "ERROR {:%Y-%m-%d %H:%M:%S},1 log 7 14 could not save claim {}: disk is full\n",
    "json": '{{"timestamp": "{:%Y-%m-%dT%H:%M:%SZ}", "level": "error", "event": "claim {}: disk is full"}}\n',
    "plain": "{:%Y-%m-%dT%H:%M:%SZ} error while claim {} was saved: disk is full\n",
    "nginx": "{:%Y/%m/%d %H:%M:%S} [error] 7#7: *{} connect() failed (111: Connection refused) while connecting\n",
    "postgres": "{:%Y-%m-%d %H:%M:%S}.1 UTC [7] app@db ERROR:  could not extend file: No space left ({})\n",
}


@pytest.mark.parametrize("name", KINDS)
def test_a_healthy_week_is_no_trouble_and_a_bad_hour_is(name: str, tmp_path: Path):
    """Six healthy days with a deploy on one of them give nothing at warning; then errors come, and they are named."""
    kind, write = KINDS[name]
    bench, dice = LogBench(tmp_path / "logs", tmp_path / "home", kind), random.Random(name)
    for n in range(6):
        day = DAY + timedelta(days=n)
        bench.write("".join(write(day, dice, n == 4)))
        assert bench.run(day).troubles == [], n
    day = DAY + timedelta(days=6)
    bench.write("".join(write(day, dice, False)))
    bench.write("".join(TROUBLE[name].format(day + timedelta(hours=23, seconds=n * 9), n) for n in range(200)))
    troubles = bench.run(day).troubles
    assert {"new_pattern", "spike"} <= {f.check for f in troubles}
    assert any(f.check == "new_pattern" and f.severity is Severity.WARNING for f in troubles)
