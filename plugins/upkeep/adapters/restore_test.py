"""Restore tests: a backup into a scratch server of its own, looked at from every side, and the server removed."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from upkeep.adapters import (
    backup_fetch,
    backup_staging,
    encrypted_store,
    object_store,
    pg_restore,
    pg_tools,
    restore_ask,
    restore_compare,
    restore_prepare,
    scratch_docker,
    scratch_place,
)
from upkeep.adapters.backup_making import read_manifest
from upkeep.adapters.docker_engine import LOCAL, Engine
from upkeep.adapters.object_store import Store
from upkeep.adapters.restore_prepare import DATABASE
from upkeep.adapters.scratch_cluster import Cluster, server_programs
from upkeep.core.backup import Leftover, Manifest, PhysicalManifest, Place
from upkeep.core.errors import ConfigurationError, DamagedError, TransientError
from upkeep.core.restore import Missing, Options, Tested
from upkeep.core.targets import StoreRef

Say = Callable[[str], None]
_SHOWN = 20
# Signs that the server or the disk failed and not the backup.
_PASSING = (
    "server closed the connection", "terminating connection", "in recovery mode", "is starting up", "shutting down",
    "No space left on device", "Disk quota exceeded", "File too large", "out of memory",
    "could not resize shared memory", "connection to server on socket",
)  # fmt: skip


class Restorer:
    """Carries out restore tests; see `core.restore.Restorer`.

    :param docker: connection id -> address of a Docker daemon.
    """

    def __init__(
        self, store: Callable[[StoreRef], Store], scratch: Path, docker: Callable[[str], str] = lambda _: LOCAL
    ) -> None:
        self._store, self._scratch, self._docker = object_store.once(store), scratch, docker

    def leftovers(self, target: str, options: Options | None = None) -> tuple[Leftover, ...]:
        """List the scratch servers of tests whose worker is gone; in containers as well when those are asked for."""
        with self._engine(options) as engine:
            found = {one.name: one for one in scratch_docker.abandoned(engine, target)} if engine else {}
        found |= {one.name: one for one in scratch_place.abandoned(self._scratch, target)}
        return tuple(found.values())

    def sweep(self, target: str, options: Options | None = None) -> tuple[Leftover, ...]:
        """End and remove them, and return them."""
        found = self.leftovers(target, options)
        with self._engine(options if found else None) as engine:
            for leftover in found:
                if engine:
                    scratch_docker.remove(engine, leftover)
                scratch_place.remove(self._scratch, leftover)
        return found

    @contextmanager
    def _engine(self, options: Options | None) -> Iterator[Engine | None]:
        """Give the Docker daemon; None when none is asked for, or it does not answer, which the test will tell."""
        engine = None
        if options is not None and options.method == "docker":
            with contextlib.suppress(ConfigurationError):
                engine = Engine(self._docker(options.docker_conn_id))
        try:
            yield engine
        finally:
            if engine:
                engine.close()

    def test(self, place: Place, backup_id: str, options: Options, say: Say) -> Tested:
        """Restore a backup into a server of its own, compare it with its manifest, and remove the server."""
        store = self._store(place.store)
        manifest = read_manifest(store, place, backup_id)
        if isinstance(manifest, Manifest):
            reading = encrypted_store.reading(store, manifest)
            return _DumpTest(reading, place, manifest, options, say).run(self._scratch, self._docker)
        if isinstance(manifest, PhysicalManifest):
            return _PhysicalTest(store, place, manifest, options, say).run(self._scratch, self._docker)
        raise ConfigurationError(
            f"{place.target}/{backup_id} is of kind {manifest.kind}, which has no server to start",
            "restore tests are for kinds dump and physical",
        )


class _Test[M: Manifest | PhysicalManifest](ABC):
    """One test: its phases, one after the other, and what they showed."""

    def __init__(self, store: Store, place: Place, manifest: M, options: Options, say: Say) -> None:
        self.store, self.place, self.options, self.say = store, place, options, say
        self.manifest: M = manifest
        self.started = datetime.now(UTC)
        self.phases: dict[str, float] = {}
        self.missing: list[Missing] = []
        self.seen: dict[str, Any] = {}
        self.checked: list[str] = []
        self.notes: list[str] = []

    def run(self, scratch: Path, docker: Callable[[str], str]) -> Tested:
        """Go through all phases as far as that makes sense; whatever happens, the server is removed."""
        with self.phase("preflight"):
            server = self.server(docker)
            self.need_room(scratch)
        if server is not None and not any(m.stops for m in self.missing):
            with contextlib.ExitStack() as stack:
                name = f"{self.manifest.kind}-{self.manifest.id}"
                folder = stack.enter_context(scratch_place.scratch_place(scratch, self.place.target, name))
                cluster = stack.enter_context(server(folder))
                try:
                    if self.fits(cluster):
                        self.go(cluster, folder)
                except DamagedError as error:
                    self.seen["failures"] = (*self.seen.get("failures", ()), error.message)
                begun = time.monotonic()
                stack.close()
                self.phases["remove"] = time.monotonic() - begun
        return self.tested()

    @abstractmethod
    def go(self, cluster: Cluster, folder: Path) -> None:
        """Carry out the phases of this kind."""

    @abstractmethod
    def room(self) -> int:
        """Return the bytes of the scratch folder that the test will take."""

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure a phase and tell it in the log; one name may come again, its times are summed."""
        self.say(f"{name} ...")
        begun = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - begun
            self.phases[name] = self.phases.get(name, 0.0) + seconds
            self.say(f"{name}: {seconds:.1f} s")

    def server(self, docker: Callable[[str], str]) -> Callable[[Path], Cluster] | None:
        """Find a server of the source's major; return what makes one in a folder."""
        version = self.manifest.source.version_num
        try:
            if self.options.method == "docker":
                return scratch_docker.maker(docker(self.options.docker_conn_id), version, self.options)
            programs = server_programs(version, self.options.programs)
        except ConfigurationError as error:
            self.lack("server", self.server_name, error.message, error.hint, stops=True)
            return None
        return lambda folder: Cluster(programs, folder)

    @property
    def server_name(self) -> str:
        """What a finding calls the server to restore into."""
        source = self.manifest.source
        if self.options.method == "docker":
            return f"docker {scratch_docker.image_name(self.options.image, source.version_num)}"
        return source.version

    def fits(self, cluster: Cluster) -> bool:
        """See that the server's programs run here."""
        with self.phase("preflight"):
            try:
                cluster.check()
            except ConfigurationError as error:
                self.lack("server", self.server_name, error.message, error.hint, stops=True)
                return False
        return True

    def need_room(self, scratch: Path) -> None:
        """See that the test leaves others their share of the scratch folder."""
        free, wanted = backup_staging.free_bytes(scratch), self.room()
        if wanted > free * self.options.max_share:
            share = f"of which {self.options.max_share:.0%} may be taken"
            text = f"{wanted / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free, {share}"
            self.lack("space", str(scratch), text, "free space, or set UPKEEP_SCRATCH_DIR to a larger disk", stops=True)

    def lack(self, what: str, name: str, message: str, hint: str, *, stops: bool = False) -> None:
        """Note what the worker lacks."""
        said = {"what": what, "name": name, "message": message, "hint": hint, "stops": stops}
        self.missing.append(Missing.model_validate(said))

    @contextmanager
    def checking_pages(self, cluster: Cluster, database: str | None) -> Iterator[None]:
        """Run pg_amcheck beside the block; its phase is what it takes longer than that.

        Side by side, each fills the cores that the other's largest table leaves idle.
        """
        if not self.options.amcheck:
            yield
            return
        with ThreadPoolExecutor(1, thread_name_prefix="amcheck") as pool:
            checking = pool.submit(restore_ask.amcheck, cluster, database, self.options.jobs)
            yield
            with self.phase("amcheck"):
                found, lacking = checking.result()
            self.seen["corruption"] = tuple(found)
            self.missing += [lacking] if lacking else []
            self.checked += [] if lacking else ["amcheck"]

    def ask(self, cluster: Cluster, database: str) -> None:
        """Ask the system's questions and the canary."""
        source = self.manifest.source
        with self.phase("smoke"):
            self.seen["smoke"] = restore_ask.smoke(cluster, database, self.options.smoke, self.options.smoke_timeout)
            self.seen["canary"] = restore_ask.canary(cluster, database, source.snapshot_time)

    def tested(self) -> Tested:
        """Return everything."""
        source = self.manifest.source
        return Tested(
            id=self.manifest.id,
            kind=self.manifest.kind,
            method=self.options.method,
            started=self.started,
            snapshot_time=source.snapshot_time,
            phases={name: round(seconds, 3) for name, seconds in self.phases.items()},
            missing=tuple(self.missing),
            checked=tuple(self.checked),
            notes=tuple(self.notes),
            archive_bytes=self.manifest.size_bytes,
            source_bytes=source.size_bytes,
            **self.seen,
        )


