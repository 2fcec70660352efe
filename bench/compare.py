"""Index review, bloat and wraparound against Debian's `check_postgres` and the truth: `python -m bench.compare`.

Databases whose truth is known by hand are made on real servers (`BENCH_MAJORS`, "14 18") and each way is asked about
them. Bloat: the truth is what a rebuild gives back. Ids: cluster ages planted with `pg_resetwal`. Indexes: what was
planted, and look-alikes that nobody may call out. Without `check_postgres` on the PATH only ours is printed. The
differences are explained in docs/decisions/0007-where-we-and-check-postgres-differ.md.
"""

from __future__ import annotations

import os
import time

from bench import compare_bloat, compare_ids, compare_indexes
from bench.compare_tools import check_postgres_version
from tests.integration.database_bench import fresh_server

CHOSEN = [int(major) for major in os.environ.get("BENCH_MAJORS", "14 18").split()]


def main() -> None:
    """Compare everything on every server and print it."""
    print(check_postgres_version() or "check_postgres is not on the PATH: only ours is compared with the truth")
    for major in CHOSEN:
        begun = time.monotonic()
        with fresh_server(major) as pg:
            print(f"\nPostgreSQL {major}: bloat, per cent of its size that a rebuild gives back")
            compare_bloat.compare(pg)
            print(f"\nPostgreSQL {major}: indexes")
            compare_indexes.compare(pg)
        print(f"\nPostgreSQL {major}: age of ids")
        compare_ids.compare(major)
        print(f"({time.monotonic() - begun:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
