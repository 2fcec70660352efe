"""Runs a scratch server, or a program on its files, as another user; ends it in good order when its starter is gone.

`python -I -S scratch_guard.py <uid> <gid> program argument ...`, started as leader of its own session; -1 and -1 leave
the user as it is. The guard's standard input is a pipe that only the starter holds. A byte `f` asks the program to end
(SIGINT, which to PostgreSQL is a fast shutdown). When the pipe ends, because the starter closed it or was killed in
whatever way, the program is told to end at once (SIGQUIT, an immediate shutdown) and killed, with its process group,
when it has not. Not SIGKILL first, as `process_guard` does it: a server that is killed leaves its children and its
shared memory behind. Should the guard itself be killed, Linux sends the SIGQUIT for it.
"""

import contextlib
import os
import select
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
PATIENCE_SECONDS = 15.0  # a postmaster gives its children 5 s after SIGQUIT before it kills them


def _leave_network() -> None:
    """Have no network but a socket in a folder: what a backup restores must reach nothing, its source least of all.

    Only where the system lets us (root, or unprivileged user namespaces); everywhere else this does nothing.
    """
    if not hasattr(os, "unshare"):
        return
    uid, gid = os.geteuid(), os.getegid()
    with contextlib.suppress(OSError):
        if uid == 0:
            os.unshare(os.CLONE_NEWNET)
            return
        # In a namespace of its own the user must stay who it is: the server tells users by their numbers.
        os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNET)
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123
                file.write(text)


def _become(program: list[str], uid: int, gid: int, guard: int) -> None:
    _leave_network()
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # After the change of user, which would undo it.
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)
    if os.getppid() != guard:
        os._exit(1)
    for number in (signal.SIGCHLD, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        os.execvp(program[0], program)  # noqa: S606
    except OSError as error:
        sys.stderr.write(f"{program[0]}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(127)


def _end(child: int) -> None:
    os.kill(child, signal.SIGQUIT)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and not os.waitpid(child, os.WNOHANG)[0]:
        time.sleep(0.02)
    os.killpg(0, signal.SIGKILL)


def main(uid: int, gid: int, program: list[str]) -> int:
    """Run the program to its end and return its exit code."""
    os.umask(0o077)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    guard = os.getpid()
    child = os.fork()
    if child == 0:
        _become(program, uid, gid, guard)
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 64)
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
        if 0 in ready:
            if os.read(0, 1) == b"f":
                os.kill(child, signal.SIGINT)
            else:
                _end(child)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