class _DumpTest(_Test[Manifest]):
    def room(self) -> int:
        return int(self.manifest.size_bytes + self.manifest.source.size_bytes * self.options.size_factor) + (64 << 20)

    def go(self, cluster: Cluster, folder: Path) -> None:
        tools = pg_tools.find(_major(self.manifest.tools["pg_dump"]) * 10_000, self.options.programs)
        with self.starting(cluster):
            archive = self.fetch(folder)
            with self.phase("preflight"):
                wanted = restore_prepare.read(tools, archive)
        with self.phase("preflight"):
            prepared = restore_prepare.prepare(cluster, wanted, archive, self.manifest)
            self.missing += prepared.missing
            self.notes += prepared.notes
        if any(m.stops for m in prepared.missing):
            return
        self.restore(cluster, tools, archive, "without")
        with self.checking_pages(cluster, DATABASE), self.phase("compare"):
            found, rows = restore_compare.compare(cluster.conninfo(DATABASE), self.manifest, self.options.jobs)
        self.seen |= {"differences": tuple(found), "rows": rows, "tables": len(self.manifest.tables)}
        self.checked.append("fingerprints")
        self.restore(cluster, tools, archive, "only")
        # Only now: the source's limits are for its application, whose questions come next.
        self.notes += restore_prepare.apply_settings(cluster, prepared.settings)
        self.ask(cluster, DATABASE)

    @contextmanager
    def starting(self, cluster: Cluster) -> Iterator[None]:
        """Make and start an empty server beside the block; its phase is what it takes longer than that."""

        def start() -> None:
            cluster.create()
            cluster.start(self.options.start_timeout)
            cluster.check_own(self.manifest.source.system_identifier)

        with ThreadPoolExecutor(1, thread_name_prefix="start") as pool:
            started = pool.submit(start)
            yield
            with self.phase("start"):
                started.result()
            self.seen["server_version"] = cluster.version

    def fetch(self, folder: Path) -> Path:
        """Download the archive, comparing every byte with the manifest."""
        archive = folder / "archive"
        archive.mkdir(mode=0o700)
        with self.phase("fetch"):
            prefix = f"{self.place.series}/{self.manifest.id}"
            backup_fetch.fetch(self.store, prefix, self.manifest, archive, jobs=self.options.fetch_jobs)
        return archive

    def restore(
        self, cluster: Cluster, tools: pg_tools.Programs, archive: Path, events: pg_restore.EventTriggers
    ) -> None:
        """Run pg_restore and sort what it complains of."""

        def watch() -> None:
            if not cluster.running:
                raise _gone(cluster)

        with self.phase("restore"):
            said = pg_restore.restore(
                tools, cluster.conninfo(DATABASE), archive, jobs=self.options.jobs, events=events, on_tick=watch
            )
        passing = [c.message for c in said if any(words in c.message for words in _PASSING)]
        if passing or not cluster.running:
            raise _gone(cluster, *passing[:2])
        names = {table.oid: ".".join(table.name) for table in self.manifest.tables}
        self.notes += [f"{c.entry}: {c.message} ({c.why})" for c in said if c.why][:_SHOWN]
        failures = (f"{names.get(c.oid or 0) or c.entry or 'pg_restore'}: {c.message}" for c in said if not c.why)
        self.seen["failures"] = (*self.seen.get("failures", ()), *failures)[:_SHOWN]


