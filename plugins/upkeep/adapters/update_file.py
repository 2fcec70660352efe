"""Puts a new manifest in the place of the old one, has it tested, and puts the old one back when the tests fail.

The old file is kept beside it under a dated name. A note beside both tells, for as long as the tests have not passed,
what was replaced; a lock on it is held by whoever is at work, so that a note without a lock was left by somebody who
was cut off.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from upkeep.adapters._package_run import ask
from upkeep.adapters._package_text import UnreadableError, json_object, read_bytes, shown
from upkeep.adapters.log_secrets import Scanner
from upkeep.adapters.process import environment
from upkeep.core.outdated import Applied
from upkeep.core.text import looks_random, looks_secret

MAX_BYTES = 4 << 20
_TAIL = 4000
_HIDDEN = "(a line with a credential is not shown)"


def digest(content: bytes) -> str:
    """Return the SHA-256 of a file's content."""
    return hashlib.sha256(content).hexdigest()


def apply(path: Path, expected: str, new: bytes, *, now: datetime, tests: Sequence[str], timeout: float) -> Applied:
    """Replace a file by another one; see the module."""
    path = path.resolve()
    try:
        with _at_work(path) as note:
            old = read_bytes(path, MAX_BYTES)
            if digest(old) != expected:
                return Applied(done=False, detail=f"{path.name} has changed since it was proposed; nothing was written")
            kept = _keep(path, old, now)
            note(json.dumps({"kept": kept.name, "old": digest(old), "new": digest(new)}))
            return _tried(path, old, new, kept, lambda: run_tests(tests, path.parent, path, timeout))
    except UnreadableError as error:
        return Applied(done=False, detail=f"{path}: {error}; nothing was written")
    except OSError as error:
        return Applied(done=False, detail=f"{path}: {error.strerror}; the old file stands as it was")


def _tried(path: Path, old: bytes, new: bytes, kept: Path, tests: Callable[[], tuple[bool, str]]) -> Applied:
    try:
        _put(path, new)
        passed, words = tests()
    except BaseException:
        _restore(path, old, new)
        raise
    if passed:
        # Nobody can call it untested from here on, even if we are cut off before the note is gone.
        _note(path).write_text("")
        said = "its tests passed" if words else "no tests are configured for it"
        return Applied(done=True, detail=f"{path.name} is replaced; {said}", kept=str(kept), tests=words)
    if not _restore(path, old, new):
        detail = f"the tests failed, and somebody else has changed {path.name} meanwhile: it was left alone"
        return Applied(done=False, detail=detail, kept=str(kept), tests=words)
    return Applied(done=False, detail=f"the tests failed; the old {path.name} is back", kept=str(kept), tests=words)


def _restore(path: Path, old: bytes, new: bytes) -> bool:
    """Put the old content back in the place of the new one; leave alone what is neither."""
    present = digest(read_bytes(path, MAX_BYTES))
    if present == digest(new):
        _put(path, old)
    return present in (digest(old), digest(new))


def run_tests(tests: Sequence[str], folder: Path, manifest: Path, timeout: float) -> tuple[bool, str]:
    """Run a command in a folder; return whether it passed, and the end of what it said without credentials."""
    if not tests:
        return True, ""
    try:
        said = ask(tests, timeout=timeout, env=environment(UPKEEP_MANIFEST=str(manifest)), cwd=folder)
    except UnreadableError as error:
        return False, str(error)
    words = said.out.decode(errors="replace") + "".join(f"{line}\n" for line in said.errors)
    return said.code == 0, f"exit code {said.code}\n{tail(words)}"


def tail(words: str) -> str:
    """Return the end of a text, line by line without credentials and control characters."""
    start = max(0, len(words) - 4 * _TAIL)
    if start:  # from the beginning of a line: half a credential does not look like one
        start = words.find("\n", start) + 1 or len(words)
    # What belongs to a key may stand far below the line by which it is known.
    inside = words.rfind("-----BEGIN", 0, start) > words.rfind("-----END", 0, start)
    lines = []
    for line in words[start:].splitlines():
        inside = inside or "-----BEGIN" in line
        lines.append(_HIDDEN if inside or _gives_away(line) else shown(line, 400))
        inside = inside and "-----END" not in line
    return "\n".join(lines)[-_TAIL:]


