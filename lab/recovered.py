"""Serves one sample system on data that were brought back: `python lab/recovered.py <system> <folder> <port>`.

Where the database and the cache are stands in RECOVERY_DSN and RECOVERY_REDIS; it knows no other place.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lab.process import write_private
from lab.services import serve
from lab.systems import system


def main(name: str, folder: str, port: str) -> None:
    """Serve until the process ends."""
    told = {"dsn": os.environ["RECOVERY_DSN"], "redis": os.environ.get("RECOVERY_REDIS", "")}
    if models := sorted(Path(folder).rglob("risk_model.json")):
        told["model"] = str(models[0])
    config = Path(folder) / "services.json"
    write_private(config, json.dumps({"systems": {system(name).name: told}, "ports": {name: int(port)}}))
    serve(config)


if __name__ == "__main__":
    main(*sys.argv[1:])
