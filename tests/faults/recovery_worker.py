"""A worker that restores a database: `python recovery_worker.py <json>`, and is killed at the step named by `at`.

With `fail` the step fails first, and the worker is killed when it rolls back.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from upkeep.adapters.object_store_s3 import S3Store
from upkeep.adapters.recovery import make_recoverer
from upkeep.core.backup import Database, Place
from upkeep.core.recovery import DatabaseOrder
from upkeep.core.targets import StoreRef


def store_of(order: dict[str, Any]) -> S3Store:
    """Open the store that a test works with."""
    client = boto3.client(
        "s3", endpoint_url=order["endpoint"], region_name="us-east-1", aws_access_key_id=order["key"],
        aws_secret_access_key=order["secret"], config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip
    return S3Store(client, order["bucket"], "kept")


def main(order: dict[str, Any]) -> None:
    """Restore until the step comes."""
    store = store_of(order)

    def tell(text: str) -> None:
        print(text, flush=True)
        if text.startswith("roll back") or (text.startswith(order["at"]) and not order["fail"]):
            os.kill(os.getpid(), signal.SIGKILL)
        if text.startswith(order["at"]):
            raise OSError("it failed")

    place = Place(store=StoreRef(url=f"s3://{order['bucket']}/kept", conn_id="store"), target=order["target"])
    recoverer = make_recoverer(
        {"db": order["db"], "admin": order["admin"]}.__getitem__, lambda _: store,
        Path(order["scratch"]),
    )  # fmt: skip
    recoverer.restore(
        DatabaseOrder(
            place=place, backup=order["backup"], run_id="killed", programs=order["programs"], patience=20,
            server=Database(conn_id="admin", database="postgres"), application=Database(conn_id="db"),
        ),
        tell,
    )  # fmt: skip


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
