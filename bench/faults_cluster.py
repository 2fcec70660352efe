"""Faults of a cluster's files: ours, `pg_verifybackup` and `pgbackrest verify`, each on a backup of their own."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.faults_world import RUN, Bench, flip, quiet, truncate
from upkeep.adapters import object_store
from upkeep.adapters.physical import make_physical
from upkeep.adapters.physical_restore import codec_of, pieces
from upkeep.core import backup as core
from upkeep.core.backup import Database
from upkeep.core.errors import UpkeepError
from upkeep.core.physical import DAMAGED, SERVER_MANIFEST, PhysicalOptions

_TROUBLE = re.compile(r"WARN|ERROR|status: error|(?:invalid|missing|other): [1-9]")
Cells = dict[str, str]
Deed = Callable[[Path], None]


def cluster_faults(world: Bench) -> Iterator[tuple[str, Cells]]:
    """Yield each fault of a cluster's backup with who noticed it."""
    kept, plain = physical(world, "clusters"), world.folder / "plain"
    world.run("pg_basebackup", "-D", plain, "-X", "stream", "-c", "fast", "-d", world.postgres.dsn())
    item = relation(world, "item")
    faults: dict[str, tuple[Deed, Deed, Deed]] = {
        "cluster: nothing wrong": (nothing, nothing, nothing),
        "cluster: bit flipped in a data file": (
            lambda f: flip(largest(f)), lambda f: flip(f / item), lambda f: flip(stored(f, item))),
        "cluster: data file truncated": (
            lambda f: truncate(largest(f)), lambda f: truncate(f / item), lambda f: truncate(stored(f, item))),
        "cluster: data file missing": (
            lambda f: largest(f).unlink(), lambda f: (f / item).unlink(), lambda f: stored(f, item).unlink()),
        "cluster: manifest altered": (
            lambda f: flip(f / SERVER_MANIFEST), lambda f: flip(f / SERVER_MANIFEST), altered),
        "cluster: WAL missing": (no_wal, lambda f: wal(f).unlink(), lambda f: archived(f).unlink()),
        "cluster: two data files swapped": (swap_pieces, lambda f: swap(f / item, f / relation(world, "item_old")),
            lambda f: swap(stored(f, item), stored(f, relation(world, "item_old")))),
    }  # fmt: skip
    for name, (our_deed, plain_deed, rest_deed) in faults.items():
        yield (
            name,
            {
                "ours": ours(world, kept, our_deed),
                "pg_verifybackup": verified(world, plain, plain_deed),
                "pgbackrest verify": rested(world, rest_deed),
            },
        )
    yield "cluster: page damaged on the server before the backup", damaged_page(world, item)


def physical(world: Bench, name: str) -> Any:
    """Take a backup of the cluster."""
    taker = make_physical(lambda _: world.postgres.dsn(), object_store.opener(lambda _: None), world.scratch)
    options = PhysicalOptions(programs=str(world.postgres.bin), piece_bytes=4 << 20)
    return taker.backup(Database(conn_id="db"), world.place(name, "physical"), options, RUN, quiet)


def nothing(_: Path) -> None:
    """Leave everything as it is: who cries at this has not noticed a fault elsewhere."""


def ours(world: Bench, kept: Any, deed: Deed) -> str:
    """Verify our backup with a fault in it."""
    with world.copy_of(kept) as (folder, place):
        deed(folder)
        found = world.check(place, kept.manifest.id).faults
    return f"yes ({', '.join(sorted({fault.check for fault in found}))})" if found else "no"


def verified(world: Bench, plain: Path, deed: Deed) -> str:
    """Ask pg_verifybackup about a plain backup with a fault in it."""
    copy = world.folder / "plain-broken"
    shutil.copytree(plain, copy, symlinks=True)
    try:
        deed(copy)
        return "no" if world.run("pg_verifybackup", "--quiet", copy).returncode == 0 else "yes"
    finally:
        shutil.rmtree(copy)


def rested(world: Bench, deed: Deed) -> str:
    """Ask `pgbackrest verify` about its repository with a fault in it; nothing where it is not installed."""
    rest = world.rest
    if rest is None:
        return ""
    whole = rest.folder / "repo.whole"
    if not whole.exists():
        rest.run(world.postgres, "stanza-create")
        rest.run(world.postgres, "--type=full", "backup")
        subprocess.run(["cp", "-a", rest.repository, whole], check=True)
    try:
        deed(rest.repository)
        return said(rest.run(world.postgres, "--output=text", "verify", check=False))
    finally:
        shutil.rmtree(rest.repository)
        subprocess.run(["cp", "-a", whole, rest.repository], check=True)


