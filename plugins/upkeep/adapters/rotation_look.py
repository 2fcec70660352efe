"""One look at the folder of a policy: its logs, what they were rotated to, who has them open, what is refused."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from upkeep.adapters import rotation_procs, rotation_when
from upkeep.adapters.rotation_folder import Folder, OutsideError, fits
from upkeep.core.logs import Rotation
from upkeep.core.model import Severity
from upkeep.core.rotation import LiveLog, LogFolder, Refusal, RotatedFile, quoted, unquoted

_OURS = re.compile(r"(?P<base>.+)-(?P<date>\d{8})-(?P<epoch>\d{9,11})(?P<packed>\.gz)?", re.DOTALL)
_DATED = re.compile(
    r"(?P<base>.+)[-.](?:\d{8}|\d{4}-\d\d-\d\d)(?:[-_T.]?[\d:-]{2,8})?(?P<packed>\.(?:gz|xz|bz2|zst))?", re.DOTALL
)
_NUMBERED = re.compile(r"(?P<base>.+)\.\d{1,4}(?P<packed>\.(?:gz|xz|bz2|zst))?", re.DOTALL)
# What a run leaves in the folder while it is at work: hidden, so that no glob of a log shipper takes it for a log.
MARK = ".upkeep-rotating"
COPY = ".upkeep-copy"
COPIED = ".upkeep-copied"
PACKING = ".upkeep-packing"


@dataclass
class _Group:
    """The files of one folder that belong to one log."""

    live: os.stat_result | None = None
    rotated: dict[str, tuple[re.Match[str], os.stat_result]] = field(default_factory=dict)
    unfinished: bool = False


def look(folder: Folder, rotation: Rotation, zone: str, now: datetime) -> LogFolder:
    """Look at every log of a policy.

    :raises OSError: the folder itself cannot be read.
    """
    view = _View(folder, zone, now)
    view.take(rotation.live)
    opened = rotation_procs.scan(view.rotated_inodes, folder.path)
    return LogFolder(
        path=folder.path,
        logs=tuple(view.logs(opened)),
        missing=tuple(quoted(name) for name in view.missing),
        refusals=tuple(view.refusals.values()),
        deleted=tuple(file for file in opened.below(folder.path) if view.means(file.name)),
        unseen=len(opened.unseen),
    )


class _View:
    """The logs that were found so far."""

    def __init__(self, folder: Folder, zone: str, now: datetime) -> None:
        self.folder, self.zone, self.now = folder, zone, now
        self.groups: dict[str, _Group] = {}
        self.refusals: dict[tuple[str, str], Refusal] = {}
        self.missing: list[str] = []
        self.matches = 0
        self.leaves: set[str] = set()

    @property
    def rotated_inodes(self) -> set[tuple[int, int]]:
        """The rotated files: of those it matters who has them open."""
        return {(seen.st_dev, seen.st_ino) for group in self.groups.values() for _, seen in group.rotated.values()}

    def take(self, globs: Iterable[str]) -> None:
        """Find the files of some globs."""
        for text in globs:
            try:
                parts = self.folder.relative(text)
            except OutsideError:
                self._refuse(text, "outside", Severity.CRITICAL, "does not lie below the folder of the policy",
                             "correct `live` or `folder` of the policy in the system file")  # fmt: skip
                continue
            self.leaves.add(parts[-1])
            links: list[str] = []
            before = self.matches
            for prefix in self.folder.folders(parts[:-1], links):
                self._list(prefix, parts[-1])
            for link in links:
                self._refuse_link(link)
            for prefix, error in self.folder.blocked:
                self._refuse_folder(prefix, error)
            if self.matches == before and not links and not self.refusals:
                self.missing.append("/".join(parts))

    def means(self, shown: str) -> bool:
        """Tell whether the policy means a file of this name: programs may have other deleted files open, on purpose."""
        leaf = unquoted(shown).rpartition("/")[2]
        found = ours(leaf) or _DATED.fullmatch(leaf) or _NUMBERED.fullmatch(leaf)
        return any(fits(name, glob) for name in (leaf, found["base"] if found else leaf) for glob in self.leaves)

    def _list(self, prefix: str, leaf: str) -> None:
        """Sort the files of one folder by the logs that a glob means."""
        try:
            entries = self.folder.entries(prefix)
        except OSError as error:
            self._refuse_folder(prefix, error)
            return
        names = {entry.name for entry in entries}
        for entry in entries:
            self._sort(prefix, entry, leaf, names)

    def _sort(self, prefix: str, entry: os.DirEntry[str], leaf: str, names: set[str]) -> None:
        name = entry.name
        if entry.is_dir(follow_symlinks=False):
            return
        if found := rotated_form(name, names):
            if fits(found["base"], leaf):
                self.matches += 1
                self._add_rotated(prefix, entry, found)
        elif base := leftover_of(name):
            if fits(base, leaf):
                self.matches += 1
                self._group(prefix + base).unfinished = True
        elif fits(name, leaf):
            self.matches += 1
            self._add_live(prefix + name, entry.is_symlink())

    def _group(self, name: str) -> _Group:
        return self.groups.setdefault(name, _Group())

    def _add_rotated(self, prefix: str, entry: os.DirEntry[str], found: re.Match[str]) -> None:
        seen = self._stat(prefix + entry.name)
        group = self._group(prefix + found["base"])
        if seen and stat.S_ISREG(seen.st_mode):
            group.rotated[prefix + entry.name] = (found, seen)

    def _add_live(self, name: str, link: bool) -> None:
        if link:
            self._refuse_link(name)
            return
        seen = self._stat(name)
        if seen is None:
            return
        if (reason := unfit(seen)) and not self._is_marked(name, seen):
            self._refuse(name, "file", Severity.WARNING, reason, "rotate it by hand, or leave it out of `live`")
        elif self._writable_by_all(name):
            self._refuse(name, "parent", Severity.WARNING, "lies in a folder that everybody may write to: anybody could"
                         " put another file in its place while it is rotated", "chmod o-w the folder")  # fmt: skip
        else:
            self._group(name).live = seen

    def _is_marked(self, name: str, seen: os.stat_result) -> bool:
        """Tell whether a log's second name is that under which a run prepared it, before it was cut off."""
        mark = self._stat(mark_of(name))
        return mark is not None and (mark.st_dev, mark.st_ino) == (seen.st_dev, seen.st_ino) and seen.st_nlink == 2

    def _stat(self, name: str) -> os.stat_result | None:
        try:
            seen = self.folder.stat(name)
        except FileNotFoundError:
            return None  # it went between two looks
        except OSError as error:
            self._refuse(name, "folder", Severity.UNKNOWN, f"cannot be looked at: {error.strerror}",
                         "let the user that runs maintenance enter the folder")  # fmt: skip
            return None
        return seen

    def _writable_by_all(self, name: str) -> bool:
        above = [name.rsplit("/", n)[0] for n in range(1, name.count("/") + 1)]
        modes = [self.folder.stat(part).st_mode for part in above] + [os.fstat(self.folder.fd).st_mode]
        return any(mode & stat.S_IWOTH for mode in modes)

    def _refuse_folder(self, prefix: str, error: OSError) -> None:
        self._refuse(prefix or ".", "folder", Severity.UNKNOWN, f"cannot be listed: {error.strerror}",
                     "let the user that runs maintenance read the folder")  # fmt: skip

    def _refuse_link(self, name: str) -> None:
        leads = os.path.realpath(self.folder.absolute(name))
        inside = leads.startswith(self.folder.path.rstrip("/") + "/")
        self._refuse(
            name,
            "symlink",
            Severity.INFO if inside else Severity.WARNING,
            f"is a symbolic link to {quoted(leads)}" + ("" if inside else ", out of the folder of the policy"),
            "a log behind a link is not rotated: name the file itself in `live`, with the `folder` that it lies in",
        )

    def _refuse(self, name: str, check: str, severity: Severity, reason: str, hint: str) -> None:
        shown = quoted(name)
        found = Refusal(name=shown, check=check, severity=severity, reason=reason, hint=hint)
        self.refusals.setdefault((shown, check), found)

    def logs(self, opened: rotation_procs.OpenFiles) -> Iterator[LiveLog]:
        """Yield what was found, by name."""
        for name, group in sorted(self.groups.items()):
            rotated = sorted(self._rotated(group, opened), key=lambda f: (f.modified, f.name), reverse=True)
            live, since = group.live, None
            if live is not None:
                since = self._since(name, max((f.rotated for f in rotated if f.rotated), default=None))
            yield LiveLog(
                name=quoted(name),
                there=live is not None,
                device=live.st_dev if live else 0,
                inode=live.st_ino if live else 0,
                size=live.st_size if live else 0,
                since=since,
                modified=moment(live.st_mtime) if live else None,
                rotated=tuple(rotated),
                unfinished=group.unfinished,
            )

    def _since(self, name: str, newest: datetime | None) -> datetime | None:
        try:
            handle = self.folder.open(name)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                self._refuse(name, "unreadable", Severity.UNKNOWN, f"cannot be read: {error.strerror}",
                             "let the user that runs maintenance read it: its age is unknown")  # fmt: skip
            return None
        try:
            return rotation_when.began(handle, self.zone, self.now, newest)
        finally:
            os.close(handle)

    def _rotated(self, group: _Group, opened: rotation_procs.OpenFiles) -> Iterator[RotatedFile]:
        for name, (found, seen) in group.rotated.items():
            epoch = found.groupdict().get("epoch")
            yield RotatedFile(
                name=quoted(name),
                device=seen.st_dev,
                inode=seen.st_ino,
                size=seen.st_size,
                modified=moment(seen.st_mtime),
                rotated=moment(int(epoch)) if epoch else None,
                compressed=found["packed"] is not None,
                numbered=found.re is _NUMBERED,
                twin=f"{name}.gz" in group.rotated,
                holders=opened.holders(seen.st_dev, seen.st_ino),
            )


