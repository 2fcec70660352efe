"""Copy a log and empty it (copytruncate), for writers that cannot reopen; what may be lost by it is measured.

Between the last look at the file's end and its being emptied nobody can look; whatever is written in that moment is
lost. So the copy first catches up with the writer until there is nothing left, and only then is the file emptied. What
is reported is what was seen to come later, plus the writer's measured rate times that moment: a little too much.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from upkeep.adapters.rotation_look import COPIED, COPY
from upkeep.core.rotation import NotDone, Order, Reopened, Turned, quoted

if TYPE_CHECKING:
    from upkeep.adapters.rotation_turn import Place

_BLOCK = 1 << 20
_CATCH_UP_SECONDS = 30.0


def copy_and_empty(place: Place, order: Order) -> Turned | NotDone:
    """Copy a log to a file with the time in its name, and empty it.

    A copy is named `copied` when only the tail is missing. So whoever finds one after a crash compares: is it the
    beginning of the log, the log was not emptied, and holds it all.
    """
    from upkeep.adapters.rotation_turn import counted, free_name, like

    begun, old = time.monotonic(), place.seen
    leaf = free_name(place)
    copy, copied = f".{leaf}{COPY}", f".{leaf}{COPIED}"
    live = os.open(place.leaf, os.O_RDWR | os.O_NOFOLLOW, dir_fd=place.fd)
    handle = os.open(copy, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=place.fd)
    try:
        if os.fstat(live).st_ino != old.st_ino:
            return NotDone("changed", f"{order.name}: another file has taken its place")
        like(handle, live)
        done = _copy(live, handle, 0)
        os.fsync(handle)
        os.rename(copy, copied, src_dir_fd=place.fd, dst_dir_fd=place.fd)
        rate = max(done - old.st_size, 0) / max(time.monotonic() - begun, 1e-6)
        lost, size = _empty(live, handle, done, rate)
        os.fsync(handle)
        os.rename(copied, leaf, src_dir_fd=place.fd, dst_dir_fd=place.fd)
        turned = Turned(
            name=order.name,
            rotated=quoted(place.prefix + leaf),
            by="built-in copytruncate",
            old_inode=old.st_ino,
            new_inode=old.st_ino,
            size=size,
            seconds=time.monotonic() - begun,
            reopened=Reopened(state="yes", proof="the writer keeps its file, which was emptied"),
            lost_bytes=lost,
            rate=rate,
        )
        return counted(turned, handle)
    except OSError:
        # Before the file was emptied the copy is worth nothing, and after that nothing fails but the last renaming.
        _drop(place, copy)
        raise
    finally:
        os.close(handle)
        os.close(live)


def _drop(place: Place, leaf: str) -> None:
    try:
        os.unlink(leaf, dir_fd=place.fd)
    except OSError:
        return


def _copy(source: int, target: int, offset: int) -> int:
    """Copy from an offset to the end as it is by then; return the new offset."""
    while block := os.pread(source, _BLOCK, offset):
        view = memoryview(block)
        while view:
            view = view[os.write(target, view) :]
        offset += len(block)
    return offset


def _empty(live: int, copy: int, done: int, rate: float) -> tuple[int, int]:
    """Catch up with the writer and empty the file; return the bytes that may be lost, and those that are copied."""
    deadline = time.monotonic() + _CATCH_UP_SECONDS
    while True:
        done = _copy(live, copy, done)
        looked = time.monotonic()
        size = os.fstat(live).st_size
        if size == done or looked > deadline:
            os.ftruncate(live, 0)
            blind = time.monotonic() - looked
            return max(size - done, 0) + int(rate * blind), done