def said(done: subprocess.CompletedProcess[str]) -> str:
    """Score a program by its exit status and, where that is 0, by its words."""
    if done.returncode:
        return "yes"
    text = done.stdout + done.stderr
    return "told, exit 0" if _TROUBLE.search(text) else "no"


def relation(world: Bench, table: str) -> Path:
    """Return the file of a table below the data directory."""
    with world.postgres.connect("shop") as connection:
        row = connection.execute("select pg_relation_filepath(%s)", [table]).fetchone()
    assert row is not None
    return Path(row[0])


def largest(folder: Path) -> Path:
    """Return the largest file of our backup: a piece of the archive."""
    return max(folder.glob("base.tar*"), key=lambda path: path.stat().st_size)


def stored(repository: Path, item: Path) -> Path:
    """Return a data file in pgBackRest's repository."""
    return next(repository.glob(f"backup/*/*/pg_data/{item}.zst"))


def archived(repository: Path) -> Path:
    """Return the WAL that a backup in pgBackRest's repository needs."""
    manifest = next(repository.glob("backup/*/*F/backup.manifest"))
    start = re.search(r'backup-archive-start="([0-9A-F]{24})"', manifest.read_text())
    assert start is not None
    return next(repository.glob(f"archive/*/*/*/{start[1]}-*"))


def altered(repository: Path) -> None:
    """Alter the manifest of pgBackRest's backup, and its copy."""
    for path in repository.glob("backup/*/*F/backup.manifest*"):
        flip(path, b"backup-timestamp-start")


def wal(plain: Path) -> Path:
    """Return a WAL file of a plain backup."""
    return next(path for path in sorted((plain / "pg_wal").iterdir()) if len(path.name) == 24)


def swap(one: Path, other: Path) -> None:
    """Exchange two files."""
    between = one.with_name("between")
    one.rename(between)
    other.rename(one)
    between.rename(other)


def swap_pieces(folder: Path) -> None:
    """Exchange two pieces of our archive."""
    first, second, *_ = sorted(folder.glob("base.tar*"))
    swap(first, second)


def no_wal(folder: Path) -> None:
    """Pack our archive anew without its WAL, with every hash in order, as if it had been taken like that."""
    manifest = core.decode((folder / core.MANIFEST).read_bytes(), str(folder))
    assert isinstance(manifest, core.PhysicalManifest)
    codec, old = codec_of(manifest), pieces(manifest)
    data = b"".join(bytes(part()) for part in codec.parts((folder / entry.name).read_bytes() for entry in old))
    fresh = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as source, tarfile.open(fileobj=fresh, mode="w") as target:
        for member in source:
            if not re.fullmatch(r"(\./)?pg_wal/[0-9A-F]{24}", member.name):
                target.addfile(member, source.extractfile(member) if member.isfile() else None)
    packed = codec.compress(fresh.getvalue(), 1)
    for entry in old[1:]:
        (folder / entry.name).unlink()
    (folder / old[0].name).write_bytes(packed)
    first = core.FileEntry(name=old[0].name, size=len(packed), sha256=hashlib.sha256(packed).hexdigest())
    rest = [entry for entry in manifest.files if entry not in old]
    changed = manifest.model_copy(update={"files": (first, *rest)})
    (folder / core.MANIFEST).write_bytes(core.encode(changed))


def damaged_page(world: Bench, item: Path) -> Cells:
    """Flip a bit in a page of the server's own file, and back that up."""
    world.postgres.stop()
    flip(world.postgres.pgdata / item)
    world.postgres.start()
    try:
        kept = physical(world, "damaged")
        told = "yes (pages)" if kept.manifest.settings.get(DAMAGED) else "no"
    except UpkeepError:
        told = "yes (refused)"
    plain = world.folder / "plain-damaged"
    world.run("pg_basebackup", "--no-clean", "-D", plain, "-X", "stream", "-c", "fast", "-d", world.postgres.dsn())
    verify = world.run("pg_verifybackup", "--quiet", plain).returncode
    cells = {"ours": told, "pg_verifybackup": "no" if verify == 0 else "yes"}
    if world.rest is not None:
        done = world.rest.run(world.postgres, "--type=full", "--log-level-console=warn", "backup", check=False)
        cells["pgbackrest verify"] = said(world.rest.run(world.postgres, "--output=text", "verify", check=False))
        if cells["pgbackrest verify"] == "no" and said(done) != "no":
            cells["pgbackrest verify"] = f"no (its backup: {said(done)})"
    return cells
