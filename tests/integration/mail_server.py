"""A real SMTP server on a free port of 127.0.0.1 that keeps what it takes and can be told to misbehave."""

from __future__ import annotations

import asyncio
import email
import email.policy
import threading
import time
from collections import defaultdict
from email.message import EmailMessage
from types import TracebackType
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from lab.process import free_ports


class MailServer:
    """`with MailServer() as server:` ... `server.mails`; recipients listed in the sets below meet trouble."""

    def __init__(self, **options: Any) -> None:
        self.refuse: set[str] = set()
        self.defer_once: set[str] = set()
        self.defer_always: set[str] = set()
        self.die_in_data = 0
        self.hang_seconds = 0.0
        self.mails: list[EmailMessage] = []
        self.tries: defaultdict[str, int] = defaultdict(int)
        self._arrived = threading.Condition()
        self.port = free_ports(1)[0]
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, ready_timeout=10, **options)

    def recipients(self) -> list[str]:
        """Return the addresses of all mails taken, sorted."""
        return sorted(str(mail["To"]) for mail in list(self.mails))

    def wait(self, count: int, seconds: float = 60) -> list[EmailMessage]:
        """Wait until so many mails have been taken and return them all; return fewer when time is up."""
        with self._arrived:
            self._arrived.wait_for(lambda: len(self.mails) >= count, seconds)
        return list(self.mails)

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, to: str, options: list[str]) -> str:
        """Take, refuse or defer a recipient."""
        self.tries[to] += 1
        if self.hang_seconds:
            await asyncio.sleep(self.hang_seconds)
        if to in self.refuse:
            return "550 5.1.1 no such user here"
        if to in self.defer_always or (to in self.defer_once and self.tries[to] == 1):
            return "450 4.2.0 greylisted, try again later"
        envelope.rcpt_tos.append(to)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Take a mail, or cut the line instead of answering."""
        if self.die_in_data:
            self.die_in_data -= 1
            assert server.transport is not None
            server.transport.abort()
            return "250 never seen"
        mail = email.message_from_bytes(envelope.content or b"", policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        with self._arrived:
            self.mails.append(mail)
            self._arrived.notify_all()
        return f"250 OK queued as {len(self.mails)}"

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._controller.stop()


def settle(check: Any, seconds: float = 30) -> bool:
    """Ask until `check()` is true; tell whether it ever was."""
    until = time.monotonic() + seconds
    while not check():
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True
