"""Secrets in log text: what is one, what is none, and what is shown instead."""

from __future__ import annotations

import random
import time

import pytest

from upkeep.adapters.log_secrets import Scanner, redact, shown, visible

JWT = b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlMTIz"
SECRETS = [
    ("password", b"password=hunter2", b"hunter2"),
    ("password", b'{"user": "bob", "password": "s3cret!"}', b"s3cret!"),
    ("password", b"'password': 'abc 123'", b"abc 123"),
    ("password", b"DB_PASSWORD=abc123", b"abc123"),
    ("password", b"PGPASSWORD=qwertz psql", b"qwertz"),
    ("password", b'\\"password\\": \\"abcd99\\"', b"abcd99"),
    ("password", b"POST /login?pwd=geheim1&x=2", b"geheim1"),
    ("password in URL", b"postgresql://app:p%40w@db:5432/x", b"p%40w"),
    ("password in URL", b"redis://:xyz9@cache/0", b"xyz9"),
    ("bearer token", b"Authorization: Bearer abcdef0123456789abcdef", b"abcdef0123456789abcdef"),
    ("bearer token", b"authorization: Basic dXNlcjpwYXNzd29yZDE=", b"dXNlcjpwYXNzd29yZDE="),
    ("JWT", JWT, JWT),
    ("AWS key", b"AKIAIOSFODNN7EXAMPLE", b"AKIAIOSFODNN7EXAMPLE"),
    ("token", b"aws_secret_access_key=wJalrXUtnFEMI/K7MDENG/bPxRfiCY", b"wJalrXUtnFEMI/K7MDENG/bPxRfiCY"),
    ("token", b"api_key=abcd1234efgh5678", b"abcd1234efgh5678"),
    ("API token", b"using ghp_0123456789abcdefghijklmnopqrstuvwxyz", b"ghp_0123456789abcdefghijklmnopqrstuvwxyz"),
    ("API token", b"slack xoxb-1234567890-abcdef", b"xoxb-1234567890-abcdef"),
    ("private key", b"-----BEGIN RSA PRIVATE KEY-----", b"-----BEGIN RSA PRIVATE KEY-----"),
    ("private key", b"-----BEGIN PRIVATE KEY-----", b"-----BEGIN PRIVATE KEY-----"),
    ("card number", b"card 4111 1111 1111 1111 declined", b"4111 1111 1111 1111"),
    ("card number", b"card=5500-0000-0000-0004;", b"5500-0000-0000-0004"),
    ("card number", b'{"pan":"4111111111111111"}', b"4111111111111111"),
    ("card number", b"card_id=4111111111111111", b"4111111111111111"),
    ("card number", b"paid: 4111111111111111", b"4111111111111111"),
    ("card number", b"4000 0000 0000 0000 006", b"4000 0000 0000 0000 006"),
    ("card number", b"amex 3782 822463 10005", b"3782 822463 10005"),
]  # fmt: skip
HARMLESS = [
    b"password=***", b"password=[FILTERED]", b"password: ********", b"Invalid password: user bob", b"password=None",
    b"password: must be at least 8 characters",
    b"password authentication failed for user \"bob\"", b"password_changed: true",
    b"tokens: 12345", b"max_tokens=4096", b"token=refresh", b"csrf token missing or incorrect", b"token=null",
    b"secret_key is set", b"http://host:8080/x@y", b"https://example.com/a:b", b"mailto://x", b"sk-learn 1.9",
    b"2026-01-01 00:00:00,123 4111111111111112", b"order 1234567890123456", b"took 1769817600123456 ns",
    b"123e4567-e89b-12d3-a456-426614174000", b"4111111111111111.5", b"0000000000000000", b"id=x4111111111111111",
    b'"dd.trace_id": "4611686018427387902"', b"4000000000000000006", b"trace_id=4111111111111111",
    b"spanId:4111111111111111",
    b"-----BEGIN CERTIFICATE-----", b"-----BEGIN PUBLIC KEY-----", b"password=<redacted>", b"password={password}",
    b"password=%s", b"password=$PGPASSWORD", b"Bearer token required", b"api_key=required", b"eyJhbGciOiJIUzI1NiJ9",
]  # fmt: skip


