"""A worker of its own that backs a SQLite file and a Redis server up, again and again, to be killed by tests."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

from tests.integration.backup_world import quiet
from upkeep.adapters import object_store
from upkeep.adapters.copy_maker import CopyMaker
from upkeep.core.backup import Place
from upkeep.core.copies import CopyOptions
from upkeep.core.targets import StoreRef


def main(order: dict[str, Any]) -> None:
    """Say that it begins, then work until somebody ends it."""
    from pathlib import Path

    cache = SimpleNamespace(conn_id="cache", conn_type="redis", host="127.0.0.1", login=None, extra_dejson={})
    cache.port, cache.password = order["port"], order["password"]
    maker = CopyMaker(lambda _: cache, object_store.opener(lambda _: cache), Path(order["scratch"]))
    ref, options = StoreRef(url=order["store"]), CopyOptions(programs=order["programs"])
    print("ready", flush=True)
    while True:
        sqlite = Place(store=ref, target="shop/sqlite", kind="sqlite")
        maker.copy_sqlite(order["path"], sqlite, options, order["run"], quiet)
        redis = Place(store=ref, target="shop/redis", kind="redis")
        maker.copy_redis("cache", redis, options, order["run"], quiet)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
