"""Writes an access log like a busy site's, the same bytes every time, and tells what was planted in it."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

DAY = 86_400
LINES = 4_700  # a million bytes, about
_AGENTS = [
    f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 Safari/537.36"
    for system in ("X11; Linux x86_64", "Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7")
    for version in range(100, 140)
]
_PLAIN = ["/", "/health", "/static/app.js", "/static/site.css", "/api/claims", "/api/policies", "/dashboard", "/about"]
_WORDS = [
    "red",
    "blue+shoe",
    "caf%C3%A9",
    "a%20b",
    "water",
    "order",
    "o%27brien",
    "union+square",
    "select+all",
    "north",
]
_REFERERS = ["-", "-", "https://app.example/dashboard", "https://app.example/api/claims?page=2"]
_ATTACKS = {
    "sqli": [
        "/item?id=1%20UNION%20SELECT%20user%2Cpass%20FROM%20users",
        "/item?id=1+union+all+select+null,null",
        "/item?id=1%27%20OR%20%271%27%3D%271",
        "/item?id=1;drop%20table%20claims",
    ],
    "xss": ["/search?q=%3Cscript%3Ealert(1)%3C/script%3E", "/search?q=<script>alert(1)</script>"],
    "traversal": ["/download?file=../../../../etc/passwd", "/static/..%2f..%2f..%2fetc/passwd"],
}
_PROBES = ["/.env", "/wp-login.php", "/phpmyadmin/index.php", "/.git/config", "/cgi-bin/luci"]
_SCANNERS = [
    "sqlmap/1.7.2#stable (https://sqlmap.org)",
    "Mozilla/5.00 (Nikto/2.1.6)",
    "masscan/1.3",
    "Nuclei - Open-source",
]
_STATUS = [200] * 85 + [304] * 6 + [301] * 2 + [404] * 4 + [400] + [500] + [403]


def write(path: Path, gigabytes: float, *, start: float = 1_791_590_400) -> Counter[str]:
    """Write a log of about so many gigabytes, whose lines lie within a day from `start`; return planted counts."""
    planted: Counter[str] = Counter()
    total = int(gigabytes * 1000)
    with path.open("wb") as file:
        for part in range(total):
            made = random.Random(part)
            lines = [_line(made, start + DAY * (part + n / LINES) / total, planted) for n in range(LINES)]
            file.write("".join(lines).encode())
    return planted


_stamps: dict[int, str] = {}


def _stamp(at: float) -> str:
    second = int(at)
    if second not in _stamps:
        _stamps.clear()
        _stamps[second] = datetime.fromtimestamp(second, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
    return _stamps[second]


def _line(made: random.Random, at: float, planted: Counter[str]) -> str:
    luck = made.random()
    number = int(luck * 1e9)
    client = f"10.{number % 7}.{number // 7 % 251}.{number // 1757 % 29}"
    method, status, agent, referer = (
        "GET",
        _STATUS[number // 11 % 100],
        _AGENTS[number // 3 % 120],
        _REFERERS[number % 4],
    )
    took = min(made.lognormvariate(-3, 1.1), 99.0)
    if luck < 0.35:
        target = _PLAIN[number % 8]
    elif luck < 0.70:
        target = f"/api/claims/{number % 90_000}/documents/{number // 13 % 40}"
    elif luck < 0.85:
        target = f"/api/policies/{number % 50_000}?page={number // 7 % 30}&q={_WORDS[number % 10]}"
    elif luck < 0.95:
        target, method = f"/api/members/{number % 30_000:08x}-1111-4222-8333-44445555{number % 10_000:04d}", "PUT"
    else:
        return _special(made, at, client, planted)
    planted["writes_failed"] += method != "GET" and status >= 400
    return _text(client, at, method, target, status, number % 40_000, referer, agent, took)


def _special(made: random.Random, at: float, client: str, planted: Counter[str]) -> str:
    """Return a line of the rarer sort: logins, uploads, tokens, attacks, probes, scanners."""
    kind, status, took = made.random(), 200, made.lognormvariate(-3, 1.1)
    method, target, agent = "GET", "/", _AGENTS[0]
    if kind < 0.40:
        method, target, status = "POST", "/login", 401 if kind < 0.2 else 302
        planted["failed_logins"] += status == 401
    elif kind < 0.70:
        method, target, status = "POST", "/api/upload/", 413 if kind < 0.45 else 201
        planted["uploads"] += 1
    elif kind < 0.85:
        method, target = "POST", "/api/token/refresh"
        planted["tokens"] += 1
    elif kind < 0.88:
        target = f"/reset?token=a1b2c3d4e5f6{int(kind * 1e6)}"
        planted["leaks"] += 1
    elif kind < 0.94:
        name = made.choice(list(_ATTACKS))
        target, status = made.choice(_ATTACKS[name]), made.choice([403, 404, 400])
        planted[name] += 1
    elif kind < 0.98:
        target, status = made.choice(_PROBES), 404
        planted["probes"] += 1
    else:
        target, agent, status = f"/random{int(kind * 1e5)}", made.choice(_SCANNERS), 404
        planted["scanners"] += 1
    planted["writes_failed"] += method != "GET" and status >= 400
    return _text(client, at, method, target, status, 512, "-", agent, took)


def _text(*parts: Any) -> str:
    client, at, method, target, status, size, referer, agent, took = parts
    return (
        f'{client} - - [{_stamp(at)}] "{method} {target} HTTP/1.1" {status} {size} "{referer}" "{agent}" {took:.3f}\n'
    )
