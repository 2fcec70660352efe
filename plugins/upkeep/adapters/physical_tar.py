"""A tar archive of pg_basebackup on its way: cut anywhere, walked through once, nothing copied."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

_RECORD = tarfile.BLOCKSIZE


@dataclass(frozen=True, slots=True)
class Segment:
    """Some bytes of a member; a member without content has one segment without bytes."""

    member: tarfile.TarInfo
    offset: int
    data: memoryview


class TarWalk:
    """Takes the blocks of a stream in their order and says what of which member lies in each.

    Format: POSIX ustar, as src/port/tar.c of PostgreSQL writes it (sizes from 8 GB on in base 256).
    """

    def __init__(self) -> None:
        self.files = 0
        self.ended = False
        self._member: tarfile.TarInfo | None = None
        self._at, self._padding, self._head = 0, 0, b""

    def feed(self, block: bytes | memoryview) -> Iterator[Segment]:
        """Take the next bytes; what is yielded refers to them. :raises tarfile.TarError: this is not an archive."""
        view, at = memoryview(block), 0
        while at < len(view) and not self.ended:
            if self._member is not None:
                data = view[at : at + self._member.size - self._at]
                yield Segment(self._member, self._at, data)
                at += len(data)
                self._at += len(data)
                if self._at == self._member.size:
                    self._member = None
            elif self._padding:
                step = min(self._padding, len(view) - at)
                self._padding -= step
                at += step
            else:
                part = bytes(view[at : at + _RECORD - len(self._head)])
                self._head += part
                at += len(part)
                if len(self._head) == _RECORD:
                    head, self._head = self._head, b""
                    yield from self._begin(head)

    def _begin(self, head: bytes) -> Iterator[Segment]:
        if not any(head):
            self.ended = True
            return
        member = tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
        self.files += 1
        self._at, self._padding = 0, -member.size % _RECORD
        if member.size:
            self._member = member
        else:
            yield Segment(member, 0, memoryview(b""))
