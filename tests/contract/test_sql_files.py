"""SQL files and code are complete both ways, and every statement is understood by every supported server."""

from __future__ import annotations

import ast
import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lab.postgres import PostgresServer
from tests.integration.database_bench import MAJORS, database, server
from upkeep.adapters import postgres, statements
from upkeep.adapters.statements import Variant
from upkeep.routines.backup import _canary

PACKAGE = Path(__file__).parents[2] / "plugins" / "upkeep"
# A value of the right type for every placeholder of the areas whose statements are run here.
VALUES: dict[str, Any] = {
    "top": 3,
    "known": ["public.claim", "public.gone"],
    "seconds": 1.0,
    "query_seconds": 1.0,
    "idle_seconds": 1.0,
    "expected": ["pg_dump"],
    "least": 0.5,
    "not_standbys": ["pg_receivewal"],
    "min_bytes": 0,
    "min_rows": 0,
    "days": 35.0,
    "most": 10,
    "oids": [1, 2],
    "schema": "public",
    "named": ["public.claim"],
    "share": 0.5,
    "exact": True,
    "everything": True,
    "names": ["public.claim_pkey"],
    "table_oid": 1,
    "pid": 1,
    "pids": [1],
}
RUN_HERE = ("database", "capacity")
OTHER_DIALECTS = ("sqlite",)


@functools.cache
def trees() -> tuple[ast.Module, ...]:
    return tuple(ast.parse(path.read_text(), str(path)) for path in sorted(PACKAGE.rglob("*.py")))


def nodes() -> Iterator[ast.AST]:
    return (node for tree in trees() for node in ast.walk(tree))


def words() -> set[str]:
    """Return every string constant of the package."""
    return {node.value for node in nodes() if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def beginnings() -> set[str]:
    """Return what f-strings begin with: `project_` for names put together at run time."""
    first = (node.values[0] for node in nodes() if isinstance(node, ast.JoinedStr) and node.values)
    return {part.value for part in first if isinstance(part, ast.Constant) and str(part.value).endswith("_")}


def asked() -> set[str]:
    """Return the statements that code names: `area/name`, `load("area", "name")`, `ledger.ask("name")`."""
    areas = {v.area for v in statements.variants()}
    named = {word for word in words() if word.count("/") == 1 and word.split("/")[0] in areas}
    for node in nodes():
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        values = [arg.value if isinstance(arg, ast.Constant) else None for arg in node.args[:2]]
        if called == "load" and len(values) == 2 and values[0] in areas and values[1]:
            named.add(f"{values[0]}/{values[1]}")
        if called == "ask" and values and isinstance(values[0], str) and "/" not in values[0]:
            named.add(f"ledger/{values[0]}")
    return {name for name in named if name.split("/")[1].isidentifier()}


def test_every_statement_is_used():
    """A file that no code names is dead."""
    known, starts = words(), tuple(beginnings())
    dead = [
        v.statement
        for v in statements.variants()
        if v.statement not in known and v.name not in known and not v.name.startswith(starts)
    ]
    assert dead == []


def test_every_statement_asked_for_exists():
    """A name in code without its file would fail only when it is first asked."""
    there = {v.statement for v in statements.variants()}
    assert len(asked()) > 20
    assert asked() - there == set()


@pytest.mark.parametrize("variant", statements.variants(), ids=lambda v: f"{v.statement}-{v.major}")
def test_a_file_is_one_explained_statement(variant: Variant):
    """It begins with a comment that says what it returns, and holds one statement."""
    text = variant.path.read_text()
    assert text.startswith("-- ") and len(text.splitlines()[0]) > 10
    assert ";" not in statements.named(variant.statement, variant.major * 10_000)
    assert max(map(len, text.splitlines())) <= 130


def test_a_variant_serves_a_supported_version():
    """A variant for a server that nobody supports is dead, and so is a base that every supported server skips."""
    for variant in statements.variants():
        assert variant.major in (0, *MAJORS[1:]), variant.path


@pytest.fixture(scope="module", params=MAJORS, ids=lambda major: f"pg{major}")
def pg(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A server with a database that holds our ledger."""
    from psycopg.rows import dict_row

    from upkeep.ledger.store import migrate

    started = server(request.param)
    with database(started, "contract"):
        with contextlib.closing(psycopg.connect(started.dsn("contract"), autocommit=True, row_factory=dict_row)) as c:
            migrate(c)
            c.execute(_canary.CREATE.format(table="public.upkeep_canary").encode())
        yield started


def test_every_statement_is_understood(pg: PostgresServer):
    """Each statement of each area is parsed and its names and types resolved by every version."""
    with pg.connect("contract") as connection:
        version = connection.info.server_version
        for variant in statements.variants():
            if variant.area in OTHER_DIALECTS or variant.major * 10_000 > version:
                continue
            text = statements.numbered(statements.named(variant.statement, version))
            connection.execute(f"PREPARE tried AS {text}".encode())
            connection.execute("DEALLOCATE tried")


def test_every_statement_about_databases_runs(pg: PostgresServer):
    """Each is executed, read-only, by an owner and by a role that may see nothing, and fails for neither."""
    pg.create_role("stranger")
    with pg.connect("contract") as owner:
        owner.execute("GRANT CONNECT ON DATABASE contract TO stranger")
    wanted = {
        v.statement: {name: VALUES[name] for name in statements.placeholders(v.path.read_text())}
        for area in RUN_HERE
        for v in statements.variants(area)
    }
    for user in ("postgres", "stranger"):
        with postgres.open_session(pg.dsn("contract", user)) as session:
            answers = session.batch(wanted)
        assert {name: a for name, a in answers.items() if not isinstance(a, list)} == {}
