"""Hostile access logs: bombs, floods of names, crafted lines. Memory and time stay bounded, nothing is silent."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.test_log_access import line, review, save, segment
from upkeep.core.model import Severity
from upkeep.routines.logs._access import judge
from upkeep.routines.logs._access_settings import AccessLimits

# Not `ru_maxrss`, which begins with that of whoever started the process.
_PEAK = """
import re, sys
from datetime import datetime, timedelta, UTC
from pathlib import Path
from tests.integration.test_log_access import review
found = review(Path(sys.argv[1]))
memory = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10
print(found.lines.read, found.requests, len(found.lines.unread), memory)
"""


def apart(path: Path) -> list[int]:
    """Review a file in a process of its own; return lines read, requests, unread files, peak memory (MiB)."""
    out = subprocess.run(
        [sys.executable, "-c", _PEAK, str(path)], check=True, capture_output=True, text=True, timeout=300
    )
    return [int(word) for word in out.stdout.split()]


def test_a_zip_bomb_ends_with_a_reason(tmp_path: Path) -> None:
    """A hundred megabytes of one letter in a tenth of one: memory stays small, and what it says is unknown."""
    bomb = tmp_path / "bomb.log.gz"
    with gzip.open(bomb, "wb", compresslevel=6) as file:
        file.write(line() + b"\n")
        for _ in range(96):
            file.write(b"a" * (1 << 20))
    read, inside, unread, memory = apart(bomb)
    assert (inside, unread) == (1, 1)
    assert read == 2  # the honest line, and the beginning of the endless one
    assert memory < 400
    found = review(bomb)
    assert "max_ratio" in found.lines.unread[0].reason
    assert judge(found, AccessLimits()).severity is Severity.UNKNOWN


def test_a_bomb_of_good_lines_is_stopped_by_size(tmp_path: Path) -> None:
    """Lines that are read like any other count until the limit."""
    packed = tmp_path / "a.log.gz"
    packed.write_bytes(gzip.compress((line() + b"\n") * 200_000))
    found = review(packed, max_decoded="5 MB")
    assert 30_000 < found.requests < 60_000
    assert "max_decoded" in found.lines.unread[0].reason
    assert found.lines.unparsed <= 1


@pytest.mark.parametrize("cut", [0.5, 0.999])
def test_a_torn_or_spoilt_gzip_file_gives_what_it_has(tmp_path: Path, cut: float) -> None:
    """Lines before the damage count, the rest is unknown."""
    made = random.Random(1)
    whole = gzip.compress(b"".join(line(n, target=f"/{made.random()}") + b"\n" for n in range(5000)))
    torn, spoilt, wrong = (tmp_path / f"{name}.log.gz" for name in ("torn", "spoilt", "wrong"))
    torn.write_bytes(whole[: int(len(whole) * cut)])
    place = int(len(whole) * cut)
    spoilt.write_bytes(whole[:place] + bytes(b ^ 0xFF for b in whole[place:]))
    wrong.write_bytes(line() + b"\n")
    found = review(torn, spoilt, segment(wrong))
    assert len(found.lines.unread) == 3
    assert 4000 * cut < found.requests <= 10_000


def test_millions_of_names_do_not_fill_memory(tmp_path: Path) -> None:
    """Every line another client, path and agent: totals stay exact, what is folded is said, memory is bounded."""
    path = tmp_path / "flood.log"
    with path.open("wb") as file:
        for n in range(150_000):
            parts = {
                "client": f"{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}.1",
                "target": f"/x{n:x}z/y{n * 7:x}z",
                "agent": f"a{n}",
            }
            file.write(line(n % 86_400, status=401, **parts) + b"\n")
    read, inside, unread, memory = apart(path)
    assert (read, inside, unread) == (150_000, 150_000, 0)
    assert memory < 400
    found = review(path, max_clients=1000, max_routes=50)
    assert found.denied == 150_000
    assert {c.what for c in found.capped} >= {"clients", "routes", "bursts"}
    assert judge(found, AccessLimits()).findings


def test_a_log_of_attacks_only_is_read_in_time(tmp_path: Path) -> None:
    """Lines that all have to be looked at closely, all different, are read at thousands a second still."""
    lines = [
        line(n, target=f"/a{n}?q={n}%27%20or%20%27{n}%27%3D%27{n}<script>{n}../../etc/passwd") for n in range(5000)
    ]
    lines += [line(n, target="/" + "%2527%20or%20" * 3000 + str(n)) for n in range(20)]
    path = save(tmp_path / "a.log", lines)
    began = time.monotonic()
    found = review(path)
    assert sum(a.answers.requests for a in found.attacks if a.kind == "sqli") >= 5000
    assert time.monotonic() - began < 30


def test_nothing_in_a_line_is_carried_out_or_shown_raw(tmp_path: Path) -> None:
    """Escape sequences, markup and line breaks in any field come out as text."""
    evil = "\x1b]0;x\x07<img src=x onerror=alert(1)>\u202e"
    lines = [
        line(target=f"/{evil}", agent=evil, referer=f"https://{evil}/", method="POST", status=403, took="9.000"),
        line().replace(b"10.0.0.1", b"\x1b[31m10.0.0.1"),
    ]
    found = review(save(tmp_path / "a.log", lines))
    assert (found.requests, found.lines.unparsed) == (1, 1)
    text = judge(found, AccessLimits()).model_dump_json() + found.model_dump_json()
    for sign in ("\\u001b", "\\u0007", "\u202e", "\x1b"):
        assert sign not in text


def test_a_file_that_grows_meanwhile_is_read_to_the_agreed_place(tmp_path: Path) -> None:
    """One run sees one state of a file."""
    path = save(tmp_path / "a.log", [line(n) for n in range(1000)])
    agreed = segment(path)
    with path.open("ab") as file:
        file.write(b"\n".join(line(n) for n in range(1000)) + b"\n")
    assert review(agreed).requests == 1000
