"""Log files of this machine: looked at, rotated, compressed, deleted; see `core.rotation.Rotator`."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from upkeep.adapters import (
    rotation_finish,
    rotation_look,
    rotation_pack,
    rotation_procs,
    rotation_stray,
    rotation_turn,
)
from upkeep.adapters.rotation_folder import LOCK_SECONDS, Folder, why
from upkeep.core.logs import Rotation, StrayFiles
from upkeep.core.rotation import (
    LogFolder,
    NotDone,
    Order,
    Packed,
    Reopened,
    RotatedFile,
    StrayFile,
    StrayFolder,
    Turned,
    unquoted,
)


class LogRotator:
    """Rotation on this machine.

    :param work: folder for what `logrotate` needs, one below it for each target.
    :param patience: seconds to wait for another run in the same folder.
    """

    def __init__(self, work: Path, patience: float = LOCK_SECONDS) -> None:
        self.work, self.patience = work, patience

    def look(self, rotation: Rotation, zone: str) -> LogFolder | NotDone:
        """List the logs of a policy."""
        try:
            with Folder(rotation.folder) as folder:
                return rotation_look.look(folder, rotation, zone, datetime.now(UTC))
        except OSError as error:
            return why(error, rotation.folder)

    def strays(self, stray: StrayFiles, now: datetime) -> StrayFolder | NotDone:
        """List the stray files that are old enough."""
        try:
            with Folder(stray.folder) as folder:
                return rotation_stray.look(folder, stray, now)
        except OSError as error:
            return why(error, stray.folder)

    def rotate(self, target: str, rotation: Rotation, order: Order) -> Turned | NotDone:
        """Rotate one log and prove it."""
        work = self.work / re.sub(r"[^A-Za-z0-9_-]", "_", target)
        return self._alone(rotation.folder, lambda folder: rotation_turn.rotate(folder, rotation, order, work))

    def finish(self, rotation: Rotation, name: str) -> Reopened | NotDone:
        """End what a run that was cut off had begun."""
        return self._alone(rotation.folder, lambda folder: rotation_finish.finish(folder, rotation, name))

    def reopen(self, rotation: Rotation, name: str, inodes: tuple[int, ...]) -> Reopened | NotDone:
        """Ask the writer to let go of rotated files."""
        return self._alone(
            rotation.folder,
            lambda folder: rotation_finish.ask_again(folder, unquoted(name), rotation.reopen, inodes),
        )

    def pack(self, rotation: Rotation, file: RotatedFile, level: int, quiet_seconds: float) -> Packed | NotDone:
        """Compress a rotated file and prove it."""
        return self._alone(rotation.folder, lambda folder: rotation_pack.pack(folder, file, level, quiet_seconds))

    def remove(self, folder: str, file: RotatedFile | StrayFile) -> NotDone | None:
        """Delete a file that is still the very one, and that nobody has open."""
        return self._alone(folder, lambda opened: _remove(opened, file))

    def _alone[T](self, path: str, deed: Callable[[Folder], T]) -> T | NotDone:
        try:
            with Folder(path) as folder, folder.alone(self.patience) as busy:
                return busy or deed(folder)
        except OSError as error:
            return why(error, path)


def _remove(folder: Folder, file: RotatedFile | StrayFile) -> NotDone | None:
    name = unquoted(file.name)
    try:
        with folder.parent(name) as (fd, leaf):
            seen = os.stat(leaf, dir_fd=fd, follow_symlinks=False)
            if (seen.st_dev, seen.st_ino) != (file.device, file.inode):
                return NotDone("changed", f"{file.name}: is another file by now")
            if seen.st_mtime > file.modified.timestamp() + 1e-3:
                return NotDone("changed", f"{file.name}: was written to meanwhile")
            if holders := rotation_procs.scan({(seen.st_dev, seen.st_ino)}).holders(seen.st_dev, seen.st_ino):
                return NotDone("held", f"{file.name}: is open in {', '.join(map(str, holders))}")
            # A database that is cut off from them would only seem whole; without it they are nothing.
            for beside in file.companions if isinstance(file, StrayFile) else ():
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(unquoted(beside).rpartition("/")[2], dir_fd=fd)
            os.unlink(leaf, dir_fd=fd)
    except OSError as error:
        return why(error, name)
    return None
