"""Delivery over real SMTP and HTTP servers that refuse, defer, hang and die: what is said to be delivered was."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from airflow.sdk import Connection

from lab.process import free_ports
from tests.integration.mail_server import MailServer
from upkeep.adapters.notify import Attempt, Notifier
from upkeep.core.errors import ConfigurationError
from upkeep.core.notice import Notice
from upkeep.core.system import Contact

TOKEN = "n0t-for-any-log-7731"
NOTICE = Notice(
    label="CRITICAL",
    subject="claims/db",
    headline="backup failed: ümlaut",
    facts={"Error": "line one\n.\nline three"},
    dag_id="maintenance_daily",
    run_id="scheduled__1",
    topic="claims/db backup.postgres",
    rung=1,
)


def person(name: str, *channels: dict[str, str]) -> Contact:
    mail = {"kind": "email", "address": f"{name}@example.org"}
    return Contact.model_validate({"name": name, "channels": channels or (mail,)})


def hook(conn_id: str) -> dict[str, str]:
    return {"kind": "webhook", "conn_id": conn_id}


def notifier(*connections: Connection) -> Notifier:
    known = {one.conn_id: one for one in connections}

    def connection(conn_id: str) -> Connection:
        if conn_id not in known:
            raise ConfigurationError(f"connection {conn_id!r} is not defined in Airflow")
        return known[conn_id]

    return Notifier(connection, retry_after=(0.05, 0.05))


def smtp(port: int, **extra: Any) -> Connection:
    values = {"from_email": "upkeep@example.org", "disable_ssl": True, "disable_tls": True, "timeout": 1} | extra
    return Connection(conn_id="upkeep_smtp", conn_type="smtp", host="127.0.0.1", port=port, extra=json.dumps(values))


def outcome(attempts: list[Attempt]) -> list[tuple[str, str, bool | None]]:
    return [(a.contact, a.channel, a.delivered) for a in attempts]


class Receiver(http.server.ThreadingHTTPServer):
    """An HTTP server that answers as told and keeps what it got."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.got: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.paths: list[str] = []
        self.release = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    def connection(self, **extra: Any) -> Connection:
        return Connection(
            conn_id="chat", conn_type="http", schema="http", host="127.0.0.1", port=self.server_port, password=TOKEN,
            extra=json.dumps({"timeout": 1, "path": f"/hook/{TOKEN}", **extra}),
        )  # fmt: skip


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.got.append((dict(self.headers), body))
        self.server.paths.append(self.path)
        code = self.server.answers.pop(0) if self.server.answers else 204
        if code == 0:
            self.server.release.wait(20)
            return
        self.send_response(code)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Stay quiet."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A webhook's other side."""
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.release.set()
        server.shutdown()
        thread.join()


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_mail_taken_by_the_server_is_delivered() -> None:
    """The server's own answer is the proof; the text arrives whole, lines with a single dot and umlauts included."""
    with MailServer() as server:
        attempts = notifier(smtp(server.port)).tell([person("ann")], [], NOTICE)
    assert outcome(attempts) == [("ann", "email", True)] and "queued as 1" in attempts[0].detail
    assert server.mails[0].get_content().replace("\r\n", "\n") == NOTICE.body()
    assert server.mails[0]["Subject"] == NOTICE.title


def test_a_refused_recipient_is_not_delivered_and_the_stand_in_is_told() -> None:
    """A 550 is no delivery; it is not tried again; the secondary contact gets the message."""
    with MailServer() as server:
        server.refuse = {"ann@example.org"}
        attempts = notifier(smtp(server.port)).tell([person("ann")], [person("bob"), person("cy")], NOTICE)
    assert outcome(attempts) == [("ann", "email", False), ("bob", "email", True)]
    assert "550" in attempts[0].detail and server.tries["ann@example.org"] == 1
    assert server.recipients() == ["bob@example.org"]


def test_a_greylisting_server_is_asked_again() -> None:
    """A 450 is tried again; one that stays is a failure that names the server's words."""
    with MailServer() as server:
        server.defer_once, server.defer_always = {"ann@example.org"}, {"bob@example.org"}
        attempts = notifier(smtp(server.port)).tell([person("ann"), person("bob")], [], NOTICE)
    assert outcome(attempts) == [("ann", "email", True), ("bob", "email", False)]
    assert "greylisted" in attempts[1].detail and server.tries["bob@example.org"] == 3


def test_a_server_that_dies_in_the_middle_is_asked_again_with_the_same_message_id() -> None:
    """A line cut before the answer may mean either; the repeated mail can be recognised as the same."""
    with MailServer() as server:
        server.die_in_data = 1
        attempts = notifier(smtp(server.port)).tell([person("ann")], [], NOTICE)
        server.die_in_data = 9
        again = notifier(smtp(server.port)).tell([person("ann"), person("bob")], [], NOTICE)
    assert outcome(attempts) == [("ann", "email", True)]
    assert outcome(again) == [("ann", "email", False), ("bob", "email", False)]
    assert "cut the line" in again[0].detail and "not tried" in again[1].detail


def test_a_hanging_mail_server_is_given_up_and_the_next_channel_used(receiver: Receiver) -> None:
    """Silence at the greeting costs one time-out for all recipients together; the webhook is then tried."""
    both = ({"kind": "email", "address": "ann@example.org"}, hook("chat"))
    with silent_port() as port:
        tell = notifier(smtp(port), receiver.connection())
        attempts = tell.tell([person("ann", *both), person("bob")], [], NOTICE)
    assert outcome(attempts) == [("ann", "email", False), ("ann", "webhook", True), ("bob", "email", False)]
    assert "did not answer in 1 s" in attempts[0].detail and attempts[2].detail.startswith("not tried")


