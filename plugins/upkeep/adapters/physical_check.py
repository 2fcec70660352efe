"""Reading a physical backup again: every byte against the manifest, then unpacked and looked at by pg_verifybackup."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from pathlib import Path

from upkeep.adapters import backup_staging, physical_pg
from upkeep.adapters.backup_check import Checking
from upkeep.adapters.object_store import BLOCK
from upkeep.adapters.physical_restore import chain, codec_of, pieces, room, unpack
from upkeep.adapters.physical_unpack import extract
from upkeep.adapters.process import run
from upkeep.core.backup import MANIFEST, PhysicalManifest
from upkeep.core.errors import DamagedError
from upkeep.core.physical import SERVER_MANIFEST

_SAID = re.compile(r"^(?:pg_verifybackup|pg_waldump): (?:error|fatal|warning): (.*)$")
_SEGMENT = 16 << 20  # unless initdb was told otherwise
_NAMED = re.compile(r'"(?:\./)?([^"]+)"')


class PhysicalChecking(Checking[PhysicalManifest]):
    """A check of a physical backup, with everything that it is built upon."""

    def decode(self, programs: str) -> bool:
        """Unpack the backup and its parents, and let pg_verifybackup look at each: files, checksums, WAL.

        Each part is removed before the next is unpacked.
        """
        series = self.prefix.rsplit("/", 1)[0]
        try:
            parents = chain(self.store, series, self.manifest.id)[1:]
        except DamagedError as error:
            self.fault("manifest", MANIFEST, error.message)
            parents = ()
        backup_staging.need(self.folder, room([self.manifest]), "the unpacked backup")
        self._examine(self.manifest, None, programs)
        for number, parent in enumerate(parents, 1):
            self._examine(parent, f"{series}/{parent.id}", programs)
            self.say("decode", number, len(parents), self.bytes, self.manifest.size_bytes)
        return True

    def _examine(self, manifest: PhysicalManifest, prefix: str | None, programs: str) -> None:
        """Unpack one backup (from the files at hand, or from the store at `prefix`) and verify it."""
        import shutil

        into = self.folder / "unpacked"
        where = "" if prefix is None else f"the backup that it is built upon, {manifest.id}: "
        try:
            if prefix is None:
                extract(lambda: self._at_hand(manifest), codec_of(manifest), into, self.prefix)
                self._compare_server_manifest(into)
            else:
                unpack(self.store, prefix, manifest, into, lambda _: None)
            for subject, message in verify(manifest, into, programs):
                self.fault("decode", subject, where + message)
        except DamagedError as error:
            self.fault("decode", self._named(manifest, error.message), where + error.message)
        except OSError as error:  # such as names that no archive of ours holds
            self.fault("decode", "base.tar", f"{where}{error}")
        finally:
            shutil.rmtree(into, ignore_errors=True)

    def _named(self, manifest: PhysicalManifest, message: str) -> str:
        return next((f.name for f in manifest.files if f.name in message), "base.tar")

    def _at_hand(self, manifest: PhysicalManifest) -> Generator[bytes]:
        for entry in pieces(manifest):
            path = self.folder / entry.name
            if not path.exists() or path.stat().st_size == 0:
                raise DamagedError(f"{entry.name} is missing", "")
            with path.open("rb") as file:
                while block := file.read(BLOCK):
                    yield block
            path.unlink()

    def _compare_server_manifest(self, unpacked: Path) -> None:
        inside, beside = unpacked / SERVER_MANIFEST, self.folder / SERVER_MANIFEST
        if not inside.exists() or not beside.exists() or inside.read_bytes() != beside.read_bytes():
            self.fault("decode", SERVER_MANIFEST, "it differs from the one in the archive")


def verify(manifest: PhysicalManifest, unpacked: Path, programs: str) -> Iterator[tuple[str, str]]:
    """Let pg_verifybackup compare an unpacked backup with the server's manifest; yield (file, what is wrong).

    :raises ConfigurationError: the program of the right major is not there.
    """
    tools = physical_pg.find(manifest.source.version_num, programs, "pg_verifybackup", "pg_waldump", exact=True)
    for name in missing_wal(manifest, unpacked / "pg_wal"):
        yield f"pg_wal/{name}", "this WAL segment, which the backup needs, is missing"
    done, _ = run([tools.path("pg_verifybackup"), "--quiet", unpacked])
    said = [match[1] for line in done.errors if (match := _SAID.match(line))]
    for text in said:
        found = _NAMED.search(text)
        yield (found[1] if found else SERVER_MANIFEST), f"pg_verifybackup: {text}"
    if done.code and not said:
        yield SERVER_MANIFEST, f"pg_verifybackup ended with code {done.code}: {' | '.join(done.errors[-3:])}"


def missing_wal(manifest: PhysicalManifest, folder: Path) -> list[str]:
    """Return the WAL segments from the backup's begin to its end that are not there.

    Names are as in src/include/access/xlog_internal.h: timeline, and the number of the segment in two parts.
    """
    there = {path.name: path.stat().st_size for path in folder.glob("?" * 24)}
    size = max(there.values(), default=_SEGMENT) or _SEGMENT
    first, last = (_position(lsn) // size for lsn in (manifest.start_lsn, manifest.end_lsn))
    names = (
        f"{manifest.timeline:08X}{n // (2**32 // size):08X}{n % (2**32 // size):08X}" for n in range(first, last + 1)
    )
    return [name for name in names if name not in there]


def _position(lsn: str) -> int:
    high, _, low = lsn.partition("/")
    return (int(high, 16) << 32) + int(low, 16)
