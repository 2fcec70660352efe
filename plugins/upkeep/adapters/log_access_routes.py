"""Routes: paths without what differs from request to request, and what a site does under them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
    codes, paths = encoded(pc.if_else(pa.array(batch.method == 0), pa.scalar(NONE, pa.binary()), batch.path))
    plain = pc.replace_substring_regex(paths, pattern=_ID, replacement="/{id}")
    plain = pc.replace_substring_regex(plain, pattern=_BUILD, replacement=r"\1{id}.\2")
    again, names = encoded(pc.binary_slice(plain, 0, _LONGEST))
    codes = again[codes] if len(again) else codes
    found = {name: matches(names, pattern) for name, pattern in PROBES.items()}
    return Routes(
        codes,
        names.to_pylist(),
        matches(names, _any(options.login_paths)),
        matches(names, _any(options.token_paths)),
        matches(names, _any(options.upload_paths)),
        {name: mask for name, mask in found.items() if mask.any()},
    )


def _any(patterns: tuple[str, ...]) -> str:
    return "|".join(f"(?:{pattern})" for pattern in patterns) or r"[^\x00-\xff]"


def matches(texts: Any, pattern: str) -> Array:
    """Tell which texts match a pattern somewhere, in any case."""
    import pyarrow.compute as pc

    found: Array = pc.match_substring_regex(texts, pattern=pattern, ignore_case=True).to_numpy(zero_copy_only=False)
    return found.astype(bool)
