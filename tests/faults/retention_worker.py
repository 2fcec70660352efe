"""A worker that runs retention once: `python retention_worker.py <order>`, to be killed by a test at any moment."""

from __future__ import annotations

import sys

from tests.integration.retention_world import loads


def main(order: str) -> int:
    """Run it."""
    shelf = loads(order)
    print("ready", flush=True)
    shelf.run(share=1, grace_hours=1)
    print("done", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