@pytest.mark.parametrize(("kind", "line", "secret"), SECRETS)
def test_a_secret_is_found_and_taken_out(kind: str, line: bytes, secret: bytes):
    """In any surroundings: its kind, its place, and not a byte of it in what is shown."""
    for before, after in ((b"", b""), (b"2026-01-01 00:00:00 INFO x ", b" done"), (b"a\n\n\tb ", b"\nnext line")):
        block = before + line + after
        leaks = list(Scanner().scan(block))
        assert (kind, secret) in [(leak.kind, block[leak.start : leak.end]) for leak in leaks]
        assert secret not in redact(block)
        assert secret.decode() not in shown(block)


@pytest.mark.parametrize("line", HARMLESS)
def test_what_only_looks_like_a_secret_is_none(line: bytes):
    """Masks, placeholders, prose, numbers without a check digit."""
    assert list(Scanner().scan(b"x INFO " + line + b" \n")) == []


def test_every_card_number_needs_its_check_digit():
    """Of random digits with a known prefix a tenth has the right check digit; that no other counts, Luhn sees to."""
    dice = random.Random(1)
    lines = [b"4%015d" % dice.randrange(10**15) for _ in range(2000)]
    found = sum(1 for _ in Scanner().scan(b"\n".join(lines)))
    assert 120 < found < 280


def test_a_site_can_allow():
    """What an expression of the allow-list matches is none, and nothing else is lost by it."""
    block = b"password=example1 user=x\npassword=real99\n"
    assert [block[k.start : k.end] for k in Scanner(["password=example"]).scan(block)] == [b"real99"]


def test_the_body_of_a_private_key_is_not_shown():
    """Its lines follow its heading, in one entry or on one line."""
    text = b"key -----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIIGH\n-----END EC PRIVATE KEY-----"
    assert b"MHcCAQ" not in redact(text) and b"MHcCAQ" not in redact(text.replace(b"\n", b"\\n"))


def test_what_is_shown_is_harmless():
    """Control characters, bad UTF-8, marks that turn text round: all written out; nothing is longer than asked."""
    text = shown("a\x1b[2J\x00\r\n\x07\u202e\u200b <b>\x9b é 日本".encode() + b"\xff\xfe")
    assert text == "a\\x1b[2J\\x00\\r\\n\\x07\\u202e\\u200b <b>\\x9b é 日本\\xff\\xfe"
    assert len(shown(b"xy " * 2_000_000, 300)) == 300
    assert visible("caf\udcff") == "caf\\xff"
    # Cut first, it would show the beginning of what is too short to be seen as a secret.
    assert "hunter" not in shown(b"y" * 290 + b" password=hunter2hunter2", 305)


def test_mail_addresses_and_values_of_rows_are_taken_out():
    """People's data are no business of whoever reads findings."""
    text = redact(b'ann@example.com: Key (email)=(bob@x.org) already exists. Failing row contains (1, "Bob", 1970).')
    assert text == b"[email]: Key (email)=(?) already exists. Failing row contains (?)"


def test_scanning_is_fast():
    """Some ten times what one alternation over all bytes manages (5 MB/s), on lines full of what it looks for."""
    line = (
        b"2026-01-01 00:00:%02d,123 - app.m%d - INFO - request %d of 10.0.0.%d token check ok %d ms https://x.org/%d\n"
    )
    block = b"".join(line % (i % 60, i % 7, i * 7919, i % 255, i % 500, i) for i in range(20_000))
    began = time.process_time()
    assert list(Scanner().scan(block)) == []
    assert len(block) / 1e6 / (time.process_time() - began) > 15
