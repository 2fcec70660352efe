"""Bring to its end what a run that was cut off had begun: no line may be lost or be there twice."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from upkeep.adapters.rotation_folder import Folder, names_in, why
from upkeep.adapters.rotation_look import COPIED, COPY, MARK, PACKING, leftover_of
from upkeep.adapters.rotation_reopen import OldFile, reopen
from upkeep.core.logs import Reopen, Rotation
from upkeep.core.rotation import NotDone, Reopened, unquoted

_BLOCK = 1 << 20


def finish(folder: Folder, rotation: Rotation, shown: str) -> Reopened | NotDone:
    """End the work on a log; nobody else may be at work in the folder."""
    name = unquoted(shown)
    try:
        with folder.parent(name) as (fd, leaf):
            left = [n for n in names_in(fd) if leftover_of(n) == leaf]
            if not left:
                return NotDone("gone", f"{shown}: another run has ended it")
            return _finish(folder, fd, name, left, rotation.reopen)
    except OSError as error:
        return why(error, name)


def _finish(folder: Folder, fd: int, name: str, left: Sequence[str], way: Reopen) -> Reopened | NotDone:
    leaf = name.rpartition("/")[2]
    for half in left:
        if half.endswith((COPY, PACKING)):
            os.unlink(half, dir_fd=fd)
        elif half.endswith(COPIED):
            _settle_copy(fd, leaf, half)
    mark = f".{leaf}{MARK}"
    if mark not in left:
        return Reopened(state="yes", proof="nothing was renamed")
    with contextlib.suppress(FileExistsError):
        os.link(mark, leaf, src_dir_fd=fd, dst_dir_fd=fd, follow_symlinks=False)
    old = _newest(fd, leaf)
    said = ask_again(folder, name, way, (old,)) if old is not None else Reopened(state="yes", proof="not renamed yet")
    os.unlink(mark, dir_fd=fd)
    return said


def _newest(fd: int, leaf: str) -> int | None:
    """Return the inode of the file that the log was last rotated to, None when there is none that is plain."""
    names = [n for n in names_in(fd) if n.startswith(f"{leaf}-") and n.rpartition("-")[2].isdecimal()]
    names.sort(key=lambda n: n.rpartition("-")[2].zfill(12))
    return os.stat(names[-1], dir_fd=fd, follow_symlinks=False).st_ino if names else None


def ask_again(folder: Folder, name: str, way: Reopen, inodes: Sequence[int]) -> Reopened:
    """Ask the writer to let go of rotated files; the worst answer counts."""
    new = None
    with contextlib.suppress(OSError):
        new = folder.open(name)
    try:
        device = os.fstat(new if new is not None else folder.fd).st_dev
        said = [reopen(way, OldFile(device, inode, new)) for inode in inodes]
    finally:
        if new is not None:
            os.close(new)
    order = ("yes", "unknown", "no")
    return max(said, key=lambda r: order.index(r.state))


def _settle_copy(fd: int, leaf: str, copied: str) -> None:
    """Decide whether the log was emptied after it was copied: then the copy stays, else it goes."""
    if _is_beginning(fd, copied, leaf):
        os.unlink(copied, dir_fd=fd)
        return
    os.rename(copied, copied[1 : -len(COPIED)], src_dir_fd=fd, dst_dir_fd=fd)


def _is_beginning(fd: int, copied: str, leaf: str) -> bool:
    with contextlib.ExitStack() as stack:
        handles = []
        for name in (copied, leaf):
            try:
                handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=fd)
            except FileNotFoundError:
                return False
            stack.callback(os.close, handle)
            handles.append(handle)
        copy, live = handles
        offset = 0
        while block := os.pread(copy, _BLOCK, offset):
            if os.pread(live, len(block), offset) != block:
                return False
            offset += len(block)
        return True
