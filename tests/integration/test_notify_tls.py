"""Mail over encrypted lines: certificates are checked, passwords never travel in the clear by accident."""

from __future__ import annotations

import json
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult
from airflow.sdk import Connection
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.mail_server import MailServer
from upkeep.adapters.notify import Attempt, Notifier
from upkeep.core.notice import Notice
from upkeep.core.system import Contact

WORD = "pass-w0rd-of-the-mail-server"
ANN = Contact.model_validate({"name": "ann", "channels": [{"kind": "email", "address": "ann@example.org"}]})
NOTICE = Notice(
    label="CRITICAL", subject="claims/db", headline="gone", dag_id="maintenance_daily", run_id="r", topic="t", rung=1
)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = tmp_path_factory.mktemp("tls") / "mail.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, form, plain) + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def send(server: MailServer, password: str = WORD, **extra: Any) -> Attempt:
    values = json.dumps({"from_email": "upkeep@example.org", "timeout": 3} | extra)
    connection = Connection(
        conn_id="upkeep_smtp", conn_type="smtp", host="127.0.0.1", port=server.port, login="upkeep", password=password,
        extra=values,
    )  # fmt: skip
    return Notifier(lambda _: connection, retry_after=()).tell([ANN], [], NOTICE)[0]


def only_our_word(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    return AuthResult(success=data.password == WORD.encode(), handled=False)


@pytest.mark.parametrize("kind", ["starttls", "ssl"])
def test_a_trusted_server_gets_the_mail_and_a_stranger_does_not(
    kind: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate that the machine does not trust ends the attempt before login; once trusted, the mail goes out."""
    options: dict[str, Any] = {"authenticator": only_our_word, "auth_required": True}
    extra = {"disable_ssl": kind == "starttls"}
    tls = {"ssl_context": server_tls(certificate)} if kind == "ssl" else {"tls_context": server_tls(certificate)}
    if kind == "ssl":
        # aiosmtpd asks for STARTTLS before AUTH; the line is encrypted from its first byte already.
        options["auth_require_tls"] = False
    with MailServer(**options, **tls) as server:
        stranger = send(server, **extra)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        trusted = send(server, **extra)
        unchecked = send(server, **extra, ssl_context="none")
    assert stranger.delivered is False and "CERTIFICATE_VERIFY_FAILED" in stranger.detail
    assert (trusted.delivered, unchecked.delivered, len(server.mails)) == (True, True, 2)


def test_a_wrong_password_is_named_and_not_repeated(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused login says so and shows neither word."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with MailServer(authenticator=only_our_word, tls_context=server_tls(certificate)) as server:
        attempt = send(server, "wrong-w0rd", disable_ssl=True)
    assert attempt.delivered is False and "refused login" in attempt.detail
    assert "w0rd" not in attempt.model_dump_json()


def test_ssl_to_a_server_that_speaks_plainly_is_refused() -> None:
    """The connection's default is SSL from the first byte; a plain server gets nothing."""
    with MailServer() as server:
        attempt = send(server)
    assert attempt.delivered is False and not server.tries