def test_a_server_that_hangs_in_the_middle_is_given_up() -> None:
    """Silence after RCPT is a time-out too."""
    with MailServer() as server:
        server.hang_seconds = 3
        attempts = notifier(smtp(server.port)).tell([person("ann")], [], NOTICE)
    assert outcome(attempts) == [("ann", "email", False)] and "did not answer" in attempts[0].detail


def test_all_attempts_together_keep_to_the_time_given(receiver: Receiver) -> None:
    """With little time, a server that hangs is given up early enough for the next channel to be tried."""
    receiver.answers = [0]
    patient = {"timeout": 60}
    with silent_port() as port:
        known = {"upkeep_smtp": smtp(port, **patient), "slow": receiver.connection(**patient)}
        known["fast"] = receiver.connection()
        tell = Notifier(lambda conn_id: known[conn_id], retry_after=(5,), seconds=2)
        mail = {"kind": "email", "address": "ann@example.org"}
        attempts = tell.tell([person("ann", mail, hook("slow"), hook("fast"))], [], NOTICE)
    assert [attempt.delivered for attempt in attempts] == [False, False, True]
    assert "no answer within 1 s" in attempts[0].detail


def test_a_mail_server_that_is_not_there() -> None:
    """A closed port is a failure with its reason."""
    attempts = notifier(smtp(free_ports(1)[0])).tell([person("ann")], [], NOTICE)
    assert outcome(attempts) == [("ann", "email", False)] and "refused" in attempts[0].detail


def test_encryption_that_the_server_lacks_is_never_given_up_silently() -> None:
    """Without `disable_tls` a server without STARTTLS gets no mail and no password."""
    with MailServer() as server:
        attempts = notifier(smtp(server.port, disable_tls=False)).tell([person("ann")], [], NOTICE)
    assert outcome(attempts) == [("ann", "email", False)] and "no safe connection" in attempts[0].detail
    assert server.mails == [] and not server.tries


def test_what_is_not_configured_is_no_channel_and_no_delivery() -> None:
    """No SMTP connection, no gateway for phones: delivered is None, and never true."""
    phone = {"kind": "phone", "address": "+49-30-1"}
    attempts = notifier().tell([person("ann", phone, {"kind": "email", "address": "a@b.example"})], [], NOTICE)
    assert outcome(attempts) == [("ann", "phone", None), ("ann", "email", None)]
    assert all("no channel configured" in attempt.detail for attempt in attempts)


@pytest.mark.parametrize(
    "address", ["ann@example.org\r\nRCPT TO:<thief@example.net>", "ann", "a@x.y, b@x.y", "Ann <a@x.y>"]
)
def test_an_address_that_is_none_reaches_no_server(address: str) -> None:
    """What is not one plain address is refused before anything is sent."""
    with MailServer() as server:
        one = person("ann", {"kind": "email", "address": address})
        attempts = notifier(smtp(server.port)).tell([one], [], NOTICE)
    assert attempts[0].delivered is False and not server.tries


def test_the_same_message_goes_to_an_address_once() -> None:
    """A person who stands in two roles, or for two systems with the same text, gets one mail."""
    with MailServer() as server:
        tell = notifier(smtp(server.port))
        first = tell.tell([person("ann")], [], NOTICE)
        second = tell.tell([Contact(name="DBA", channels=person("ann").channels)], [], NOTICE)
    assert outcome([*first, *second]) == [("ann", "email", True), ("DBA", "email", True)]
    assert len(server.mails) == 1


def test_a_webhook_gets_json_and_its_token(receiver: Receiver) -> None:
    """Any 2xx is a delivery; the token travels in the header and the secret path in the URL."""
    attempts = notifier(receiver.connection()).tell([person("ann", hook("chat"))], [], NOTICE)
    assert outcome(attempts) == [("ann", "webhook", True)] and "204" in attempts[0].detail
    headers, body = receiver.got[0]
    assert headers["Authorization"] == f"Bearer {TOKEN}" and receiver.paths == [f"/hook/{TOKEN}"]
    assert (body["subject"], body["dedup_key"]) == ("claims/db", NOTICE.thread) and NOTICE.title in body["text"]


@pytest.mark.parametrize(
    ("answers", "delivered", "calls"),
    [([500, 204], True, 2), ([500] * 9, False, 3), ([301], False, 1), ([404], False, 1), ([0], False, 1)],
)
def test_a_webhook_that_fails(receiver: Receiver, answers: list[int], delivered: bool, calls: int) -> None:
    """500 is tried again; a redirect, a refusal and a hang are failures at once, and no redirect is followed."""
    receiver.answers = list(answers)
    attempts = notifier(receiver.connection()).tell([person("ann", hook("chat"))], [], NOTICE)
    assert (attempts[0].delivered, len(receiver.got)) == (delivered, calls)
    assert set(receiver.paths) == {f"/hook/{TOKEN}"}


@pytest.mark.parametrize("host", ["ftp://127.0.0.1", "http://[bad", "nowhere.invalid", f"http://127.0.0.1/{TOKEN}"])
def test_no_result_and_no_log_holds_the_token(host: str, caplog: pytest.LogCaptureFixture) -> None:
    """However a webhook fails, neither its URL nor its token is repeated."""
    caplog.set_level("DEBUG")
    wrong = Connection(
        conn_id="chat", conn_type="http", host=host, password=TOKEN, extra=json.dumps({"path": TOKEN, "timeout": 1})
    )
    attempts = notifier(wrong).tell([person("ann", hook("chat"))], [], NOTICE)
    assert attempts[0].delivered is False
    assert TOKEN not in attempts[0].model_dump_json()
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("upkeep")]
    assert ours and not any(TOKEN in line for line in ours)
