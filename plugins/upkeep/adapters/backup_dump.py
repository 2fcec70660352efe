"""One dump: pg_dump into a staging folder, every file on its way to the store as soon as it is finished."""

from __future__ import annotations

import queue
import re
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from upkeep.adapters import pg_tools
from upkeep.adapters.backup_snapshot import Snapshot
from upkeep.adapters.object_store import Store
from upkeep.adapters.pg_tools import Access, Programs
from upkeep.adapters.process import Done, Program
from upkeep.core.backup import TOC, FileEntry, Options, Progress, Say
from upkeep.core.errors import TransientError

# pg_dump --verbose, parallel: https://github.com/postgres/postgres/blob/REL_18_STABLE/src/bin/pg_dump/pg_backup_archiver.c
_FINISHED = re.compile(r"pg_dump: finished item (\d+) TABLE DATA ")
_TICK_SECONDS = 0.1


class Sender:
    """Sends finished files to the store, in a few threads, and removes them from staging."""

    def __init__(self, store: Store, prefix: str, jobs: int) -> None:
        self._store, self._prefix = store, prefix
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="upload")
        self._sent: dict[str, Future[FileEntry]] = {}

    def send(self, path: Path, *, keep: bool = False) -> None:
        """Begin to send a file; one that was sent is not sent again."""
        if path.name not in self._sent:
            self._sent[path.name] = self._pool.submit(self._write, path, keep)

    def check(self) -> None:
        """Raise the error of a file that could not be sent."""
        for future in self._sent.values():
            if future.done() and not future.cancelled() and (error := future.exception()):
                raise error

    @property
    def stored_bytes(self) -> int:
        """Bytes that are in the store by now."""
        done = (f for f in self._sent.values() if f.done() and not f.cancelled() and f.exception() is None)
        return sum(future.result().size for future in done)

    @property
    def waiting(self) -> bool:
        """Whether files are still on their way."""
        return any(not future.done() for future in self._sent.values())

    def files(self) -> tuple[FileEntry, ...]:
        """Wait for everything that was sent and return it by name."""
        return tuple(sorted((f.result() for f in self._sent.values()), key=lambda entry: entry.name))

    def close(self) -> None:
        """Send nothing more; wait for what is being sent at this moment."""
        self._pool.shutdown(cancel_futures=True)

    def _write(self, path: Path, keep: bool) -> FileEntry:
        written = self._store.write(f"{self._prefix}/{path.name}", path)
        if not keep:
            path.unlink()
        return FileEntry(name=path.name, size=written.size, sha256=written.sha256)


class Dump:
    """Runs pg_dump on a snapshot, proves the snapshot's tables beside it and feeds the sender."""

    def __init__(self, snapshot: Snapshot, sender: Sender, folder: Path, say: Say) -> None:
        self._snapshot, self._sender, self._folder = snapshot, sender, folder
        self._say = say
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._begun = time.monotonic()
        self._finished = 0
        # A line that pg_dump writes could be forged by a name that holds a line break: then nothing is sent early.
        self._early = not any("\n" in part for table in snapshot.tables for part in table.name)
        self.seconds: dict[str, float] = {}

    def run(self, programs: Programs, reach: Access, options: Options, compress: str) -> None:
        """Dump, prove and send; return when all three are done.

        :raises TransientError, ConfigurationError: one of them failed; the others are ended.
        """
        command = pg_tools.dump_command(
            programs,
            reach,
            self._folder,
            snapshot=self._snapshot.id,
            jobs=options.jobs,
            compress=compress,
            lock_timeout=options.lock_timeout,
        )
        with (
            ThreadPoolExecutor(max(1, options.fingerprint_jobs), thread_name_prefix="fingerprint") as pool,
            self._snapshot,
            Program(command, env=reach.env, on_line=self._lines.put) as program,
        ):
            self._snapshot.prove(pool)
            while program.running:
                self._turn()
            done = Done(program)
            self.seconds["dump"] = time.monotonic() - self._begun
            if done.code:
                raise pg_tools.failure("pg_dump", self._snapshot.place, done)
            self._rest()

    def _rest(self) -> None:
        """Send what is left, the table of contents last, and wait for the fingerprints."""
        for path in sorted(self._folder.iterdir()):
            if path.name != TOC:
                self._sender.send(path)
        while self._sender.waiting or any(not f.done() for f in self._snapshot.futures):
            self._turn()
        self._check()
        self._sender.send(self._folder / TOC, keep=True)
        self.seconds["proof"] = time.monotonic() - self._begun

    def _turn(self) -> None:
        """Take what pg_dump said, look after everybody, tell how far it is."""
        try:
            line = self._lines.get(timeout=_TICK_SECONDS)
            while True:
                self._hear(line)
                line = self._lines.get_nowait()
        except queue.Empty:
            pass
        self._check()
        self._say(self._progress())

    def _hear(self, line: str) -> None:
        if match := _FINISHED.match(line):
            self._finished += 1
            if self._early:
                for path in self._folder.glob(f"{match[1]}.dat*"):
                    self._sender.send(path)

    def _check(self) -> None:
        self._sender.check()
        for future in self._snapshot.futures:
            if future.done() and (error := future.exception()):
                raise error

    def _progress(self) -> Progress:
        proofs = self._snapshot.proofs
        largest_first = [t.bytes for t in self._snapshot.tables][: self._finished]
        return Progress(
            phase="dump" if self._finished < len(self._snapshot.tables) else "upload",
            done=self._finished,
            total=len(self._snapshot.tables),
            proved=len(proofs),
            bytes_done=sum(largest_first),
            bytes_total=sum(t.bytes for t in self._snapshot.tables),
            stored_bytes=self._sender.stored_bytes,
            seconds=time.monotonic() - self._begun,
        )


def expect_same(snapshot: Snapshot, data: set[int]) -> None:
    """Check that exactly the tables whose data is in the archive have been proved.

    :param data: OIDs of the tables whose rows the archive holds.
    :raises TransientError: a table was made or dropped between our look and pg_dump's.
    """
    proved = {proof.oid: ".".join(proof.name) for proof in snapshot.proofs}
    if set(proved) != data:
        only = sorted(name for oid, name in proved.items() if oid not in data)[:5]
        raise TransientError(
            f"{snapshot.place}: the archive holds {len(data)} tables, the fingerprints {len(proved)};"
            f" not in the archive: {', '.join(only) or 'none'}; not proved: {len(data - set(proved))}",
            "tables were made or dropped meanwhile; it is tried again",
        )
