"""Which bytes of which log files are to be read for a window of time."""

from __future__ import annotations

from datetime import datetime

from upkeep.core.model import Model


class Segment(Model):
    """Bytes of one file that may hold lines of a window; the lines outside of it are left out by whoever reads them.

    Offsets are those of the text: of a compressed file, what it decodes to. A file that is written to meanwhile is read
    up to `end` and no further, so that one run sees one state of it.
    """

    path: str
    device: int
    inode: int
    start: int
    end: int | None
    """None: as far as it goes, which only a compressed file may."""
    compressed: bool = False
    clock: datetime | None = None
    """When the file was last written to: lines without a time in a file without any belong there."""


class Unread(Model):
    """A file, or a part of one, that could not be read, and why: what it says is unknown."""

    path: str
    reason: str
    hint: str


class Sample(Model):
    """Some of the lines that could not be understood: place and redacted, shortened text."""

    path: str
    offset: int
    text: str


class Lines(Model):
    """How many lines were read and what became of them: `read` is the sum of the others."""

    read: int = 0
    in_window: int = 0
    outside: int = 0
    unparsed: int = 0
    bytes: int = 0
    samples: tuple[Sample, ...] = ()
    unread: tuple[Unread, ...] = ()
