"""Tells contacts through their channels, and says of every attempt what became of it. Raises nothing.

Mail goes through the Airflow connection `upkeep_smtp`, a webhook through the connection that its channel names. For
phone, sms and pager no gateway exists here: such an attempt ends as `None`, "no channel", and never as delivered.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from upkeep.adapters import notify_mail, notify_webhook
from upkeep.adapters.notify_result import Hopeless, NoChannel, PassingTrouble, Undelivered
from upkeep.core.errors import ConfigurationError
from upkeep.core.model import Model
from upkeep.core.notice import Notice, clean, one_line
from upkeep.core.system import Channel, Contact

MAIL_CONN_ID = "upkeep_smtp"
# A server that defers (greylisting, a restart) is asked again; longer than this the next channel must not wait.
RETRY_AFTER_SECONDS = (5.0, 20.0)
# Time-outs of sockets count every step anew and do not cover the look-up of names; this covers all of one attempt.
ATTEMPT_SECONDS = 30.0
_LEAST_SECONDS = 0.2
log = logging.getLogger(__name__)


class Attempt(Model):
    """One try to reach one contact on one channel; `delivered` is None where no way exists to try."""

    contact: str
    channel: str
    address: str
    delivered: bool | None
    detail: str


class Notifier:
    """Sends notices. It lives for one escalation: what it learns of a dead server it does not try again.

    :param connection: returns an Airflow connection by id, or raises `ConfigurationError`.
    :param retry_after: seconds to wait before each further try after trouble that may pass.
    :param seconds: time for everything together. No attempt gets more than half of what is left of it, so that a
        server that hangs leaves time for the next channel.
    """

    def __init__(
        self,
        connection: Callable[[str], Any],
        *,
        mail_conn_id: str = MAIL_CONN_ID,
        retry_after: Sequence[float] = RETRY_AFTER_SECONDS,
        seconds: float = float("inf"),
    ) -> None:
        self._until = time.monotonic() + seconds
        self._connection = connection
        self._mail_conn_id = mail_conn_id
        self._retry_after = tuple(retry_after)
        self._dead: dict[str, str] = {}
        self._sent: dict[tuple[str, str, str, str], Attempt] = {}

    def tell(self, people: Sequence[Contact], stand_ins: Sequence[Contact], notice: Notice) -> list[Attempt]:
        """Tell every one of `people`; for those who cannot be reached, tell stand-ins until one is."""
        attempts: list[Attempt] = []
        unreached = 0
        for person in people:
            attempts += (tried := self._reach(person, notice))
            unreached += not _reached(tried)
        for person in stand_ins if unreached or not people else ():
            attempts += (tried := self._reach(person, notice))
            if _reached(tried):
                break
        return attempts

    def _reach(self, person: Contact, notice: Notice) -> list[Attempt]:
        """Try a contact's channels in their order until one delivers."""
        attempts: list[Attempt] = []
        for channel in person.channels:
            attempts.append(self._once(person, channel, notice))
            if attempts[-1].delivered:
                break
        return attempts

    def _once(self, person: Contact, channel: Channel, notice: Notice) -> Attempt:
        """Send unless the same message has gone to the same address already: one person may stand for many systems."""
        address = channel.conn_id if channel.kind == "webhook" else channel.address
        key = (channel.kind, address or "", notice.id, notice.body())
        if key not in self._sent:
            delivered, detail = self._send(channel, notice)
            detail = one_line(clean(detail))
            self._sent[key] = Attempt(
                contact=person.name, channel=channel.kind, address=address or "", delivered=delivered, detail=detail
            )
            level = logging.INFO if delivered else logging.WARNING
            log.log(level, "%s by %s: %s", person.name, channel.kind, detail)
        return self._sent[key].model_copy(update={"contact": person.name})

    def _send(self, channel: Channel, notice: Notice) -> tuple[bool | None, str]:
        server = self._mail_conn_id if channel.kind == "email" else (channel.conn_id or "")
        if server in self._dead:
            return False, f"not tried: {self._dead[server]}"
        try:
            return True, self._try(channel, notice, server)
        except NoChannel as error:
            return None, str(error)
        except Undelivered as error:
            if error.whole_server:
                self._dead[server] = str(error)
            return False, str(error)
        except Exception as error:
            # Whatever goes wrong with one channel, the next one must still be tried. The text of an error that was
            # not foreseen may hold the address or the token of a connection: it is not repeated.
            return False, f"unexpected {type(error).__name__} on connection {server}"

    def _try(self, channel: Channel, notice: Notice, server: str) -> str:
        if channel.kind not in ("email", "webhook"):
            raise NoChannel(f"no channel configured for {channel.kind}: no gateway exists, somebody has to call")
        try:
            connection = self._connection(server)
        except ConfigurationError as error:
            raise NoChannel(f"no channel configured: {error}") from None
        for wait in (*self._retry_after, None):
            try:
                return _bounded(lambda: _deliver(connection, channel, notice), self._share(), server)
            except PassingTrouble:
                if wait is None or wait > self._share():
                    raise
                time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _share(self) -> float:
        """Return how many seconds one step may take now."""
        return min(ATTEMPT_SECONDS, max(0.0, (self._until - time.monotonic()) / 2))


def _deliver(connection: Any, channel: Channel, notice: Notice) -> str:
    if channel.kind == "email":
        return notify_mail.send(connection, channel.address, notice)
    return notify_webhook.post(connection, notice)


def _bounded(work: Callable[[], str], seconds: float, server: str) -> str:
    """Return what `work` returns, or give it up after `seconds`: its thread then ends with the process at the latest.

    :raises Hopeless: time is up. What `work` raises is raised here too.
    """
    if seconds < _LEAST_SECONDS:
        raise Hopeless(f"{server}: no time was left to try")
    done: queue.SimpleQueue[str | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put(work())
        except Exception as error:
            done.put(error)

    threading.Thread(target=run, name=f"notify {server}", daemon=True).start()
    try:
        result = done.get(timeout=seconds)
    except queue.Empty:
        raise Hopeless(f"{server}: no answer within {seconds:.0f} s", True) from None
    if isinstance(result, Exception):
        raise result
    return result


def _reached(attempts: list[Attempt]) -> bool:
    return any(attempt.delivered for attempt in attempts)
