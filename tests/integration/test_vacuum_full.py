"""VACUUM FULL is proposed for measured bloat, with its price, and done only when a person has agreed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from lab.postgres import MAJORS, PostgresServer
from tests.integration.database_bench import database, server
from tests.integration.vacuum_bench import Care, settle, troubles
from upkeep.core.targets import Volume

SMALL: dict[str, Any] = {"bloat_min_bytes": 65_536, "full_bytes": 65_536}


@pytest.fixture
def pg() -> PostgresServer:
    return server(MAJORS[-1])


@pytest.fixture
def bloated(pg: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    """A database with one table that is nearly empty and one that is full."""
    with database(pg) as db:
        db.execute("CREATE EXTENSION pgstattuple")
        for name in ("holey", "full_up"):
            text = f"CREATE TABLE {name} AS SELECT g AS id, repeat('n', 200) AS t FROM generate_series(1, 5000) AS g"
            db.execute(text.encode())
        db.execute("DELETE FROM holey WHERE id % 10 > 0")
        settle(db)
        db.execute("VACUUM ANALYZE")
        yield db


def proposed(care: Care, **chosen: Any) -> dict[str, Any]:
    record = care.run(**{**SMALL, **chosen})
    assert troubles(record) == []
    return {a.action.subject: a for a in record.actions if a.action.name == "vacuum full"}


def test_a_rewrite_is_proposed_and_not_done(pg: PostgresServer, bloated: psycopg.Connection[Any]):
    """Only the empty table, with what it blocks and needs; nothing is rewritten without a word from a person."""
    care = Care(pg.dsn("claims"))
    before = bloated.execute("SELECT pg_relation_filenode('holey')").fetchone()
    [(name, action)] = proposed(care).items()
    assert name == "public.holey"
    assert action.status == "proposed"
    assert "ACCESS EXCLUSIVE" in action.action.approval and "unknown" in action.action.approval
    assert bloated.execute("SELECT pg_relation_filenode('holey')").fetchone() == before
    assert proposed(care, full=False) == {} and proposed(care, full_bytes=2**30) == {}


def test_an_agreed_rewrite_is_done(pg: PostgresServer, bloated: psycopg.Connection[Any]):
    """Only what was agreed to is done, with its size before and after."""
    care = Care(pg.dsn("claims"), volume=Volume(path=os.fspath(pg.data_dir)))
    [(name, action)] = proposed(care).items()
    assert "are free" in action.action.approval
    bloated.execute("DELETE FROM payment")
    settle(bloated)
    record = care.run(approved=frozenset({("vacuum full", name)}), **SMALL)
    [done] = [a for a in record.actions if a.status == "done"]
    assert done.action.name == "vacuum full"
    assert done.evidence["after"]["heap"] < done.evidence["before"]["heap"] / 5
    row = bloated.execute("SELECT count(*) FROM holey").fetchone()
    assert row == (500,)
