"""A program that writes numbered lines as fast as it can: `python log_writer.py PATH PID_FILE MODE [LINES_A_BLOCK]`.

MODE: `hup` opens PATH anew at SIGHUP, between two blocks; `each` opens it for every block; `keep` never does either. It
ends at SIGTERM, after a whole block, and prints how many lines it wrote and in how many seconds.
"""

import os
import signal
import sys
import time
from pathlib import Path


def main(path: str, pid_file: str, mode: str, size: int, rate: float) -> None:
    asked = {"reopen": False, "end": False}
    signal.signal(signal.SIGHUP, lambda *_: asked.update(reopen=True))
    signal.signal(signal.SIGTERM, lambda *_: asked.update(end=True))
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    handle = os.open(path, flags, 0o644)
    new = Path(f"{pid_file}.new")
    new.write_text(f"{os.getpid()}\n")
    new.rename(pid_file)
    number, begun = 0, time.monotonic()
    while not asked["end"]:
        if mode == "each" or (mode == "hup" and asked["reopen"]):
            asked["reopen"] = False
            os.close(handle)
            handle = os.open(path, flags, 0o644)
        block = "".join(f"{n:012d} something that an application says\n" for n in range(number, number + size)).encode()
        view = memoryview(block)
        while view:
            view = view[os.write(handle, view) :]
        number += size
        ahead = number / rate - (time.monotonic() - begun)
        if ahead > 0:
            time.sleep(ahead)
    print(number, time.monotonic() - begun, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]), float(sys.argv[5]))
