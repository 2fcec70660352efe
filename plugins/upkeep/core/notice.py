"""What a person is told, and how it reads in a mail, a webhook and a log."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from upkeep.core import text
from upkeep.core.model import Model

_SUBJECT_LIMIT = 140
_FACT_LIMIT = 1000
# Control characters (a terminal's escape sequences among them), line separators and lone surrogates.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Notice(Model):
    """One message about one subject of one run."""

    label: str
    """How bad, for the subject line: `CRITICAL`, `LATE`."""
    subject: str
    """What it is about: a target or a system."""
    headline: str
    facts: dict[str, str] = {}
    """What a reader at 03:00 needs, in that order: what, observed, limit, next step."""
    links: dict[str, str] = {}
    why: str = ""
    """Why this reader is told."""
    dag_id: str
    run_id: str
    topic: str
    """Same topic in the same run: same conversation in a mail program."""
    rung: int

    @property
    def title(self) -> str:
        """The subject line: one line, whatever the headline holds."""
        line = one_line(f"[{self.label}] {self.subject}: {self.headline}")
        return line if len(line) <= _SUBJECT_LIMIT else line[: _SUBJECT_LIMIT - 1] + "…"

    @property
    def thread(self) -> str:
        """Identity of the conversation: derived from run and topic, so that every rung continues the same one."""
        return hashlib.sha256("\x1f".join((self.dag_id, self.run_id, self.topic)).encode()).hexdigest()[:32]

    @property
    def id(self) -> str:
        """Identity of the message: sending it again after a lost answer repeats it."""
        return f"{self.thread}.{self.rung}"

    def body(self) -> str:
        """Return the message as plain text."""
        facts = [f"{name}: {clean(value)}" for name, value in self.facts.items() if value]
        links = [f"{name}: {clean(value)}" for name, value in self.links.items() if value]
        run = f"Run: {one_line(self.dag_id)} / {one_line(self.run_id)}"
        blocks = [f"{one_line(self.subject)}: {clean(self.headline)}", "\n".join(facts), "\n".join([run, *links])]
        return "\n\n".join(filter(None, [*blocks, clean(self.why)])) + "\n"

    def payload(self) -> dict[str, Any]:
        """Return the message for a webhook; `text` is what chat programs show."""
        return {
            "text": f"{self.title}\n\n{self.body()}",
            "label": self.label,
            "subject": one_line(self.subject),
            "headline": clean(self.headline),
            "facts": {name: clean(value) for name, value in self.facts.items() if value},
            "links": {name: clean(value) for name, value in self.links.items() if value},
            "dag_id": self.dag_id,
            "run_id": self.run_id,
            "rung": self.rung,
            "dedup_key": self.thread,
        }


def clean(value: str) -> str:
    """Return text from outside without control characters, cut to a readable length.

    A line with the shape of a credential is withheld: Airflow masks only the secrets that it knows of.
    """
    lines = _UNPRINTABLE.sub("\ufffd", value.replace("\r\n", "\n")).split("\n")
    kept = "\n".join("(withheld: looks like a credential)" if text.looks_secret(line) else line for line in lines)
    return kept if len(kept) <= _FACT_LIMIT else kept[: _FACT_LIMIT - 1] + "…"


def one_line(value: str) -> str:
    """Return text as one line: a line break in a mail header would begin a header of somebody else's choice."""
    return " ".join(clean(value).split())
