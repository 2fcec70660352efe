"""A folder of OSV files as a source: compiled once into an SQLite index, and asked there.

A mirror holds some 15,000 small files per ecosystem. Reading them takes seconds; the index is kept under a name that
follows from path, size and time of every file, so that it is built again exactly when one of them changes.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from upkeep.adapters._package_text import UnreadableError, json_object, read_bytes, shown
from upkeep.adapters.advisories_answer import Answer, Key
from upkeep.adapters.advisories_osv import Advisory, normal, read
from upkeep.core.audit import Limits, SourceState

_SUFFIXES = (".json", ".yaml", ".yml")
_MAX_FILE = 8 << 20
_FORMAT = "1"
_SCHEMA = """
create table meta (name text primary key, value text not null) without rowid;
create table problem (path text not null, reason text not null);
create table advisory (number integer primary key, document text not null);
create table about (ecosystem text, name text, number integer, primary key (ecosystem, name, number)) without rowid;
"""


def ask(
    folder: Path, keys: Sequence[Key], indexes: Path, *, max_age_days: float, limits: Limits, now: datetime
) -> Answer:
    """Return what a folder of advisories says. A folder that is not there, empty or too old says nothing."""
    started = time.perf_counter()
    place = str(folder)
    try:
        files = _files(folder)
        if not files:
            raise UnreadableError("it holds no advisory (.json, .yaml, .yml)")
        answer = _ask_files(folder, files, indexes, keys)
    except (UnreadableError, OSError, sqlite3.Error) as error:
        answer = Answer(place, SourceState(place=place))
        reason = str(error) if isinstance(error, UnreadableError) else shown(error)
        answer.trouble(f"the folder cannot be used: {reason}", "correct its path and rights, or let the mirror run")
        return answer
    newest = max(written for _, _, written in files) / 1e9
    _look_at_age(answer, newest, max_age_days, limits.content_age_days, now)
    answer.state = answer.state.model_copy(
        update={"answered": len(answer.answered), "seconds": time.perf_counter() - started}
    )
    return answer


def _ask_files(folder: Path, files: list[tuple[str, int, int]], indexes: Path, keys: Sequence[Key]) -> Answer:
    """Ask the index of a folder; one that is damaged is built anew, once."""
    index = _index(folder, files, indexes)
    try:
        return _ask_index(index, keys, str(folder))
    except sqlite3.Error:
        index.unlink(missing_ok=True)
        return _ask_index(_index(folder, files, indexes), keys, str(folder))


def _ask_index(index: Path, keys: Sequence[Key], place: str) -> Answer:
    answer = Answer(place, SourceState(place=place))
    with closing(sqlite3.connect(index.as_uri() + "?mode=ro", uri=True)) as db:
        meta = dict(db.execute("select name, value from meta"))
        held = int(meta["advisories"])
        newest = datetime.fromisoformat(meta["newest_change"]) if meta["newest_change"] else None
        answer.state = SourceState(place=place, advisories=held, newest_change=newest)
        _look_up(db, keys, answer)
        _tell_problems(db, answer)
    return answer


def _look_up(db: sqlite3.Connection, keys: Sequence[Key], answer: Answer) -> None:
    known = {row[0] for row in db.execute("select distinct ecosystem from about")}
    for key in keys:
        ecosystem, name, _ = key
        family = ecosystem.partition(":")[0]
        if not {ecosystem, family} & known:
            continue
        answer.answered.add(key)
        for (document,) in db.execute(
            "select document from advisory where number in (select number from about where name = ? and ecosystem in"
            " (?, ?)) order by number",
            (name, ecosystem, family),
        ):
            answer.add(key, Advisory.model_validate_json(document))
    for ecosystem in sorted({key[0] for key in keys} - {key[0] for key in answer.answered}):
        if not {ecosystem, ecosystem.partition(":")[0]} & known:
            answer.trouble(
                f"it holds no advisory of ecosystem {ecosystem}; that nothing is found there says nothing",
                f"let the mirror fetch {ecosystem} too, or name another source",
            )


def _tell_problems(db: sqlite3.Connection, answer: Answer) -> None:
    rows = db.execute("select path, reason from problem order by path").fetchall()
    if rows:
        named = "; ".join(f"{path}: {reason}" for path, reason in rows[:5])
        more = f"; and {len(rows) - 5} more" if len(rows) > 5 else ""
        answer.trouble(
            f"{len(rows)} of its files cannot be read as advisories: {named}{more}",
            "fetch these files anew, or remove what is no advisory; a package of theirs may be affected",
        )


def _look_at_age(
    answer: Answer, newest_file: float, max_age_days: float, content_age_days: float, now: datetime
) -> None:
    """A mirror that has stopped holds nothing of what came since: then it says nothing of anything."""
    written = datetime.fromtimestamp(newest_file, UTC)
    changed = answer.state.newest_change
    answer.state = answer.state.model_copy(update={"newest": written})
    age = (now - written).total_seconds() / 86400
    if age > max_age_days:
        answer.answered.clear()
        answer.trouble(
            f"its newest file was written {age:.1f} days ago (limit {max_age_days:g}): what was published since is not"
            " in it",
            "let the mirror run and see why it stopped; `max_age_days` of the source is the limit",
        )
    elif changed and (now - changed).days > content_age_days:
        answer.answered.clear()
        answer.trouble(
            f"its youngest advisory was last changed on {changed:%Y-%m-%d}, though its files are new (limit"
            f" {content_age_days:g} days): it seems to be a copy of an old mirror",
            "fetch the advisories from where they are published; `content_age_days` is the limit for a small mirror",
        )


def _files(folder: Path) -> list[tuple[str, int, int]]:
    """Return path below the folder, size and time (ns) of every file that should hold an advisory.

    :raises UnreadableError: it is no folder that can be listed. Links are not followed: they may lead anywhere.
    """
    if not folder.is_dir():
        raise UnreadableError("there is no such folder")

    found, waiting = list[tuple[str, int, int]](), [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(folder / below) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    path = f"{below}/{entry.name}" if below else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(path)
                    elif entry.name.lower().endswith(_SUFFIXES):
                        status = entry.stat(follow_symlinks=False)
                        found.append((path, status.st_size, status.st_mtime_ns))
        except OSError as error:
            reason = (error.strerror or "it cannot be listed").lower()
            raise UnreadableError(f"{shown(folder / below)}: {reason}") from None
    return sorted(found)


def _index(folder: Path, files: list[tuple[str, int, int]], indexes: Path) -> Path:
    """Return the index of a folder as it is now, built if there is none; indexes of its earlier states are removed."""
    indexes.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    content = sha256(repr((_FORMAT, files)).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    index = indexes / f"{place}-{content}.sqlite"
    if not index.exists():
        _build(folder, files, index)
        for old in indexes.glob(f"{place}-*.sqlite"):
            if old != index:
                old.unlink(missing_ok=True)
    return index


def _build(folder: Path, files: list[tuple[str, int, int]], index: Path) -> None:
    """Write an index beside its place and move it there whole: several workers may build it at once."""
    unfinished = index.with_name(f".{index.name}.{os.getpid()}.{time.monotonic_ns()}")
    try:
        with closing(sqlite3.connect(unfinished, isolation_level=None)) as db:
            db.executescript("pragma journal_mode = off; pragma synchronous = off;" + _SCHEMA + "begin;")
            newest = ""
            for count, (path, found) in enumerate(_documents(folder, files), 1):
                if isinstance(found, str):
                    db.execute("insert into problem values (?, ?)", (path, found))
                    continue
                newest = max(newest, found.modified.astimezone(UTC).isoformat())
                if not found.withdrawn:
                    _insert(db, count, found)
            held = db.execute("select count(*) from advisory").fetchone()[0]
            db.executemany("insert into meta values (?, ?)", [("newest_change", newest), ("advisories", str(held))])
            db.execute("commit")
        unfinished.rename(index)
    finally:
        unfinished.unlink(missing_ok=True)


def _insert(db: sqlite3.Connection, number: int, advisory: Advisory) -> None:
    db.execute("insert into advisory values (?, ?)", (number, advisory.model_dump_json(exclude_defaults=True)))
    named = {(p.package.ecosystem, normal(p.package.ecosystem, p.package.name)) for p in advisory.affected if p.package}
    db.executemany("insert into about values (?, ?, ?)", [(*pair, number) for pair in sorted(named)])


def _documents(folder: Path, files: list[tuple[str, int, int]]) -> Iterator[tuple[str, Advisory | str]]:
    """Yield the path of every file with the advisory in it, or with the reason why there is none."""
    for path, _, _ in files:
        try:
            if (folder / path).is_symlink():
                raise UnreadableError("it is a link")
            content = read_bytes(folder / path, _MAX_FILE)
            yield shown(path), read(json_object(content) if path.lower().endswith(".json") else _yaml(content))
        except UnreadableError as error:
            yield shown(path), str(error)


def _yaml(content: bytes) -> Any:
    """Read YAML with every scalar as text: `1.10` is a version there, not a number, and nothing is constructed."""
    import yaml

    try:
        return yaml.load(content, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))  # noqa: S506 - text only
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        at = f"line {mark.line + 1}: " if mark else ""
        raise UnreadableError(f"{at}it is no YAML: {shown(getattr(error, 'problem', None) or error)}") from None


__all__ = ["ask"]
