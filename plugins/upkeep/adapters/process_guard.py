"""Runs one program and takes it, with everything it has started, along when whoever started the guard is gone.

`python -I -S process_guard.py program argument ...`, started as leader of its own session. The guard's standard input
is a pipe that only the starter holds: when it ends, because the starter closed it or was killed in whatever way, the
guard kills its process group, the program and its children with it. Should the guard itself be killed, Linux kills the
program for it (PR_SET_PDEATHSIG). Exits with the program's code, 128 + n when signal n ended it, as shells do.

Not `preexec_fn` in the starter: it has threads, and PR_SET_PDEATHSIG ends with the thread that forked and does not
reach the workers that pg_dump forks.
"""

import contextlib
import os
import select
import signal
import sys

PR_SET_PDEATHSIG = 1


def _bind_to_guard(guard: int) -> None:
    """In the program's process: die with the guard, also when it went between the fork and this line."""
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guard:
        os._exit(1)


def _become(program: list[str], guard: int) -> None:
    _bind_to_guard(guard)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        os.execvp(program[0], program)  # noqa: S606
    except OSError as error:
        sys.stderr.write(f"{program[0]}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(127)


def main(program: list[str]) -> int:
    """Run the program to its end and return its exit code."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    guard = os.getpid()
    child = os.fork()
    if child == 0:
        _become(program, guard)
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if 0 in ready and not os.read(0, 1):
            os.killpg(0, signal.SIGKILL)
        if woken in ready:
            os.read(woken, 64)
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
