"""Index rebuilds on real servers: what is bloated shrinks, nobody waits, nothing is left behind, and who must, is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from lab.postgres import PostgresServer
from tests.integration.database_bench import MAJORS, server
from tests.integration.reindex_bench import Bench, bloated, invalid, size
from upkeep.core.model import Severity


@pytest.fixture(scope="module", params=MAJORS, ids=lambda major: f"pg{major}")
def pg(request: pytest.FixtureRequest) -> PostgresServer:
    return server(request.param)


@pytest.fixture
def db(pg: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    with bloated(pg) as connection:
        yield connection


def test_bloated_indexes_are_rebuilt_once(pg: PostgresServer, db: psycopg.Connection[Any]):
    """Both shrink to what their rows need, the worst first, with numbers before and after; doing it twice is idle."""
    bench = Bench(pg.dsn("claims"))
    before = size(db, "visit_at")
    work = bench.run()
    assert work.troubles == []
    assert {key for key in work.actions} == {("reindex", "public.visit_pkey"), ("reindex", "public.visit_at")}
    done = work.action("reindex", "public.visit_at")
    assert done.status == "done", done.detail
    assert size(db, "visit_at") < before / 5
    assert done.evidence["bytes_before"] == before and done.evidence["bytes_after"] == size(db, "visit_at")
    assert done.evidence["wasted_before"] > before / 2 and done.evidence["wasted_after"] < before / 50
    assert done.evidence["seconds"] < 10
    assert invalid(db) == []
    again = bench.run()
    assert again.actions == {} and again.findings == []


def test_a_dry_run_only_says_what_it_would_do(pg: PostgresServer, db: psycopg.Connection[Any]):
    """Nothing changes; the plan is on record."""
    before = size(db, "visit_at")
    work = Bench(pg.dsn("claims")).run(dry_run=True)
    assert len(work.actions) == 2 and size(db, "visit_at") == before
    assert Severity.WARNING not in {f.severity for f in work.findings}
