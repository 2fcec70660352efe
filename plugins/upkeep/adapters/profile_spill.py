"""Numbers that may be more than memory holds: kept in a file, and given back in order, a part at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

PART = 2_000_000
"""Numbers that are sorted in memory at a time (16 MB)."""
_SAMPLE = 200_000


class Spill:
    """Finite doubles in a file. Add all of them, then read them as often as needed.

    :param path: does not exist yet; so do names that begin with it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self.count = 0

    def add(self, values: Any) -> None:
        """Append some numbers."""
        import numpy as np

        # Written by itself and not mapped into memory: pages of a mapping would count as ours.
        self._file.write(np.ascontiguousarray(values, dtype=np.float64).data)
        self.count += len(values)

    def close(self) -> None:
        """Flush what was added; call it before anything is read."""
        self._file.close()

    def parts(self) -> Iterator[Any]:
        """Give all numbers as they came."""
        yield from _parts(self._path, PART // 4)

    def pivots(self) -> list[float]:
        """Return numbers that split all of them into parts of about `PART`."""
        import numpy as np

        wanted = -(-self.count // PART)
        step = -(-self.count // _SAMPLE)
        # Copies: a view of every hundredth number would keep all the others in memory.
        sample = np.sort(np.concatenate([part[::step].copy() for part in self.parts()])) if wanted > 1 else np.array([])
        places = [len(sample) * n // wanted for n in range(1, wanted)]
        return sorted({float(sample[p]) for p in places})

    def ordered(self, pivots: list[float] | None = None) -> Iterator[Any]:
        """Give all numbers in ascending order: those below the first pivot, those equal to it, those up to the next ...

        What occurs millions of times is a pivot, and takes no memory.
        """
        pivots = self.pivots() if pivots is None else pivots
        if not pivots:
            yield _sorted(self._path)
            return
        yield from _buckets(self.parts(), pivots, self._path)


def _sorted(path: Path) -> Any:
    import numpy as np

    values = np.fromfile(path, dtype=np.float64)
    values.sort()
    return values


def _parts(path: Path, size: int) -> Iterator[Any]:
    import numpy as np

    with path.open("rb") as file:
        while len(part := np.fromfile(file, dtype=np.float64, count=size)):
            yield part


def _buckets(parts: Iterator[Any], pivots: list[float], path: Path) -> Iterator[Any]:
    import numpy as np

    paths = [path.with_name(f"{path.name}.{n}") for n in range(len(pivots) + 1)]
    files = [p.open("wb") for p in paths]
    equal = np.zeros(len(pivots), dtype=np.int64)
    try:
        for part in parts:
            part.sort()
            lefts, rights = (np.searchsorted(part, pivots, side) for side in ("left", "right"))
            equal += rights - lefts
            for file, first, last in zip(files, [0, *rights], [*lefts, len(part)], strict=True):
                file.write(part[first:last].data)
        for n, (file, bucket) in enumerate(zip(files, paths, strict=True)):
            file.close()
            yield _sorted(bucket)
            bucket.unlink()
            if n < len(pivots):
                yield np.broadcast_to(np.float64(pivots[n]), (int(equal[n]),))
    finally:
        for file, bucket in zip(files, paths, strict=True):
            file.close()
            bucket.unlink(missing_ok=True)
