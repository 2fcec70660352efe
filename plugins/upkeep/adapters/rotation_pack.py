"""Compress a rotated file, decode it again, and remove the plain one only when both are equal line for line."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime

from upkeep.adapters import rotation_procs
from upkeep.adapters.rotation_folder import Folder, why
from upkeep.adapters.rotation_look import PACKING, unfit
from upkeep.adapters.rotation_turn import like
from upkeep.core.rotation import NotDone, Packed, RotatedFile, quoted, unquoted

_BLOCK = 1 << 20
_GZIP = 31  # window bits by which zlib writes and reads gzip's format


def pack(folder: Folder, file: RotatedFile, level: int, quiet_seconds: float) -> Packed | NotDone:
    """Compress a file; nobody else may be at work in the folder.

    :param quiet_seconds: how long nobody may have written to it when there are processes that we cannot look into.
    """
    name = unquoted(file.name)
    try:
        with folder.parent(name) as (fd, leaf):
            handle = folder.open(name)
            try:
                done = _refused(handle, file) or _pack(fd, leaf, handle, file, level)
                if isinstance(done, NotDone):
                    return done
                if busy := _busy(handle, done, quiet_seconds) or _held_unseen(folder, handle, done):
                    os.unlink(f"{leaf}.gz", dir_fd=fd)  # the plain file has it all, and may have more
                    return busy
                if not _is(fd, leaf, handle):
                    return NotDone("changed", f"{file.name}: another file has taken its place meanwhile")
                os.unlink(leaf, dir_fd=fd)
                return done
            finally:
                os.close(handle)
    except OSError as error:
        return why(error, name)


def _refused(handle: int, file: RotatedFile) -> NotDone | None:
    """Return why a file is not to be touched."""
    seen = os.fstat(handle)
    if (seen.st_dev, seen.st_ino) != (file.device, file.inode):
        return NotDone("changed", f"{file.name}: is another file by now")
    reason = unfit(seen)
    return NotDone("refused", f"{file.name}: {reason}") if reason else None


def _busy(handle: int, done: Packed, quiet_seconds: float) -> NotDone | None:
    """Return why the plain file must stay: somebody may still write to it, or has since it was read."""
    seen = os.fstat(handle)
    opened = rotation_procs.scan({(seen.st_dev, seen.st_ino)})
    if holders := opened.writers(seen.st_dev, seen.st_ino):
        return NotDone("held", f"{done.name}: is still written to by {', '.join(map(str, holders))}")
    quiet = datetime.now(UTC).timestamp() - seen.st_mtime
    if opened.unseen and quiet < quiet_seconds and not rotation_procs.no_writer(handle):
        return NotDone(
            "held",
            f"{done.name}: was written to {max(quiet, 0):.0f} s ago, and {len(opened.unseen)} processes cannot be"
            " looked into",
        )
    # Asked last: a writer may have written, and closed, before we looked who has it open.
    if os.fstat(handle).st_size != done.size:
        return NotDone("changed", f"{done.name}: was written to while it was compressed; it is left as it is")
    return None


def _held_unseen(folder: Folder, handle: int, done: Packed) -> NotDone | None:
    """Return that a process which is not seen from here has the file open for writing, when the kernel says so.

    The compressed file, which nobody has open, tells whether it can be asked on this file system, and by us.
    """
    packed = folder.open(unquoted(done.packed))
    try:
        if rotation_procs.no_writer(packed) and not rotation_procs.no_writer(handle):
            return NotDone("held", f"{done.name}: a process that is not seen from here has it open for writing")
    finally:
        os.close(packed)
    return None


def _pack(fd: int, leaf: str, handle: int, file: RotatedFile, level: int) -> Packed | NotDone:
    packed, making = f"{leaf}.gz", f".{leaf}{PACKING}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(making, dir_fd=fd)
    fresh = not _exists(fd, packed) or _is_beginning(fd, packed, handle)
    if fresh:
        try:
            _write(fd, making, handle, level)
            os.rename(making, packed, src_dir_fd=fd, dst_dir_fd=fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(making, dir_fd=fd)
            raise
    # From here on it is as after a run that was cut off: two files of which one is to be proved equal to the other.
    got = _sum_packed(fd, packed)
    wanted = _sum(_plain(handle, got[2] if fresh else None))
    if wanted != got:
        return NotDone(
            "differs",
            f"{file.name}: its .gz does not decode to it: {got[0]} lines instead of {wanted[0]}; both are left",
        )
    os.fsync(fd)
    size = os.stat(packed, dir_fd=fd, follow_symlinks=False).st_size
    return Packed(
        name=file.name,
        packed=quoted(unquoted(file.name) + ".gz"),
        size=wanted[2],
        packed_size=size,
        lines=wanted[0],
        sha256=wanted[1],
    )


def _is_beginning(fd: int, packed: str, handle: int) -> bool:
    """Tell whether a compressed file holds the beginning of the plain one: after a run was cut off, more came."""
    got = _sum_packed(fd, packed)
    return 0 < got[2] < os.fstat(handle).st_size and _sum(_plain(handle, got[2])) == got


def _is(fd: int, leaf: str, handle: int) -> bool:
    """Tell whether a name still means an open file: other programs rename theirs, too."""
    return os.path.samestat(os.stat(leaf, dir_fd=fd, follow_symlinks=False), os.fstat(handle))


def _exists(fd: int, leaf: str) -> bool:
    try:
        os.stat(leaf, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _write(fd: int, leaf: str, source: int, level: int) -> None:
    """Write the compressed file, with owner, mode and time of the plain one: by its time it is deleted one day."""
    handle = os.open(leaf, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=fd)
    with os.fdopen(handle, "wb") as file:
        squeeze = zlib.compressobj(level, zlib.DEFLATED, _GZIP)
        for block in _plain(source):
            file.write(squeeze.compress(block))
        file.write(squeeze.flush())
        file.flush()
        like(handle, source)
        model = os.fstat(source)
        os.utime(handle, ns=(model.st_atime_ns, model.st_mtime_ns))
        os.fsync(handle)


def _plain(handle: int, end: int | None = None) -> Iterator[bytes]:
    """Read an open file, to its end or so far."""
    offset = 0
    while block := os.pread(handle, _BLOCK if end is None else min(_BLOCK, end - offset), offset):
        offset += len(block)
        yield block


def _sum(blocks: Iterator[bytes]) -> tuple[int, str, int]:
    digest, lines, size = hashlib.sha256(), 0, 0
    for block in blocks:
        digest.update(block)
        lines += block.count(b"\n")
        size += len(block)
    return lines, digest.hexdigest(), size


def _sum_packed(fd: int, leaf: str) -> tuple[int, str, int]:
    handle = os.open(leaf, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=fd)  # it may be a pipe
    try:
        return _sum(decoded(_plain(handle)))
    finally:
        os.close(handle)


def decoded(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Decode gzip, block by block, so that a file that grows a thousandfold does not fill the memory.

    A file that is cut off, or none of gzip's, decodes to less than it should: its sum tells.
    """
    engine = zlib.decompressobj(_GZIP)
    for block in blocks:
        ahead = block
        while ahead and not engine.eof:
            try:
                yield engine.decompress(ahead, _BLOCK)
            except zlib.error:
                return
            ahead = engine.unconsumed_tail
