"""Rotate one log: rename it, put a new file in its place, let the writer reopen; or copy and empty it when asked to.

Whatever could fail for want of room or rights is done first: the new file is prepared, with mode, owner and ACL of the
old one, under a hidden name beside it. That name stays until the writer has reopened: by it a run that was cut off is
known, and ended by the next.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from upkeep.adapters import rotation_logrotate
from upkeep.adapters.rotation_copy import copy_and_empty
from upkeep.adapters.rotation_folder import Folder, names_in, why
from upkeep.adapters.rotation_look import MARK, unfit
from upkeep.adapters.rotation_reopen import OldFile, reopen
from upkeep.core.logs import Rotation
from upkeep.core.rotation import NotDone, Order, Reopened, Turned, quoted, unquoted

_BLOCK = 1 << 20
_KEPT_ATTRIBUTES = ("system.posix_acl_access", "security.selinux")


@dataclass
class Place:
    """An open log and the folder that it lies in."""

    folder: Folder
    name: str
    fd: int
    leaf: str
    handle: int

    @property
    def seen(self) -> os.stat_result:
        """What the file that was opened is now, whatever its name by now."""
        return os.fstat(self.handle)

    @property
    def prefix(self) -> str:
        """What stands before a file name to say that it lies beside the log."""
        return self.name[: len(self.name) - len(self.leaf)]

    def inode_of(self, leaf: str) -> int | None:
        """Return the inode of a file beside the log, None when there is none."""
        try:
            return os.stat(leaf, dir_fd=self.fd, follow_symlinks=False).st_ino
        except FileNotFoundError:
            return None


def rotate(folder: Folder, rotation: Rotation, order: Order, work: Path) -> Turned | NotDone:
    """Rotate a log, by `logrotate` where that is chosen and possible. Nobody else may be at work in the folder.

    :param work: folder for logrotate's configuration and state.
    """
    name = unquoted(order.name)
    try:
        with _place(folder, name) as place:
            if place.seen.st_ino != order.inode:
                return NotDone("changed", f"{order.name}: is not the file any more that was to be rotated")
            if reason := unfit(place.seen):
                return NotDone("refused", f"{order.name}: {reason}")
            if rotation.copytruncate:
                return copy_and_empty(place, order)
            return _rename(place, rotation, order, work)
    except OSError as error:
        return why(error, name)


@contextlib.contextmanager
def _place(folder: Folder, name: str) -> Iterator[Place]:
    handle = folder.open(name)
    try:
        with folder.parent(name) as (fd, leaf):
            yield Place(folder, name, fd, leaf, handle)
    finally:
        os.close(handle)


def _rename(place: Place, rotation: Rotation, order: Order, work: Path) -> Turned | NotDone:
    begun, old = time.monotonic(), place.seen
    complaints: tuple[str, ...] = ()
    with _prepared(place) as put_in_place:
        by, trouble = rotation_logrotate.choose(place, rotation, order)
        if by:
            free_name(place)  # logrotate would not wait for the next second
            complaints = rotation_logrotate.run(by, place, order, work)
        if place.inode_of(place.leaf) == old.st_ino:
            if by and order.program == "logrotate":
                return NotDone("program", f"{order.name}: logrotate left it as it was: {'; '.join(complaints) or '?'}")
            rename(place)
            by = None
        put_in_place()
        rotated = _name_of(place, old.st_ino)
        reopened = let_reopen(place, rotation, old)
    turned = Turned(
        name=order.name,
        rotated=quoted(place.prefix + rotated) if rotated else "",
        by=str(by) if by else "built-in",
        old_inode=old.st_ino,
        new_inode=place.inode_of(place.leaf) or 0,
        size=place.seen.st_size,
        seconds=time.monotonic() - begun,
        reopened=reopened,
        complaints=(*([trouble] if trouble else []), *complaints),
    )
    return turned if reopened.state == "no" else counted(turned, place.handle)


@contextlib.contextmanager
def _prepared(place: Place) -> Iterator[Callable[[], None]]:
    """Prepare the new file under a hidden name; give what puts it in place unless the writer was quicker."""
    mark = f".{place.leaf}{MARK}"
    prepare(place, mark)
    try:
        yield lambda: put(place, mark)
    finally:
        put(place, mark)  # also when somebody ended the task in the middle: the log must be there
        with contextlib.suppress(FileNotFoundError):
            os.unlink(mark, dir_fd=place.fd)


def prepare(place: Place, leaf: str) -> None:
    """Make an empty file with mode, owner and ACL of the log."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(leaf, dir_fd=place.fd)
    handle = os.open(leaf, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=place.fd)
    try:
        like(handle, place.handle)
    finally:
        os.close(handle)


