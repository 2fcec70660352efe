"""A restore test of a physical backup starts the copied cluster, and finds damaged pages in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration import physical_world
from tests.integration.physical_world import Cluster
from upkeep.adapters.restore_test import Restorer
from upkeep.core.restore import Options, Tested
from upkeep.core.targets import Smoke

FILL = (
    "create table big (id int primary key, v text)",
    "insert into big select i, md5(i::text) from generate_series(1, 20000) as i",
    "create table upkeep_canary (name text primary key, written_at timestamptz not null)",
    "insert into upkeep_canary values ('daily', now() - interval '1 hour')",
    "checkpoint",
)
SMOKE = {"rows": Smoke(sql="select count(*) from big", equals=20000)}


@pytest.fixture(params=[14, 18])
def shop(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with physical_world.cluster(request.param) as made:
        made.run(*FILL)
        yield made


def test(shop: Cluster, backup_id: str, **options: Any) -> Tested:
    chosen = Options(**{"programs": shop.programs, "smoke": SMOKE, **options})
    return Restorer(lambda _: shop.store, shop.scratch).test(shop.place, backup_id, chosen, lambda _: None)


test.__test__ = False  # type: ignore[attr-defined]


def test_physical_backup_is_started_checked_and_asked(shop: Cluster) -> None:
    """A sound backup starts under other settings than the source's, is sound to amcheck and checksums, and answers."""
    kept = shop.backup()
    seen = test(shop, kept.manifest.id)
    assert (seen.failures, seen.corruption, seen.missing) == ((), (), ())
    assert seen.ok and seen.smoke["rows"].ok and seen.kind == "physical"
    assert set(seen.checked) == {"amcheck", *(["checksums"] if kept.manifest.checksums else [])}
    assert seen.canary is not None and 3500 < seen.canary.age_seconds < 4000
    assert {"preflight", "fetch", "restore", "amcheck", "smoke", "remove"} <= set(seen.phases)
    assert list(shop.scratch.iterdir()) == []
    assert shop.run("select pg_is_in_recovery()") == [(False,)]


def test_index_that_misses_a_row_is_found_by_amcheck(shop: Cluster) -> None:
    """What the source had damaged before it was backed up, every checksum right, is found: an index without its row."""
    shop.run(
        "create table part (n int)",
        "create index part_n on part (n)",
        "update pg_index set indisready = false where indexrelid = 'part_n'::regclass",
        "insert into part values (1)",
        "update pg_index set indisready = true where indexrelid = 'part_n'::regclass",
    )
    seen = test(shop, shop.backup().manifest.id)
    assert not seen.ok
    assert any("part_n" in line for line in seen.corruption)
