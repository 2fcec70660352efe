"""One mail to one recipient over SMTP, with the server's own word on whether it took it.

The connection is Airflow's `smtp` type with the extras of its SMTP provider (`from_email`, `disable_ssl`,
`disable_tls`, `ssl_context`, `timeout`). The provider's hook itself is not used: it drops what the server says per
recipient, sends HTML only, and waits up to 6 x 30 s on a server that hangs.
"""

from __future__ import annotations

import smtplib
import ssl
from contextlib import closing
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, localtime
from typing import Any

from upkeep.adapters.notify_result import Hopeless, NoChannel, PassingTrouble
from upkeep.core.notice import Notice, one_line

TIMEOUT_SECONDS = 15.0


def send(connection: Any, recipient: str, notice: Notice) -> str:
    """Send a notice; return what the server answered when it took the mail.

    :raises NoChannel: the connection cannot be used for mail.
    :raises Hopeless: the server refuses, hangs or is not there.
    :raises PassingTrouble: the server deferred or dropped the line.
    """
    extra = connection.extra_dejson
    name = connection.conn_id
    if not connection.host:
        raise NoChannel(f"no channel configured: connection {name} has no host")
    sender = _address(extra.get("from_email") or connection.login or "", f"extra `from_email` of connection {name}")
    mail = compose(notice, sender, _address(recipient, "the contact's address"))
    try:
        with closing(_connect(connection, extra)) as client:
            _log_in(client, connection, extra)
            return _hand_over(client, sender, mail)
    except TimeoutError:
        raise Hopeless(f"{name}: the mail server did not answer in {_timeout(extra):g} s", True) from None
    except smtplib.SMTPServerDisconnected as error:
        # smtplib turns a time-out while it waits for an answer into this.
        if isinstance(error.__context__, TimeoutError) or "timed out" in str(error):
            raise Hopeless(f"{name}: the mail server did not answer in {_timeout(extra):g} s", True) from None
        raise PassingTrouble(f"{name}: the mail server cut the line", True) from None
    except smtplib.SMTPAuthenticationError as error:
        raise Hopeless(f"{name}: the mail server refused login and password ({error.smtp_code})", True) from None
    except smtplib.SMTPResponseException as error:
        raise _refused(name, error.smtp_code, error.smtp_error) from None
    except (ssl.SSLError, smtplib.SMTPNotSupportedError) as error:
        raise Hopeless(f"{name}: no safe connection to the mail server ({_reason(error)})", True) from None
    except OSError as error:
        raise PassingTrouble(f"{name}: the mail server cannot be reached ({_reason(error)})", True) from None


def compose(notice: Notice, sender: Address, recipient: Address) -> EmailMessage:
    """Return the mail: plain text, one recipient, marked as written by a machine, threaded by run and topic."""
    mail = EmailMessage(policy=SMTP)
    mail["From"] = Address("airflow-upkeep", addr_spec=sender.addr_spec)
    mail["To"] = recipient
    mail["Subject"] = notice.title
    mail["Date"] = format_datetime(localtime())
    # Not random: a mail sent again because its acknowledgement was lost can be recognised as the same.
    mail["Message-ID"] = f"<{notice.id}@{sender.domain}>"
    mail["References"] = mail["In-Reply-To"] = f"<{notice.thread}@{sender.domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    mail.set_content(notice.body())
    return mail


def as_bytes(mail: EmailMessage) -> bytes:
    """Return the mail as it travels. Plain subjects stay on one line: Python would fold before their first word."""
    return mail.as_bytes(policy=SMTP.clone(max_line_length=998) if mail["Subject"].isascii() else SMTP)


def _connect(connection: Any, extra: dict[str, Any]) -> smtplib.SMTP:
    timeout, host, port = _timeout(extra), connection.host, connection.port
    if extra.get("disable_ssl", False):
        return smtplib.SMTP(host, port or 587, timeout=timeout)
    return smtplib.SMTP_SSL(host, port or 465, timeout=timeout, context=_tls(extra))


def _log_in(client: smtplib.SMTP, connection: Any, extra: dict[str, Any]) -> None:
    if extra.get("disable_ssl", False) and not extra.get("disable_tls", False):
        client.starttls(context=_tls(extra))
    client.ehlo_or_helo_if_needed()
    if connection.login and connection.password:
        client.login(connection.login, connection.password)


def _tls(extra: dict[str, Any]) -> ssl.SSLContext:
    if extra.get("ssl_context") == "none":
        return ssl._create_unverified_context()  # noqa: S323 - asked for, with the provider's own word
    return ssl.create_default_context()


def _hand_over(client: smtplib.SMTP, sender: Address, mail: EmailMessage) -> str:
    """Speak MAIL, RCPT and DATA step by step: `sendmail` does not return the server's word on the message."""
    for code, answer in (client.mail(sender.addr_spec), client.rcpt(mail["To"].addresses[0].addr_spec)):
        if code not in (250, 251):
            raise smtplib.SMTPResponseException(code, answer)
    code, answer = client.data(as_bytes(mail))
    if code != 250:
        raise smtplib.SMTPResponseException(code, answer)
    return f"taken by the mail server: {code} {_words(answer)}"


def _refused(name: str, code: int, answer: bytes | str) -> Exception:
    message = f"{name}: the mail server said {code} {_words(answer)}"
    # RFC 5321, 4.2.1: 4yz asks to try again later; 421 closes the connection.
    return PassingTrouble(message) if 400 <= code < 500 else Hopeless(message)


def _address(text: str, place: str) -> Address:
    """Read an address; line breaks and second addresses have no place in one."""
    try:
        address = Address(addr_spec=text)
    except (HeaderParseError, ValueError, IndexError):
        address = None
    if address is None or not address.domain or not text.isascii() or one_line(text) != text or " " in text:
        raise Hopeless(f"{place} is not an e-mail address such as name@example.org")
    return address


def _timeout(extra: dict[str, Any]) -> float:
    return float(extra.get("timeout") or TIMEOUT_SECONDS)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or getattr(error, "reason", None) or type(error).__name__


def _words(answer: bytes | str) -> str:
    return one_line(answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer)[:200]