def like(handle: int, model: int) -> None:
    """Give one open file owner, mode and ACL of another; the owner as far as we may."""
    wanted, own = os.fstat(model), os.fstat(handle)
    if (wanted.st_uid, wanted.st_gid) != (own.st_uid, own.st_gid):
        with contextlib.suppress(PermissionError):
            os.fchown(handle, wanted.st_uid, wanted.st_gid)
    os.fchmod(handle, wanted.st_mode & 0o7777)
    for name in _KEPT_ATTRIBUTES:
        with contextlib.suppress(OSError):
            os.setxattr(handle, name, os.getxattr(model, name))


def put(place: Place, mark: str) -> None:
    """Give the prepared file the log's name, unless a file of that name is there."""
    try:
        os.link(mark, place.leaf, src_dir_fd=place.fd, dst_dir_fd=place.fd, follow_symlinks=False)
    except FileExistsError:
        return
    except OSError:
        # A file system without hard links: nothing better than to ask first, and rename a moment later.
        if place.inode_of(place.leaf) is None:
            os.rename(mark, place.leaf, src_dir_fd=place.fd, dst_dir_fd=place.fd)


def rename(place: Place) -> str:
    """Rename the log to a name with the time, which no file has; return the name."""
    leaf = free_name(place)
    os.rename(place.leaf, leaf, src_dir_fd=place.fd, dst_dir_fd=place.fd)
    return leaf


def free_name(place: Place) -> str:
    """Return the name that a log rotated now gets; waits for the next second while a file has it."""
    while True:
        now = datetime.now(UTC)
        leaf = f"{place.leaf}-{now:%Y%m%d}-{int(now.timestamp())}"
        if place.inode_of(leaf) is None and place.inode_of(f"{leaf}.gz") is None:
            return leaf
        time.sleep(0.05)


def let_reopen(place: Place, rotation: Rotation, old: os.stat_result) -> Reopened:
    """Let the writer reopen, and see that it does."""
    new = None
    with contextlib.suppress(OSError):
        new = place.folder.open(place.name)
    try:
        return reopen(rotation.reopen, OldFile(old.st_dev, old.st_ino, new, place.handle))
    except OSError as error:
        return Reopened(state="unknown", proof=f"it could not be looked at: {error}")
    finally:
        if new is not None:
            os.close(new)


def _name_of(place: Place, inode: int) -> str | None:
    """Return the name beside the log that an inode has now; it is the log's name first."""
    names = (name for name in names_in(place.fd) if name.startswith(f"{place.leaf}-"))
    # Not the inode that a listing tells: on overlay file systems that is another one.
    return min((name for name in names if place.inode_of(name) == inode), default=None)


def counted(turned: Turned, handle: int) -> Turned:
    """Add lines and SHA-256 of the rotated file."""
    lines, digest, size = fingerprint(handle)
    return turned.model_copy(update={"lines": lines, "sha256": digest, "size": size})


def fingerprint(handle: int) -> tuple[int, str, int]:
    """Return lines (newlines), SHA-256 and bytes of an open file."""
    digest, lines, offset = hashlib.sha256(), 0, 0
    while block := os.pread(handle, _BLOCK, offset):
        digest.update(block)
        lines += block.count(b"\n")
        offset += len(block)
    return lines, digest.hexdigest(), offset
