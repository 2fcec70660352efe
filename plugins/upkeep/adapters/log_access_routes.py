"""Routes: paths without what differs from request to request, and what a site does under them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np  # noqa: TID253 - imported by log_access inside its function only

from upkeep.adapters.log_access_batch import Batch, encoded
from upkeep.adapters.log_access_rules import PROBES
from upkeep.adapters.log_access_words import Array
from upkeep.core.access_log import AccessOptions

# UUIDs, long hexadecimal or random words, numbers and dates, and numbers with a short prefix (CLM-2026-001).
_ID = (
    r"/(?:[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|[0-9a-fA-F]{16,}|[0-9A-Za-z]{24,}"
    r"|[0-9]+(?:[-_.:][0-9]+)*|[A-Za-z]{1,6}[-_][0-9]{2,}(?:[-_][0-9A-Za-z]+)*)\b"
)
_BUILD = r"([.-])[0-9a-f]{8,}\.(js|css|map|png|svg|jpg|woff2?)$"
_LONGEST = 200
NONE = b"(no request)"


@dataclass(frozen=True)
class Routes:
    """The routes of a batch: a code for each request, their names, and which are of which use."""

    code: Array
    names: list[bytes]
    login: Array
    token: Array
    upload: Array
    probe: dict[str, Array]

    def of(self, number: int) -> bytes:
        """Return the route of a request."""
        return self.names[int(self.code[number])]


def routes(batch: Batch, options: AccessOptions) -> Routes:
    """Return the routes of a batch."""
    import pyarrow as pa
    import pyarrow.compute as pc

    # Garbage (handshakes on the wrong port) has no path: all of it is one route.
    paths = pc.if_else(pa.array(batch.method == 0), pa.scalar(NONE, pa.binary()), batch.path)
    codes, names = _normalised(paths)
    found = {name: matches(names, pattern) for name, pattern in PROBES.items()}
    return Routes(
        codes,
        names.to_pylist(),
        matches(names, _any(options.login_paths)),
        matches(names, _any(options.token_paths)),
        matches(names, _any(options.upload_paths)),
        {name: mask for name, mask in found.items() if mask.any()},
    )


def _normalised(paths: Any) -> tuple[Array, Any]:
    """Return a code for each path, and the routes.

    Searching millions of different paths takes long. What `_ID` finds does not depend on which digits there are, so
    that most of them are made the same first; a path of which such a digit is left in its route is looked at as it is.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    codes, masked = encoded(_masked(paths))
    routes_ = _replaced(masked)
    left = matches(routes_, r"(^|[^A-Za-z])0")[codes]
    if left.any():
        again, plain = encoded(paths.filter(pa.array(left)))
        routes_ = pa.concat_arrays([routes_, _replaced(plain)])
        codes = codes.copy()
        codes[left] = again + len(masked)
    same, names = encoded(pc.binary_slice(routes_, 0, _LONGEST))
    return _used(same[codes], names)


def _used(codes: Array, names: Any) -> tuple[Array, Any]:
    """Leave out names that nobody has."""
    count = np.bincount(codes, minlength=len(names))
    used = np.flatnonzero(count)
    return (np.cumsum(count > 0) - 1)[codes], names.take(used)


def _masked(paths: Any) -> Any:
    """Return paths with 0 for every digit that does not follow a letter (`v1` stays)."""
    import pyarrow as pa

    _, offsets, data = paths.buffers()
    text = np.frombuffer(data, np.uint8)
    before = np.empty_like(text)
    before[:1], before[1:] = 0, text[:-1]
    digit = ((text - np.uint8(48)) < 10) & (((before | np.uint8(32)) - np.uint8(97)) >= 26)
    masked = np.where(digit, np.uint8(48), text)
    return pa.Array.from_buffers(pa.binary(), len(paths), [None, offsets, pa.py_buffer(masked)], offset=paths.offset)


def _replaced(paths: Any) -> Any:
    import pyarrow.compute as pc

    plain = pc.replace_substring_regex(paths, pattern=_ID, replacement="/{id}")
    return pc.replace_substring_regex(plain, pattern=_BUILD, replacement=r"\1{id}.\2")


def _any(patterns: tuple[str, ...]) -> str:
    return "|".join(f"(?:{pattern})" for pattern in patterns) or r"[^\x00-\xff]"


def matches(texts: Any, pattern: str) -> Array:
    """Tell which texts match a pattern somewhere, in any case."""
    import pyarrow.compute as pc

    found: Array = pc.match_substring_regex(texts, pattern=pattern, ignore_case=True).to_numpy(zero_copy_only=False)
    return found.astype(bool)