def ours(name: str) -> re.Match[str] | None:
    """Return the match of a name that rotation here gives: the date is that of the second, in whatever zone."""
    found = _OURS.fullmatch(name)
    if found is None:
        return None
    try:
        date = found["date"]
        day = datetime(int(date[:4]), int(date[4:6]), int(date[6:]), tzinfo=UTC)
        return found if abs(moment(int(found["epoch"]) - 43_200) - day) <= timedelta(days=1) else None
    except ValueError:
        return None


def rotated_form(name: str, names: Iterable[str]) -> re.Match[str] | None:
    """Return the match of a name that a log was rotated to, with its `base`; None for a name that is none.

    Names of other programs' making count only beside the log itself: `worker.2` may be a log of its own.
    """
    if found := ours(name):
        return found
    for pattern in (_DATED, _NUMBERED):
        if (found := pattern.fullmatch(name)) and found["base"] in names:
            return found
    return None


def leftover_of(name: str) -> str | None:
    """Return the log that a leftover belongs to (`.app.log.upkeep-rotating`, `.app.log-<time>.upkeep-packing`)."""
    for ending in (MARK, COPY, COPIED, PACKING):
        if name.startswith(".") and name.endswith(ending):
            base = name[1 : -len(ending)]
            found = ours(base) or _DATED.fullmatch(base)
            return found["base"] if found else base
    return None


def mark_of(name: str) -> str:
    """Return the name under which the new file of a log is prepared, which also tells that a rotation is under way."""
    above, slash, leaf = name.rpartition("/")
    return f"{above}{slash}.{leaf}{MARK}"


def unfit(seen: os.stat_result) -> str:
    """Say why a file is not to be rotated whatever its name; empty when it may."""
    if not stat.S_ISREG(seen.st_mode):
        return "is no regular file"
    # A second name outside of the folder would keep or get what is rotated, deleted or chowned here.
    return f"has {seen.st_nlink} names (hard links)" if seen.st_nlink > 1 else ""


def moment(seconds: float) -> datetime:
    """Return seconds since 1970 as a time."""
    return datetime.fromtimestamp(seconds, UTC)