class _PhysicalTest(_Test[PhysicalManifest]):
    def room(self) -> int:
        from upkeep.adapters import physical_restore

        chain = physical_restore.chain(self.store, self.place.series, self.manifest.id)
        return physical_restore.room(chain) + (1 << 30)

    def go(self, cluster: Cluster, folder: Path) -> None:
        from upkeep.adapters import physical_restore

        with self.phase("fetch"):
            physical_restore.fetch_and_unpack(
                self.store, self.place, self.manifest.id, folder, programs=self.options.programs, say=lambda _: None
            )
        with self.phase("restore"):
            cluster.adopt()
            cluster.start(self.options.start_timeout)
            cluster.check_own()
            self.seen["server_version"] = cluster.version
        database = self.manifest.source.database
        with self.checking_pages(cluster, None):
            pass
        self.ask(cluster, database)
        if self.manifest.checksums:
            with self.phase("checksums"):
                cluster.stop(clean=True)
                wrong = cluster.check_checksums()
            self.seen["corruption"] = (*self.seen.get("corruption", ()), *wrong[:_SHOWN])
            self.checked.append("checksums")


def _gone(cluster: Cluster, *said: str) -> TransientError:
    text = " | ".join(said) or "it does not run any more"
    return TransientError(
        f"the scratch server gave up in the middle: {text}; its log ends with: {cluster.log_tail()}",
        "look at memory and disk of the worker (was it the OOM killer?); it is tried again",
    )


def _major(version: str) -> int:
    return int("".join(c if c.isdigit() else " " for c in version).split()[0])