def _gives_away(line: str) -> bool:
    found = Scanner().scan(line.encode(errors="replace"))
    return looks_secret(line) or looks_random(line.strip()) or next(iter(found), None) is not None


def unfinished(path: Path) -> str:
    """Return the name of the kept file when an apply was cut off and its file, untested, is still in place."""
    return _left(path.resolve())[0]


def put_back(path: Path) -> Applied:
    """Put the file back that an apply which was cut off has replaced."""
    path = path.resolve()
    try:
        with _at_work(path, again=True):
            kept, old = _left(path, locked=True)
            if not kept:
                return Applied(done=False, detail=f"{path.name} was put right, or changed, meanwhile")
            _put(path, old)
            return Applied(done=True, detail=f"{path.name} is again what it was before the update", kept=kept)
    except (UnreadableError, OSError) as error:
        return Applied(done=False, detail=f"{path}: {error}")


def _left(path: Path, *, locked: bool = False) -> tuple[str, bytes]:
    """Return name and content of the kept file, when note, kept file and present file agree and nobody is at work."""
    note = _note(path)
    try:
        said = json_object(read_bytes(note, 1 << 16))
        kept = note.with_name(Path(str(said.get("kept"))).name)
        old = read_bytes(kept, MAX_BYTES)
        agree = digest(old) == said.get("old") and digest(read_bytes(path, MAX_BYTES)) == said.get("new")
        return (kept.name, old) if agree and (locked or not _held(note)) else ("", b"")
    except (UnreadableError, OSError):
        return "", b""


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.upkeep-pending")


def _held(note: Path) -> bool:
    with note.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@contextmanager
def _at_work(path: Path, *, again: bool = False) -> Iterator[Callable[[str], None]]:
    """Hold the note beside a file; it goes away at the end, unless this process does before.

    :param again: the note is the one of somebody who was cut off.
    :raises UnreadableError: another is at work, or was cut off and his note has not been dealt with.
    """
    note = _note(path)
    descriptor = os.open(note, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UnreadableError("another update of it is under way") from None
        if os.fstat(descriptor).st_nlink == 0 or not note.exists():
            raise UnreadableError("another update of it has just ended; try again")
        if _left(path, locked=True)[0] and not again:
            raise UnreadableError("an earlier update was cut off; its file has to be put back first")

        def write(text: str) -> None:
            file.seek(0)
            file.truncate()
            file.write(text)
            file.flush()
            os.fsync(descriptor)

        for half_written in path.parent.glob(f".{glob.escape(path.name)}.upkeep-*"):
            half_written.unlink()
        try:
            yield write
        finally:
            if not _left(path, locked=True)[0]:
                note.unlink()


def _keep(path: Path, old: bytes, now: datetime) -> Path:
    """Write the old content beside the file, under a dated name that is not taken."""
    stem = f"{path.name}.{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    for number in range(100):
        kept = path.with_name(f"{stem}.before" + (f"-{number}" if number else ""))
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                _fill(descriptor, old, path)
            except BaseException:
                kept.unlink()
                raise
            return kept
    raise UnreadableError(f"{stem}.before and a hundred more of that name exist")


def _put(path: Path, content: bytes) -> None:
    """Replace a file in one step; it keeps its mode and, where we may give it away, its owner."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.upkeep-", dir=path.parent)
    try:
        _fill(descriptor, content, path)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _fill(descriptor: int, content: bytes, like: Path) -> None:
    seen = like.stat()
    with os.fdopen(descriptor, "wb") as file:
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, seen.st_uid, seen.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(seen.st_mode))
        file.write(content)
        file.flush()
        os.fsync(descriptor)
