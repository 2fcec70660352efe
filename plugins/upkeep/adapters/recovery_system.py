"""A whole system from its backups alone, in a scratch place: databases, files, caches, and its services on top.

Everything lies in folders of `scratch_place`: a killed worker's are found by the next test, with what runs on them.
Other programs (Redis, the services) are run so that they end with this process, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from upkeep.adapters import (
    backup_fetch,
    copy_restore,
    encrypted_store,
    pg_restore,
    pg_tools,
    redis_scratch,
    restore_ask,
    restore_compare,
    restore_prepare,
    scratch_place,
    tree_backup,
)
from upkeep.adapters.archive import Archive
from upkeep.adapters.object_store import Store
from upkeep.adapters.process import Program, environment
from upkeep.adapters.recovery_steps import Timeline
from upkeep.adapters.restore_prepare import DATABASE
from upkeep.adapters.scratch_cluster import Cluster, server_programs
from upkeep.core import text
from upkeep.core.backup import AnyManifest, CopyManifest, Manifest, TreeManifest
from upkeep.core.errors import ConfigurationError, DamagedError, TransientError, UpkeepError
from upkeep.core.recovery import Answered, Asking, Part, PartBack, Rebuild, Rebuilt, Tell
from upkeep.core.targets import StoreRef

_PLACEHOLDER = re.compile(r"\{(folder|port|dsn|python)\}")
_PAUSE = 0.2
_SHOWN = 5


class Back(NamedTuple):
    """One part that is back: which backup, and what shows that it is whole."""

    manifest: AnyManifest
    proof: str


class SystemRebuild:
    """One rebuild of one system; see `core.recovery.Recoverer.rebuild`."""

    def __init__(
        self, archive: Archive, store: Callable[[StoreRef], Store], scratch: Path, order: Rebuild, tell: Tell
    ) -> None:
        self._archive, self._store, self._scratch, self._order = archive, store, scratch, order
        self._line = Timeline(tell)
        self._values = {"python": sys.executable}
        self._manifests: dict[str, AnyManifest] = {}

    def run(self, ask: Asking) -> Rebuilt:
        """Bring everything back, ask, and remove it all again.

        :raises TransientError: a store is away, or a scratch server went away in the middle.
        """
        began = time.monotonic()
        with ExitStack() as stack:
            place = stack.enter_context(scratch_place.scratch_place(self._scratch, self._order.target, "system"))
            folder = place / "system"
            folder.mkdir(mode=0o700)
            self._values["folder"] = str(folder)
            parts = [self._part(part, folder, stack) for part in self._order.parts]
            answers, trouble = self._serve(folder, parts, ask, stack)
            seconds = time.monotonic() - began
        with self._line.step("everything is removed again"):
            pass
        services = "none" if not self._order.services else "answered" if answers else "not started"
        return Rebuilt.model_validate(
            {
                "parts": parts, "answers": answers, "services": services, "trouble": trouble,
                "steps": self._line.steps, "seconds": round(seconds, 3),
            }
        )  # fmt: skip

    @property
    def manifests(self) -> dict[str, AnyManifest]:
        """The manifests of the parts that could be read, by name."""
        return self._manifests

    def _part(self, part: Part, folder: Path, stack: ExitStack) -> PartBack:
        clock = time.monotonic()
        found: dict[str, object] = {"name": part.name, "kind": part.place.kind}
        try:
            with self._line.step(f"{part.name}: bring back") as note:
                back = self._bring_back(part, folder, stack)
                note.detail = back.proof
            found |= {"proof": back.proof}
        except TransientError:
            raise
        except UpkeepError as error:
            missing = isinstance(error, ConfigurationError)
            found |= {"trouble": error.message, "hint": error.hint, "unknown": missing}
        if manifest := self._manifests.get(part.name):
            taken = manifest.source.snapshot_time if isinstance(manifest, Manifest) else manifest.started
            found |= {"backup": manifest.id, "taken": taken}
        return PartBack.model_validate({**found, "seconds": round(time.monotonic() - clock, 3)})

    def _bring_back(self, part: Part, folder: Path, stack: ExitStack) -> Back:
        store = self._store(part.place.store)
        newest = next((s.id for s in self._archive.stored(part.place) if s.complete), None)
        if newest is None:
            raise DamagedError(
                f"{store.location} holds no backup of {part.place.series}", "run its backup now; why has it not run?"
            )
        manifest = self._manifests[part.name] = self._archive.manifest(part.place, newest)
        into = folder / part.name
        into.mkdir(mode=0o700)
        if isinstance(manifest, Manifest):
            return self._database(part, manifest, encrypted_store.reading(store, manifest), into, stack)
        if isinstance(manifest, TreeManifest):
            return self._tree(part, manifest, into)
        if isinstance(manifest, CopyManifest):
            return self._copy(part, manifest, store, into, stack)
        raise ConfigurationError(f"a backup of kind {manifest.kind} is not brought back here", "name other parts")

    def _database(self, part: Part, manifest: Manifest, store: Store, into: Path, stack: ExitStack) -> Back:
        """Restore a dump into a server of its own, which goes on running for the services."""
        programs = server_programs(manifest.source.version_num, self._order.programs)
        wrote = int(manifest.tools["pg_dump"].split(".")[0]) * 10_000
        tools = pg_tools.find(wrote, self._order.programs)
        backup_fetch.fetch(store, f"{part.place.series}/{manifest.id}", manifest, into)
        place = stack.enter_context(scratch_place.scratch_place(self._scratch, self._order.target, part.name))
        cluster = stack.enter_context(Cluster(programs, place))
        cluster.create()
        cluster.start()
        cluster.check_own(manifest.source.system_identifier)
        ready = restore_prepare.prepare(cluster, restore_prepare.read(tools, into), into, manifest)
        if stops := [m for m in ready.missing if m.stops]:
            raise ConfigurationError("; ".join(m.message for m in stops), "; ".join(m.hint for m in stops))
        self._fill(tools, cluster, into, "without")
        restore_prepare.apply_settings(cluster, ready.settings)
        differing, rows = restore_compare.compare(cluster.conninfo(DATABASE), manifest, self._order.jobs)
        if differing:
            raise DamagedError(
                "; ".join(d.told() for d in differing[:_SHOWN]), "run backup.restore_test for the target"
            )
        # They write rows and refuse statements from now on, as they do at home.
        self._fill(tools, cluster, into, "only")
        asked = restore_ask.smoke(cluster, DATABASE, part.smoke, 60)
        if wrong := [f"{name}: {r.seen}, expected {r.expected}" for name, r in asked.items() if not r.ok]:
            raise DamagedError(f"smoke {'; '.join(wrong)}", "is the question still right?")
        self._values.setdefault("dsn", cluster.conninfo(DATABASE))
        return Back(manifest, f"{len(manifest.tables)} tables with {rows} rows identical, {len(asked)} smoke questions")

    def _fill(
        self, tools: pg_tools.Programs, cluster: Cluster, archive: Path, events: pg_restore.EventTriggers
    ) -> None:
        said = pg_restore.restore(tools, cluster.conninfo(DATABASE), archive, jobs=self._order.jobs, events=events)
        if bad := [f"{c.entry}: {c.message}" for c in said if not c.why]:
            raise DamagedError(
                f"pg_restore: {'; '.join(bad[:_SHOWN])}", "choose another backup; run backup.restore_test"
            )

    def _tree(self, part: Part, manifest: TreeManifest, into: Path) -> Back:
        trees = tree_backup.make_trees(self._store, self._scratch)
        trees.restore(part.place, manifest.id, into, (), lambda _: None)
        seen = trees.compare(part.place, manifest.id, into)
        if not seen.equal:
            counts = f"{len(seen.differs)} differ, {len(seen.missing)} are missing, {len(seen.extra)} are too many"
            raise DamagedError(
                f"what was restored is not as the list says: {counts}", "run backup.verify for the target"
            )
        count = sum(manifest.entries.values())
        return Back(manifest, f"{count} names with {manifest.total_bytes} bytes identical to the list")

    def _copy(self, part: Part, manifest: CopyManifest, store: Store, into: Path, stack: ExitStack) -> Back:
        fetched = copy_restore.fetch(store, part.place, manifest.id, into)
        if manifest.kind == "sqlite":
            return Back(manifest, f"{fetched.bytes} bytes, every table as the manifest says")
        program = redis_scratch.find(self._order.programs)
        if program is None:
            raise ConfigurationError(
                "there is no redis-server or valkey-server on the worker to load the dump",
                "install it, or set UPKEEP_REDIS_BIN to its folder",
            )
        keys = self._start_redis(program, Path(fetched.path), stack)
        return Back(manifest, f"{fetched.bytes} bytes with the checksum of the source, loaded: {keys} keys")

    def _start_redis(self, program: Path, rdb: Path, stack: ExitStack) -> int:
        """Start a server of our own on a dump; return how many keys it has, without those that have expired since."""
        import redis

        port, word = _free_port(), secrets.token_hex(16)
        settings = {
            "bind": "127.0.0.1", "port": str(port), "requirepass": word, "dir": str(rdb.parent), "save": "",
            "dbfilename": rdb.name, "appendonly": "no", "daemonize": "no",
        }  # fmt: skip
        conf = rdb.with_name("scratch.conf")
        with os.fdopen(os.open(conf, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.writelines(f'{key} "{value}"\n' for key, value in settings.items())
        server = stack.enter_context(Program([program, conf], cwd=rdb.parent))
        deadline = time.monotonic() + self._order.start_seconds
        while True:
            with contextlib.closing(redis.Redis(port=port, password=word, socket_timeout=5)) as client:
                try:
                    info = client.info("keyspace")
                    self._values["redis"] = f"redis://:{word}@127.0.0.1:{port}/0"
                    return sum(int(one["keys"]) for one in info.values())
                except redis.RedisError as error:
                    if not server.running or time.monotonic() > deadline:
                        said = "; ".join(list(server.tail)[-3:]) or str(error)
                        raise DamagedError(
                            f"{program.name} does not load the dump: {said}", "run backup.verify"
                        ) from None
            time.sleep(_PAUSE)

    def _serve(
        self, folder: Path, parts: list[PartBack], ask: Asking, stack: ExitStack
    ) -> tuple[tuple[Answered, ...], str]:
        """Start the services on what is back and ask them until they are well, or time is up."""
        if not self._order.services:
            return (), ""
        if missing := [part.name for part in parts if part.trouble]:
            return (), f"the services were not started: {', '.join(missing)} did not come back"
        port = _free_port()
        with self._line.step("start the services"):
            command = [self._word(word, port) for word in self._order.services]
            # Not in the command, which every user of the machine can read: the address of Redis holds a password.
            told = {f"RECOVERY_{name.upper()}": value for name, value in self._values.items()}
            env = environment(HOME=str(folder), **told, RECOVERY_PORT=str(port))
            server = stack.enter_context(Program(command, cwd=folder, env=env))
        deadline = time.monotonic() + self._order.start_seconds
        with self._line.step("ask the services") as note:
            while True:
                answers = ask(f"http://127.0.0.1:{port}")
                if all(a.well for a in answers) or time.monotonic() > deadline or not server.running:
                    break
                time.sleep(_PAUSE)
            note.detail = f"{sum(a.well for a in answers)} of {len(answers)} endpoints are well"
        if not server.running:
            said = "; ".join(list(server.tail)[-_SHOWN:])
            return (), f"the services ended by themselves: {said}"[:1000]
        return answers, ""

    def _word(self, word: str, port: int) -> str:
        """Fill in one word of the command.

        :raises ConfigurationError: it names something that no part brings back.
        """
        values = {**self._values, "port": str(port)}
        if missing := [m for m in _PLACEHOLDER.findall(word) if m not in values]:
            raise ConfigurationError(
                f"{self._order.target}: services: {{{missing[0]}}} is not known", "no part of the system gives it"
            )
        try:
            expanded = text.expand(word, os.environ)
        except ValueError as error:
            raise ConfigurationError(
                f"{self._order.target}: services: {error}", "set the variable for the workers"
            ) from None
        return _PLACEHOLDER.sub(lambda match: values[match[1]], expanded)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
