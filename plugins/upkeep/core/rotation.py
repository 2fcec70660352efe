"""What rotation sees of log files, what it does to them, and what is proved of it afterwards.

Files are named relative to the folder of the policy, by a text that holds no control characters and from which the
name's bytes can be had back (`quoted`): names may hold newlines and bytes that are no UTF-8, records may not.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol
from urllib.parse import unquote_to_bytes

from upkeep.core.logs import Rotation, StrayFiles
from upkeep.core.model import Model, Severity

Program = Literal["auto", "logrotate", "builtin"]


def quoted(name: str) -> str:
    r"""Return a file name as text that is printable and means one name only.

    >>> quoted("app\n100%.log"), quoted("größe.log")
    ('app%0A100%25.log', 'größe.log')
    """
    return "".join(c if c.isprintable() and c != "%" else _percent(c) for c in name)


def unquoted(text: str) -> str:
    """Return the file name that a text of `quoted` means."""
    return os.fsdecode(unquote_to_bytes(text))


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in os.fsencode(character))


@dataclass(frozen=True)
class NotDone:
    """Why something was not done, as a value; the files are as before.

    `busy`: another run works in the folder; `gone`, `changed`: the file is not there, or not the one that was planned
    for; `held`: a process has it open; `full`: no room; `privilege`: no right, or a read-only folder; `refused`: a
    guard said no; `program`: logrotate failed; `differs`: what was written is not what was read.
    """

    reason: Literal["busy", "gone", "changed", "held", "full", "privilege", "refused", "program", "differs", "other"]
    message: str


class Holder(Model):
    """A process that has a file open; one that only reads (a log shipper) holds nobody up."""

    pid: int
    name: str
    writes: bool = True

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"


class RotatedFile(Model):
    """A file that a log was rotated to. `rotated` is the time in its name when we gave it.

    `numbered`: another program shifts these (`app.log.1`), so they are not compressed under its hands. `twin`: the
    plain and the compressed one are both there: a run was cut off between making the one and removing the other.
    """

    name: str
    device: int
    inode: int
    size: int
    modified: datetime
    rotated: datetime | None = None
    compressed: bool = False
    numbered: bool = False
    twin: bool = False
    holders: tuple[Holder, ...] = ()

    @property
    def written_last(self) -> datetime:
        """When its last line was written: its age counts from there, as logrotate's `maxage` does."""
        return self.modified


class LiveLog(Model):
    """A log that writers have open, with the files it was rotated to, newest first.

    `there` is false for one that is missing. `since`: when its first line was written, None when nobody can tell.
    `unfinished`: a run was cut off while it rotated this log.
    """

    name: str
    there: bool = True
    device: int = 0
    inode: int = 0
    size: int = 0
    since: datetime | None = None
    modified: datetime | None = None
    rotated: tuple[RotatedFile, ...] = ()
    unfinished: bool = False


class Refusal(Model):
    """A file that is not touched, and why."""

    name: str
    check: str
    severity: Severity
    reason: str
    hint: str


class Unlinked(Model):
    """A file below the folder that is deleted and still open: its space comes back when the process closes it."""

    name: str
    size: int
    holder: Holder


class LogFolder(Model):
    """One look at the folder of a policy. `unseen` counts processes whose open files we may not see."""

    path: str
    logs: tuple[LiveLog, ...] = ()
    missing: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    deleted: tuple[Unlinked, ...] = ()
    unseen: int = 0


class StrayFile(Model):
    """A file that should not stay. `keep` says why it must not go either, empty when it may.

    `companions` are the files beside a SQLite database that are worth nothing without it.
    """

    name: str
    device: int
    inode: int
    size: int
    modified: datetime
    keep: str = ""
    companions: tuple[str, ...] = ()


class StrayFolder(Model):
    """One look for stray files that are old enough."""

    path: str
    files: tuple[StrayFile, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    unseen: int = 0


class Reopened(Model):
    """Whether the writer has let go of the old file. `told` is how it was asked, `trouble` what went wrong with that.

    `unknown`: no process that we may look into holds the old file, nobody wrote to the new one, and there are `unseen`
    processes that may.
    """

    state: Literal["yes", "no", "unknown"]
    proof: str
    told: str = ""
    trouble: str = ""
    seconds: float = 0
    holders: tuple[Holder, ...] = ()
    unseen: int = 0


class Turned(Model):
    """A log that was rotated, and the proof. Lines and SHA-256 are of the rotated file once its writer had let go.

    `lost_bytes` (copytruncate only) is what was seen to be written between copy and truncation, plus what the measured
    rate lets expect in the moment of it that nobody can look into. `complaints` are logrotate's.
    """

    name: str
    rotated: str
    by: str
    old_inode: int
    new_inode: int
    size: int
    lines: int | None = None
    sha256: str = ""
    seconds: float = 0
    reopened: Reopened
    lost_bytes: int | None = None
    rate: float = 0
    complaints: tuple[str, ...] = ()


class Packed(Model):
    """A rotated file that was compressed, decoded again and found equal in lines and SHA-256; the plain one is gone."""

    name: str
    packed: str
    size: int
    packed_size: int
    lines: int
    sha256: str


@dataclass(frozen=True)
class Order:
    """A log that is to be rotated: the very file that was planned for, by which program, and why it is due."""

    name: str
    inode: int
    program: Program
    due: Literal["size", "age", "asked"]
    since: datetime | None = None


class Rotator(Protocol):
    """Log files of this machine; see `adapters.rotation`. Only one at a time changes anything below a folder."""

    def look(self, rotation: Rotation, zone: str) -> LogFolder | NotDone:
        """List the logs of a policy; `zone` is that of times without an offset in their lines."""
        ...

    def strays(self, stray: StrayFiles, now: datetime) -> StrayFolder | NotDone:
        """List the stray files that are old enough."""
        ...

    def rotate(self, target: str, rotation: Rotation, order: Order) -> Turned | NotDone:
        """Rename the file, put a new one in its place, let the writer reopen, and prove it."""
        ...

    def finish(self, rotation: Rotation, name: str) -> Reopened | NotDone:
        """Bring to its end what a run that was cut off had begun with a log."""
        ...

    def reopen(self, rotation: Rotation, name: str, inodes: tuple[int, ...]) -> Reopened | NotDone:
        """Ask the writer to let go of rotated files (by their inodes)."""
        ...

    def pack(self, rotation: Rotation, file: RotatedFile, level: int, quiet_seconds: float) -> Packed | NotDone:
        """Compress a rotated file and remove the plain one once the compressed one is proved equal."""
        ...

    def remove(self, folder: str, file: RotatedFile | StrayFile) -> NotDone | None:
        """Delete a file of the folder, if it is still the very one and nobody has it open."""
        ...
