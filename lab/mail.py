"""Receivers of messages: an SMTP server that keeps mails as files, and a webhook that keeps requests as files."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import smtplib
import sys
import urllib.request
from collections.abc import Callable
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

from lab.process import Helper


class SmtpServer(Helper):
    """Both receivers in one process: mails in `data_dir/mails/*.eml`, webhook calls in `data_dir/hooks/*.json`."""

    module = "lab.mail"
    ports_needed = ("main", "hook")

    @property
    def mail_folder(self) -> Path:
        """Where received mails lie, named in the order of their arrival."""
        return self.data_dir / "mails"

    @property
    def hook_folder(self) -> Path:
        """Where received webhook calls lie: `{"path", "headers", "body"}`."""
        return self.data_dir / "hooks"

    @property
    def hook_url(self) -> str:
        """The address that takes webhook calls, below any path."""
        return f"http://127.0.0.1:{self.ports['hook']}"

    def mails(self) -> list[EmailMessage]:
        """Return the received mails, oldest first. The envelope stands in `X-Envelope-From` and `X-Envelope-To`."""
        parse = email.message_from_bytes
        return [
            parse(path.read_bytes(), policy=email.policy.default) for path in sorted(self.mail_folder.glob("*.eml"))
        ]

    def hooks(self) -> list[dict[str, Any]]:
        """Return the received webhook calls, oldest first."""
        return [json.loads(path.read_text()) for path in sorted(self.hook_folder.glob("*.json"))]

    def check_ready(self) -> None:
        """Pass when both receivers answer."""
        with smtplib.SMTP("127.0.0.1", self.port, timeout=2) as smtp:
            smtp.noop()
        urllib.request.urlopen(self.hook_url, timeout=2).close()


def _keeper(folder: Path, ending: str) -> Callable[[bytes], None]:
    """Return a function that keeps bytes as the next numbered file of a folder; a reader never sees half a file."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = count(1 + max((int(path.stem) for path in folder.glob(f"*{ending}")), default=0))

    def keep(content: bytes) -> None:
        fresh = folder / f"{next(numbers):06}.part"
        fresh.write_bytes(content)
        fresh.rename(fresh.with_suffix(ending))

    return keep


def _hook_handler(keep: Callable[[bytes], None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode("utf-8", "replace")
            keep(json.dumps({"path": self.path, "headers": dict(self.headers), "body": body}).encode())
            self._answer()

        def _answer(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

    return Handler


class _KeepMail:
    """Handler of aiosmtpd: the mail as it came, with its envelope as headers."""

    def __init__(self, keep: Callable[[bytes], None]) -> None:
        self._keep = keep

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        to = ", ".join(envelope.rcpt_tos)
        head = f"X-Envelope-From: {envelope.mail_from}\r\nX-Envelope-To: {to}\r\n"
        self._keep(head.encode() + envelope.content)
        return "250 kept"


async def _serve(folder: Path, smtp_port: int, hook_port: int) -> None:
    from aiosmtpd.smtp import SMTP

    hooks = ThreadingHTTPServer(("127.0.0.1", hook_port), _hook_handler(_keeper(folder / "hooks", ".json")))
    handler = _KeepMail(_keeper(folder / "mails", ".eml"))
    smtp = await asyncio.get_running_loop().create_server(
        lambda: SMTP(handler, hostname="lab", enable_SMTPUTF8=True), "127.0.0.1", smtp_port
    )
    async with smtp:
        await asyncio.gather(asyncio.to_thread(hooks.serve_forever), smtp.serve_forever())


def _main(config: Path) -> None:
    ports = json.loads(config.read_text())["ports"]
    asyncio.run(_serve(config.parent, ports["main"], ports["hook"]))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
