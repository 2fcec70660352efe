"""A worker that makes one backup: `python backup_worker.py <json>`, to be killed by a test at any moment.

With `fsize`, no file that it or its programs write may become larger: what a full disk does, without needing root.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import boto3
from botocore.config import Config

from upkeep.adapters.archive import make_archiver
from upkeep.adapters.object_store_s3 import S3Store
from upkeep.core.backup import Database, Options, Place
from upkeep.core.errors import UpkeepError
from upkeep.core.targets import StoreRef


def main(order: dict[str, str]) -> int:
    """Make the backup; print the error's class and text when it fails."""
    if "fsize" in order:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(order["fsize"]), resource.RLIM_INFINITY))
    client = boto3.client(
        "s3", endpoint_url=order["endpoint"], region_name="us-east-1", aws_access_key_id=order["key"],
        aws_secret_access_key=order["secret"],
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 2}),
    )  # fmt: skip
    archive = make_archiver(
        lambda _: order["dsn"], lambda _: S3Store(client, order["bucket"], "kept"), Path(order["scratch"])
    )
    place = Place(store=StoreRef(url=f"s3://{order['bucket']}/kept", conn_id="store"), target=order["target"])
    print("ready", flush=True)
    try:
        kept = archive.backup(
            Database(conn_id="db"), place, Options(programs=order["programs"]), order["run"], lambda _: None
        )
    except UpkeepError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}), flush=True)
        return 1
    print(json.dumps({"id": kept.manifest.id}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
