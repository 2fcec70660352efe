"""Access logs: what is read at once is what the grammar says of each line alone; counts, patterns and secrets."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from upkeep.adapters.log_access_batch import METHODS
from upkeep.adapters.log_access_combined import Text, parse
from upkeep.adapters.log_access_groups import Crowd, Table, bucket, buckets, percentile
from upkeep.adapters.log_access_line import combined, json_line
from upkeep.adapters.log_access_look import where
from upkeep.adapters.log_access_routes import _normalised, _replaced
from upkeep.adapters.log_access_rules import LIKELY, RULES, SPECIAL, attacks, decoded
from upkeep.adapters.log_access_secrets import LIKELY as SECRET
from upkeep.adapters.log_access_secrets import redacted, secrets, shown
from upkeep.adapters.log_access_track import NEVER
from upkeep.adapters.log_access_words import FRONT

LINE = b'10.0.0.1 - - [10/Oct/2026:13:55:36 +0000] "GET /a/1?b=2 HTTP/1.1" 200 512 "-" "Mozilla/5.0 (X11)" 0.123'
SHAPES = [
    LINE,
    LINE + b"\r",
    b'2001:db8::1 - bob [29/Feb/2024:23:59:60 -0730] "POST /login HTTP/2.0" 401 - "https://x/" "curl/8" 12.001',
    b'host.example - bob the smith [31/Dec/1999:00:00:00 +1400] "DELETE /x HTTP/1.1" 204 0 "-" "-" -',
    b'10.0.0.1 - - [10/Oct/2026:13:55:36 +0000] "\\x16\\x03\\x01" 400 157 "-" "-" 0.000',
    b'10.0.0.1 - - [10/Oct/2026:13:55:36 +0000] "" 400 0 "-" "-" 1234.567',
    b'10.0.0.1 - - [10/Oct/2026:13:55:36 +0000] "-" 408 0 "-" "-"',
    b'10.0.0.1 - - [10/Oct/2026:13:55:36 +0000] "OPTIONS * HTTP/1.0" 200 99999999 "-" "-" 0.5',
    b'10.0.0.1 - - [10/Oct/2026:13:55:36 +0000] "GET /big HTTP/1.1" 200 12345678901 "-" "say \\"hi\\"" 0.500',
    b'10.0.0.1 - - [10/Oct/2026:13:55:36 +0000] "GET /a b c HTTP/1.1" 302 1 "-" "x" 0.500',
]


def at_once(lines: list[bytes], timed: bool) -> tuple[list[tuple[object, ...] | None], list[int]]:
    """Return what the block reader makes of lines, None for those that it leaves over."""
    text = Text.of(b"\n".join(lines) + b"\n")
    batch, when = parse(text, -(1 << 60), 1 << 60, timed=timed, unit=1000.0)
    rest = set(np.flatnonzero(when == NEVER).tolist())
    order = [n for n in range(len(lines)) if n not in rest]
    assert len(batch) == len(order)
    made: list[tuple[object, ...] | None] = [None] * len(lines)
    clients = batch.clients.to_pylist()
    for row, number in enumerate(order):
        made[number] = (
            int(batch.at[row]), clients[int(batch.client[row])], METHODS[int(batch.method[row])],
            batch.target[row].as_py(), int(batch.status[row]), int(batch.size[row]), int(batch.took[row]),
            batch.referer[row].as_py(), batch.agent[row].as_py(),
        )  # fmt: skip
    return made, [int(text.start[n]) - FRONT for n in range(len(lines))]


def alone(line: bytes, timed: bool) -> tuple[object, ...] | None:
    found = combined(line, timed=timed, unit=1000.0)
    if found is None:
        return None
    return (
        found.at, found.client, found.method, found.target, found.status, found.size, found.took, found.referer,
        found.agent,
    )  # fmt: skip


@pytest.mark.parametrize("timed", [True, False])
def test_a_block_reads_lines_as_the_grammar_reads_each_alone(timed: bool) -> None:
    """Whatever is cut out of, put into or changed in lines: a line is read as alone, or left for that."""
    made = random.Random(3)
    lines = list(SHAPES)
    for _ in range(6000):
        line = bytearray(made.choice(SHAPES))
        for _ in range(made.choice((1, 1, 1, 2, 5))):
            place, kind = made.randrange(len(line)), made.random()
            if kind < 0.35:
                del line[place : place + made.choice((1, 1, 3, 40))]
            elif kind < 0.7:
                line[place:place] = made.choice(
                    (b'"', b" ", b"\0", b"\xff", b"1", b"-", b"\\", b"\x1b[31m", b"[", b"]")
                )
            else:
                line[place] = made.choice(b'0123456789 -"[]:/?Za\0\xfe+.')
            if not line:
                break
        lines.append(bytes(line).replace(b"\n", b""))
    found, starts = at_once(lines, timed)
    assert starts[1] == len(lines[0]) + 1
    read = 0
    for line, got in zip(lines, found, strict=True):
        if got is not None:
            read += 1
            assert got == alone(line, timed), line
    assert read > 500
    assert all(got is not None for got in found[:2])


def test_usual_lines_are_not_left_over() -> None:
    """Users with blanks, IPv6, other zones, no request line: all of that is read at once."""
    found, _ = at_once(SHAPES[:7], True)
    assert [n for n, got in enumerate(found) if got is None] == []


@pytest.mark.parametrize(
    "line",
    [
        b"", b"\0\0\0", b"-", b"10.0.0.1", LINE[:60], LINE[20:],
        LINE.replace(b"Oct", b"Okt"), LINE.replace(b"10/", b"32/"),
        LINE.replace(b" 200 ", b" 2x0 "), LINE.replace(b'"Moz', b"Moz"), LINE.replace(b"13:55", b"24:55"),
        LINE.replace(b" 200 ", b" 099 "), LINE + b'"', LINE + LINE, LINE.replace(b"0.123", b"fast"),
        LINE.replace(b"10/Oct/2026", b"29/Feb/2026"),
    ],
)  # fmt: skip
def test_what_is_no_line_of_the_format_is_refused(line: bytes) -> None:
    """Torn, doubled, impossible lines are not understood, by neither reader."""
    assert alone(line, True) is None
    assert at_once([line, LINE], True)[0][0] is None
    assert at_once([line, LINE], True)[0][1] == alone(LINE, True)


def test_a_hostile_line_is_refused_quickly() -> None:
    """No line makes the grammar try many ways."""
    evil = b"1 - " + b" [10/Oct/2026:13:55:36 +0000]" * 40_000 + b' "' + b'\\"' * 200_000
    began = datetime.now(UTC)
    assert combined(evil, timed=True, unit=1000.0) is None
    assert (datetime.now(UTC) - began).total_seconds() < 2


def test_json_lines_in_several_dialects() -> None:
    """Fields go by many names; a time without an offset is in the zone of the log; nonsense is refused."""
    first = json_line(
        b'{"time":"2026-10-10T13:55:36+00:00","remote_addr":"::1","request":"GET /a?b=1 HTTP/1.1","status":"200",'
        b'"body_bytes_sent":12,"request_time":"0.250","http_referer":"-","http_user_agent":"x"}',
        unit=1000.0, zone=UTC,
    )  # fmt: skip
    assert first is not None
    assert (first.target, first.took, first.status, first.size) == (b"/a?b=1", 250, 200, 12)
    other = json_line(
        b'{"@timestamp":1791640536000,"client_ip":"1.2.3.4","method":"POST","path":"/b","status":500,"duration_ms":7.4}',
        unit=1000.0, zone=UTC,
    )  # fmt: skip
    assert other is not None
    assert (other.at, other.method, other.took) == (1791640536, "POST", 7)
    for bad in (b"", b"[]", b"{", b'{"status":200}', b'{"time":"no","client":"x","status":200}', b"[" * 100_000,
                b'{"time":1e999,"client":"x","status":200}', b'{"time":1,"client":"x","status":{}}'):  # fmt: skip
        assert json_line(bad, unit=1000.0, zone=UTC) is None


ATTACKS = {
    "sqli": [
        "/a?id=1 UNION SELECT 1,2",
        "/a?id=1/**/union/**/all/**/select 1",
        "/a?id=1' or '1'='1",
        "/a?id=1 and 1=1",
        "/a?id=sleep(5)",
        "/a?id=1;drop table x",
        "/a?id=admin'--",
        "/a?q=information_schema.tables",
        "/a?id=1 or sleep (9)",
        "/a?id=x'||1=1",
    ],
    "xss": [
        "/a?q=<script>alert(1)</script>",
        "/a?q=<img src=x onerror=alert(1)>",
        "/a?u=javascript:alert(1)",
        '/a?q="><svg/onload=alert(1)>',
    ],
    "traversal": [
        "/a?f=../../etc/passwd",
        "/..\\..\\windows\\win.ini",
        "/a?f=/etc/passwd",
        "/proc/self/environ",
    ],
    "command": [
        "/a?x=${jndi:ldap://e/a}",
        "/a?x=1;cat /etc/hosts",
        "/a?x=`id`",
        "/a?p=php://input",
        "/a?c=/bin/sh",
    ],
}


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in ATTACKS.items() for text in texts])
def test_attacks_are_found_however_they_are_encoded(kind: str, text: str) -> None:
    """Each letter may be percent-encoded, twice even, in any case; what sifts first must let it through."""
    made = random.Random(text)
    assert kind in {rule.kind for rule in attacks(text.encode())}
    for n in range(60):
        chance, twice = n / 60, made.random() < 0.2
        sign = "%25" if twice else "%"
        coded = "".join(
            f"{sign}{ord(c):02x}" if made.random() < chance and c not in "/?" else made.choice((c, c.upper()))
            for c in text
        )
        line = coded.replace(" ", made.choice(("%20", "+", "%09"))).encode()
        found = {rule.kind for rule in attacks(line)}
        assert kind in found, line
        target = pa.array([line], pa.binary())
        assert len(where(target, SPECIAL)) == 1, line
        assert len(where(target, LIKELY)) == 1, line


@pytest.mark.parametrize(
    "text",
    [
        "/",
        "/api/claims/17?page=2&sort=-date",
        "/search?q=o%27brien",
        "/search?q=union+square",
        "/search?q=select+all",
        "/search?q=caf%C3%A9+and+bar",
        "/docs/etc/guide",
        "/a..b/c",
        "/static/app.min.js?v=1.2.3",
        "/a?next=%2Fhome%2Ffoo",
        "/q?email=a%40b.example",
        "/q?a=1&b=2&or=3",
        "/select/union",
        "/q?t=2026-10-10T10%3A00%3A00%2B02%3A00",
        "/download?file=report%20(1).pdf",
        "/search?q=drop+shipping+table",
        "/tag/c%23",
        "/q?json=%7B%22a%22%3A1%7D",
        "/search?q=rock+%26+roll",
        "/search?q=5+or+6+rooms",
        "/search?q=cats;dogs",
        "/q?d=%3E%3D10",
        "/on/demand?ok=1",
    ],
)
def test_honest_addresses_are_no_attacks(text: str) -> None:
    """What people type and programs send is not told as an attack."""
    assert attacks(text.encode()) == ()


def test_decoding_ends() -> None:
    """Encoding may be nested deeper than anybody decodes."""
    assert decoded(b"%252525252541") == b"%252541"
    assert decoded(b"\\x3cscript\\x3e") == b"<script>"


def test_every_rule_has_a_number_of_its_own() -> None:
    """Rules are told apart by kind and number of the Core Rule Set."""
    assert max(Counter(rule.number for rule in RULES).values()) == 1


SECRETS = {
    "password": "/login?user=a&password=hunter2",
    "token": "/reset?reset_token=0123456789abcdef",
    "api key": "/v1?api_key=abcd1234",
    "session": "/a;jsessionid=1A2B3C4D5E",
    "jwt": "/a?x=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "aws key": "/a/AKIAIOSFODNN7EXAMPLE",
    "card number": "/pay?n=4111111111111111",
    "url password": "/go?to=https://bob:hunter2@x.example/",
    "bearer": "/a?h=Bearer%20abcdefgh12345",
    "provider token": "/a/ghp_0123456789abcdefghij0123456789abcdef",
}


@pytest.mark.parametrize("kind", SECRETS)
def test_secrets_are_found_sifted_and_blotted_out(kind: str) -> None:
    """Nothing of a secret is left in what is shown."""
    text = SECRETS[kind].encode()
    found = list(secrets(text))
    assert kind in {k for k, _, _ in found}
    assert len(where(pa.array([text], pa.binary()), SECRET)) == 1
    for _, start, end in found:
        assert text[start:end] not in redacted(text)


@pytest.mark.parametrize(
    "text", ["/a?_=1700000000000", "/a?n=4111111111111112", "/a?token=", "/a?password=***", "/a?token=[redacted]",
             "/m/00000001-1111-4222-8333-444455550000", "/a?monkey=1&keyboard=2", "/a?tokens=5", "/a?n=4111-1111"],
)  # fmt: skip
def test_what_is_no_secret(text: str) -> None:
    """Times, ids, masked values and numbers without check digit are none."""
    assert list(secrets(text.encode())) == []


def test_shown_text_is_harmless() -> None:
    """No escape sequence, line break or direction mark reaches a terminal or a page."""
    assert shown(b"a\x1b[31m\r\nb\0\xff\xe2\x80\xae<b>") == "a\\x1b[31m\\x0d\\x0ab\\x00\\xff\\u202e<b>"
    assert len(shown(b"x" * 10_000)) == 200


def test_routes_of_masked_digits_are_those_of_the_paths() -> None:
    """The short cut for digits gives what the expression gives for every path."""
    made = random.Random(5)
    parts = [
        "/api",
        "/v1",
        "/v12",
        "/claims",
        "/17",
        "/90210",
        "/0",
        "/a0",
        "/2026-01-02",
        "/CLM-2026-001",
        "/x-1",
        "/10",
        "/deadbeefdeadbeef00",
        "/0x0",
        "/a1b2c3",
        "/é9",
        "/00000001-1111-4222-8333-444455550000",
        "/app.0123abcd.js",
    ]
    paths = ["".join(made.choices(parts, k=made.randint(1, 4))).encode() for _ in range(3000)]
    array = pa.array(paths, pa.binary())
    codes, names = _normalised(array)
    assert [names[int(c)].as_py() for c in codes] == _replaced(array).to_pylist()
    assert len(set(names.to_pylist())) == len(names)


def test_percentiles_are_as_exact_as_they_say() -> None:
    """Every value up to 2**bits is exact, above that within 2**(1-bits) of it."""
    made = np.random.default_rng(1)
    values = np.concatenate((made.integers(0, 300, 1000), made.integers(0, 1 << 31, 1000)))
    for bits in (7, 16):
        counts = np.bincount(bucket(values, bits, 32), minlength=buckets(bits, 32))
        assert len(counts) == buckets(bits, 32)
        for share in (0.01, 0.5, 0.95, 0.99, 1.0):
            exact = np.sort(values)[int(np.ceil(share * len(values))) - 1]
            found = percentile(counts, share, bits)
            assert abs(found - exact) <= (0 if exact < 1 << bits else exact / (1 << (bits - 1)))


def test_a_crowd_keeps_totals_and_its_biggest() -> None:
    """Of a million names that come once the busy ones stay, too low by what is said at most; nothing is lost."""
    crowd = Crowd(2, 1000, precious=[1])
    for n in range(200):
        names = pa.array([b"busy", b"bad", *(b"%d" % (n * 500 + k) for k in range(500))], pa.binary())
        counts = np.ones(502, np.int64)
        counts[0] = 30
        crowd.add(names, {0: counts, 1: np.array([0, 1, *[0] * 500])})
    names, rows = crowd.table()
    found = dict(zip(names.to_pylist(), rows.tolist(), strict=True))
    assert crowd.capped
    assert len(found) <= 2000
    assert 6000 - crowd.at_most <= found[b"busy"][0] <= 6000
    assert found[b"bad"][1] >= 200 - crowd.at_most
    assert rows[:, 0].sum() + crowd.others[0] == 200 * 531


def test_a_table_keeps_totals_under_a_flood() -> None:
    """More names in one block than there is room for are counted together."""
    table = Table(1, 100)
    for n in range(5):
        names = [b"busy", *(b"%d" % (n * 1000 + k) for k in range(1000))]
        weight = np.ones(1001, np.int64)
        weight[0] = 50
        table.add(table.rows(names, weight), 0, weight)
    assert table.capped
    assert len(table.names) <= 201
    assert table.counts[:, 0].sum() == 5 * 1050
    assert table.counts[table.index[b"busy"], 0] == 250
