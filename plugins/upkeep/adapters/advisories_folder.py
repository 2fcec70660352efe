"""A folder of OSV files as a source: compiled once into an SQLite index, and asked there.

A mirror holds some 15,000 small files per ecosystem. Reading them takes seconds; the index is kept under a name that
follows from path, size and times of every file, so that it is built again exactly when one of them changes.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from upkeep.adapters._package_text import UnreadableError, json_object, read_bytes, shown
from upkeep.adapters.advisories_answer import Answer, Key
from upkeep.adapters.advisories_osv import Advisory, normal, read
from upkeep.core.audit import Limits, SourceState

_SUFFIXES = (".json", ".yaml", ".yml")
_MAX_FILE = 8 << 20
_FORMAT = "3"
_AHEAD = timedelta(days=1)
"""By how much a clock elsewhere may be ahead. A time later than that says nothing: it would look new for ever."""
_LEFT_AFTER = 3600
"""Seconds after which an index that nobody writes to was left by somebody who was cut off."""

type _File = tuple[str, int, int, int]
"""Path below the folder, size, time of its content, time of its state (rights, name), both in ns."""
_SCHEMA = """
create table meta (name text primary key, value text not null) without rowid;
create table problem (path text not null, reason text not null);
create table advisory (number integer primary key, document text not null);
create table newest (ecosystem text primary key, change text not null) without rowid;
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
        answer = _ask_files(folder, files, indexes, keys, now)
    except (UnreadableError, OSError, sqlite3.Error) as error:
        answer = Answer(place, SourceState(place=place))
        reason = str(error) if isinstance(error, UnreadableError) else shown(error)
        answer.trouble(f"the folder cannot be used: {reason}", "correct its path and rights, or let the mirror run")
        return answer
    latest = (now + _AHEAD).timestamp()
    newest = max((written / 1e9 for _, _, written, _ in files if written / 1e9 <= latest), default=None)
    _look_at_age(answer, newest, max_age_days, limits.content_age_days, now)
    answer.state = answer.state.model_copy(
        update={"answered": len(answer.answered), "seconds": time.perf_counter() - started}
    )
    return answer


def _ask_files(folder: Path, files: list[_File], indexes: Path, keys: Sequence[Key], now: datetime) -> Answer:
    """Ask the index of a folder; one that is damaged is built anew, once."""
    index = _index(folder, files, indexes, now)
    try:
        return _ask_index(index, keys, str(folder))
    except sqlite3.Error:
        index.unlink(missing_ok=True)
        return _ask_index(_index(folder, files, indexes, now), keys, str(folder))


def _ask_index(index: Path, keys: Sequence[Key], place: str) -> Answer:
    answer = Answer(place, SourceState(place=place))
    with closing(sqlite3.connect(index.as_uri() + "?mode=ro", uri=True)) as db:
        meta = dict(db.execute("select name, value from meta"))
        held = int(meta["advisories"])
        answer.changes = {eco: datetime.fromisoformat(at) for eco, at in db.execute("select * from newest")}
        newest = max(answer.changes.values(), default=None)
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


_OLD_COPY = "fetch the advisories from where they are published; `content_age_days` is the limit for a small mirror"


def _look_at_age(
    answer: Answer, newest_file: float | None, max_age_days: float, content_age_days: float, now: datetime
) -> None:
    """A mirror that has stopped holds nothing of what came since: then it says nothing of anything."""
    if newest_file is None:
        answer.answered.clear()
        answer.trouble("all its files were written in the future: how old it is cannot be told", "correct the clocks")
        return
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
            _OLD_COPY,
        )
    else:
        _look_at_parts(answer, content_age_days, now)


def _look_at_parts(answer: Answer, content_age_days: float, now: datetime) -> None:
    """One ecosystem of a mirror may have stopped while others go on."""
    for family in sorted({key[0].partition(":")[0] for key in answer.answered}):
        changes = [at for name, at in answer.changes.items() if name.partition(":")[0] == family]
        changed = max(changes, default=datetime.fromtimestamp(0, UTC))
        if (now - changed).days > content_age_days:
            answer.answered = {key for key in answer.answered if key[0].partition(":")[0] != family}
            answer.trouble(
                f"its youngest advisory of {family} was last changed on {changed:%Y-%m-%d} (limit {content_age_days:g}"
                " days): the mirror seems to have stopped fetching this ecosystem",
                _OLD_COPY,
            )


