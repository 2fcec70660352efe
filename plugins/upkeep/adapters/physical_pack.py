"""A stream on its way: compressed in several threads, stored in pieces of one size."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO

from upkeep.adapters.backup_dump import Sender
from upkeep.adapters.physical_zstd import Codec

# What is compressed at a time: each block is a frame of its own, so that threads need not wait for each other.
BLOCK = 4 << 20
_WAIT_SECONDS = 0.02


class Packer:
    """Compresses a stream and hands it to the sender, `<name>.00000`, `<name>.00001` ...

    Each piece consists of whole frames: put together again they are one file that any zstd (or gzip) reads. What waits
    for the store is at most a few pieces: a store that is slower than the server makes the server wait.
    """

    def __init__(self, sender: Sender, folder: Path, name: str, codec: Codec, *, level: int, jobs: int, piece: int,
                 ahead: int) -> None:  # fmt: skip
        self._sender, self._folder, self._name = sender, folder, f"{name}.{codec.suffix}"
        self._codec, self._level, self._piece = codec, level, piece
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="compress")
        self._frames: deque[Future[bytes]] = deque()
        self._most, self._ahead = 2 * jobs, ahead
        self._file: IO[bytes] | None = None
        self._number = 0
        self.bytes = 0

    def feed(self, block: bytes, wait: Callable[[], None]) -> None:
        """Take the next bytes of the stream.

        :param wait: called now and then while nothing more can be taken.
        """
        self._frames.append(self._pool.submit(self._codec.compress, block, self._level))
        self.bytes += len(block)
        while len(self._frames) > self._most or (self._frames and self._frames[0].done()):
            self._write(self._frames.popleft().result())
        while sum(1 for _ in self._folder.iterdir()) > self._ahead:
            wait()
            self._sender.check()
            time.sleep(_WAIT_SECONDS)

    def finish(self) -> None:
        """Write what is left and send the last piece."""
        while self._frames:
            self._write(self._frames.popleft().result())
        self._end_piece()

    def close(self) -> None:
        """Give up what has not been done."""
        self._pool.shutdown(cancel_futures=True)
        if self._file:
            self._file.close()

    def _write(self, frame: bytes) -> None:
        if self._file is None:
            self._file = (self._folder / f"{self._name}.{self._number:05}").open("wb")
        self._file.write(frame)
        if self._file.tell() >= self._piece:
            self._end_piece()

    def _end_piece(self) -> None:
        if self._file is None:
            return
        self._file.close()
        self._sender.send(Path(self._file.name))
        self._file, self._number = None, self._number + 1
