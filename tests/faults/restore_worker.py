"""A worker that makes one restore test: `python restore_worker.py <json>`, to be killed by a test at any moment.

With `image`, the server runs in a container of the Docker daemon at `docker`. With `fsize`, no file that it or its
programs write may become larger: what a full disk does, without needing root.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

from upkeep.adapters.object_store import FolderStore
from upkeep.adapters.restore_test import Restorer
from upkeep.core.backup import Place
from upkeep.core.errors import UpkeepError
from upkeep.core.restore import Options
from upkeep.core.targets import StoreRef


def main(order: dict[str, str]) -> int:
    """Make the test, print each phase; print the error's class and text when it fails."""
    if "fsize" in order:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(order["fsize"]), resource.RLIM_INFINITY))
    where = {"method": "docker", "image": order["image"]} if "image" in order else {}
    options = Options.model_validate({"programs": order["programs"], **where})
    restorer = Restorer(
        lambda _: FolderStore(Path(order["store"])), Path(order["scratch"]), lambda _: order.get("docker", "")
    )
    place = Place(store=StoreRef(url=f"file://{order['store']}"), target=order["target"])
    print("ready", flush=True)
    try:
        tested = restorer.test(place, order["id"], options, lambda line: print(line, flush=True))
    except UpkeepError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}), flush=True)
        return 1
    print(json.dumps({"ok": tested.ok, "failures": tested.failures}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