def _files(folder: Path) -> list[_File]:
    """Return every file that should hold an advisory, and every link to a folder, which is told of as unreadable.

    :raises UnreadableError: it is no folder that can be listed. Links are not followed: they may lead anywhere.
    """
    if not folder.is_dir():
        raise UnreadableError("there is no such folder")

    found, waiting = list[_File](), [""]
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
                    elif entry.name.lower().endswith(_SUFFIXES) or (entry.is_symlink() and entry.is_dir()):
                        status = entry.stat(follow_symlinks=False)
                        found.append((path, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        except OSError as error:
            reason = (error.strerror or "it cannot be listed").lower()
            raise UnreadableError(f"{shown(folder / below)}: {reason}") from None
    return sorted(found)


def _index(folder: Path, files: list[_File], indexes: Path, now: datetime) -> Path:
    """Return the index of a folder as it is now, built if there is none; indexes of its earlier states are removed."""
    indexes.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    content = sha256(repr((_FORMAT, files)).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    index = indexes / f"{place}-{content}.sqlite"
    if not index.exists():
        _remove_leftovers(indexes)
        _build(folder, files, index, now)
        for old in indexes.glob(f"{place}-*.sqlite"):
            if old != index:
                old.unlink(missing_ok=True)
    return index


def _remove_leftovers(indexes: Path) -> None:
    for unfinished in indexes.glob(".*.sqlite.*"):
        with contextlib.suppress(FileNotFoundError):  # another removes it, or finishes it, at this moment
            if time.time() - unfinished.stat().st_mtime > _LEFT_AFTER:
                unfinished.unlink()


def _build(folder: Path, files: list[_File], index: Path, now: datetime) -> None:
    """Write an index beside its place and move it there whole: several workers may build it at once."""
    unfinished = index.with_name(f".{index.name}.{os.getpid()}.{time.monotonic_ns()}")
    try:
        with closing(sqlite3.connect(unfinished, isolation_level=None)) as db:
            db.executescript("pragma journal_mode = off; pragma synchronous = off;" + _SCHEMA + "begin;")
            newest = dict[str, str]()
            for count, (path, found) in enumerate(_documents(folder, files), 1):
                if isinstance(found, str):
                    db.execute("insert into problem values (?, ?)", (path, found))
                    continue
                if found.modified <= now + _AHEAD:
                    changed = found.modified.astimezone(UTC).isoformat()
                    for ecosystem in {part.package.ecosystem for part in found.affected if part.package}:
                        newest[ecosystem] = max(newest.get(ecosystem, ""), changed)
                if not found.withdrawn:
                    _insert(db, count, found)
            held = db.execute("select count(*) from advisory").fetchone()[0]
            db.execute("insert into meta values ('advisories', ?)", (str(held),))
            db.executemany("insert into newest values (?, ?)", sorted(newest.items()))
            db.execute("commit")
        with unfinished.open("rb") as whole:  # the name must not survive a power cut without the content
            os.fsync(whole.fileno())
        unfinished.rename(index)
    finally:
        unfinished.unlink(missing_ok=True)


def _insert(db: sqlite3.Connection, number: int, advisory: Advisory) -> None:
    db.execute("insert into advisory values (?, ?)", (number, advisory.model_dump_json(exclude_defaults=True)))
    named = {(p.package.ecosystem, normal(p.package.ecosystem, p.package.name)) for p in advisory.affected if p.package}
    db.executemany("insert into about values (?, ?, ?)", [(*pair, number) for pair in sorted(named)])


def _documents(folder: Path, files: list[_File]) -> Iterator[tuple[str, Advisory | str]]:
    """Yield the path of every file with the advisory in it, or with the reason why there is none."""
    for path, *_ in files:
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
