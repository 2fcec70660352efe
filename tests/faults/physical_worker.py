"""A worker that makes one physical backup into a folder: `python physical_worker.py <json>`, to be killed by a test."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from upkeep.adapters.object_store import FolderStore
from upkeep.adapters.physical import make_physical
from upkeep.core.backup import Database, Place
from upkeep.core.errors import UpkeepError
from upkeep.core.physical import PhysicalOptions
from upkeep.core.targets import StoreRef


def main(order: dict[str, str]) -> int:
    """Make the backup; print the error's class and text when it fails."""
    store = FolderStore(Path(order["store"]))
    physical = make_physical(lambda _: order["dsn"], lambda _: store, Path(order["scratch"]))
    place = Place(store=StoreRef(url=f"file://{order['store']}"), target=order["target"], kind="physical")
    options = PhysicalOptions(programs=order["programs"], max_rate=int(order["rate"]), piece_bytes=1 << 19)
    print("ready", flush=True)
    try:
        kept = physical.backup(Database(conn_id="db"), place, options, order["run"], lambda _: None)
    except UpkeepError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}), flush=True)
        return 1
    print(json.dumps({"id": kept.manifest.id}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
