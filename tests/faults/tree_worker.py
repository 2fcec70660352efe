"""A worker that makes one backup of a tree: `python tree_worker.py <json>`, to be killed by a test at any moment."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import boto3
from botocore.config import Config

from tests.integration.tree_world import Trees


def main(order: dict[str, str]) -> int:
    """Make the backup; print its id."""
    client = None
    if "endpoint" in order:
        client = boto3.client(
            "s3", endpoint_url=order["endpoint"], region_name="us-east-1", aws_access_key_id=order["access"],
            aws_secret_access_key=order["secret"],
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 2}),
        )  # fmt: skip
    world = Trees(Path(order["home"]), client=client, key=order["key"])
    print("ready", flush=True)
    print(world.manifest().id, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
