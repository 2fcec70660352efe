"""Requests of a block of lines, column by column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np  # noqa: TID253 - imported by log_access inside its function only

from upkeep.adapters.log_access_words import Array

METHODS = ("other", "GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS")
"""What `Batch.method` counts; a request line that is none of HTTP's is `other`, and all of it is the target."""
WRITES = tuple(METHODS.index(name) for name in ("POST", "PUT", "DELETE", "PATCH"))


@dataclass(frozen=True)
class Batch:
    """Requests in the window: numbers as numpy arrays, texts as Arrow arrays of binary.

    `at` is seconds since 1970, `took` milliseconds (-1: not logged), `size` bytes of the answer. `client` is a code
    into `clients`. `target` is path and query.
    """

    at: Array
    status: Array
    method: Array
    size: Array
    took: Array
    client: Array
    clients: Any
    target: Any
    path: Any
    referer: Any
    agent: Any

    def __len__(self) -> int:
        return len(self.at)


@dataclass(frozen=True)
class Request:
    """One request, as read from a line alone."""

    at: int
    client: bytes
    method: str
    target: bytes
    status: int
    size: int
    took: int
    referer: bytes
    agent: bytes


def encoded(texts: Any) -> tuple[Array, Any]:
    """Return a code for each text and the distinct texts that the codes stand for."""
    dictionary = texts.dictionary_encode()
    if hasattr(dictionary, "combine_chunks"):
        dictionary = dictionary.combine_chunks()
    return dictionary.indices.to_numpy(), dictionary.dictionary


def gathered(requests: list[Request]) -> Batch:
    """Return requests that were read one by one as a batch."""
    import pyarrow as pa

    def texts(values: list[bytes]) -> Any:
        return pa.array(values, pa.binary())

    def numbers(values: list[int]) -> Array:
        return np.array(values, np.int64)

    codes, clients = encoded(texts([r.client for r in requests]))
    return Batch(
        at=numbers([r.at for r in requests]),
        status=numbers([r.status for r in requests]),
        method=numbers([METHODS.index(r.method) if r.method in METHODS else 0 for r in requests]),
        size=numbers([r.size for r in requests]),
        took=numbers([r.took for r in requests]),
        client=codes,
        clients=clients,
        target=texts([r.target for r in requests]),
        path=texts([r.target.partition(b"?")[0] for r in requests]),
        referer=texts([r.referer for r in requests]),
        agent=texts([r.agent for r in requests]),
    )
