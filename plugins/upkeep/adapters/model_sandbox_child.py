"""The restricted process in which a model file is loaded: `python -I -B model_sandbox_child.py <order.json>`.

Before it reads the file it gives up what it does not need: network (a network namespace of its own), privileges (a user
namespace), writing and executing files (Landlock), memory, processor time, files and processes (limits). An audit hook
refuses sockets, programs and changes to files in Python as well, and code that is made of text or of a further pickle.
What of these the machine offers is told in the answer (`isolation`). Only bytes whose SHA-256 is the expected one are
looked at.

Runs in any Python from 3.8 on, without this package: that which serves the model is the right one.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import json
import os
import resource
import struct
import sys
import traceback
from pathlib import Path
from typing import Any

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_NO_NEW_PRIVS = 38
# linux/landlock.h: everything but reading files (bit 2) and folders (bit 3).
_LANDLOCK_WRITES = {1: 0b1_1111_1111_0011, 2: 0b11_1111_1111_0011, 3: 0b111_1111_1111_0011}
_LANDLOCK_TCP = 0b11
_REFUSED_EVENTS = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.kill", "os.remove", "os.rename", "os.rmdir",
    "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.chown", "os.truncate",
    "os.startfile", "os.chflags", "os.setxattr", "subprocess.", "socket.", "pty.", "shutil.", "ftplib.", "urllib.",
    "http.", "smtplib.", "webbrowser.", "sqlite3.", "ensurepip.", "syslog.", "signal.pthread_kill",
    # Our own readers look classes up themselves: whoever raises this reads a pickle that nobody has looked at.
    "pickle.find_class",
)  # fmt: skip


def isolate(limits: dict[str, int]) -> list[str]:
    """Give up network, privileges and writing; return what could be given up."""
    # First: afterwards there is no file that could be written, nor a process that could be started.
    done = [*_namespaces(), *_landlock()]
    for name in ("AS", "CPU", "NOFILE", "FSIZE", "CORE", "NPROC"):
        limit = limits.get(name, 0)
        try:
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limit, limit))
            done.append(f"limit {name}")
        except (ValueError, OSError):
            continue
    sys.addaudithook(_audit)
    return [*done, "audit hook"]


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _namespaces() -> list[str]:
    for flags in (_CLONE_NEWUSER | _CLONE_NEWNET, _CLONE_NEWNET):
        if sys.platform == "linux" and _libc().unshare(flags) == 0:
            return ["no network"] + (["no privileges"] if flags & _CLONE_NEWUSER else [])
    return []


def _landlock() -> list[str]:
    """Forbid writing and executing any file, and TCP: https://docs.kernel.org/userspace-api/landlock.html."""
    if sys.platform != "linux":
        return []
    libc = _libc()
    version = libc.syscall(444, None, 0, 1)
    if version < 1:
        return []
    fields = [_LANDLOCK_WRITES[min(version, 3)]] + ([_LANDLOCK_TCP] if version >= 4 else [])
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    rules = libc.syscall(444, attributes, len(attributes), 0)
    if rules < 0 or libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return []
    applied = libc.syscall(446, rules, 0) == 0
    os.close(rules)
    return ["no writing or executing"] if applied else []


def _audit(event: str, args: Any) -> None:
    if event.startswith(_REFUSED_EVENTS) or (event == "open" and _writes(args)):
        raise PermissionError(f"{event} is not allowed here")
    if event in ("exec", "marshal.loads") and _is_text(*args[:1]) and not _importing():
        raise PermissionError("code that comes from no module is not run here")


def _is_text(code: Any) -> bool:
    """Tell whether code, or what is to become some, was not read from a module's file."""
    return str(getattr(code, "co_filename", "<bytes>")).startswith("<")


def _importing() -> bool:
    """Tell whether a module is being imported: named tuples and data classes make their methods of text then."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _writes(args: Any) -> bool:
    mode, flags = (*args, None, None)[1:3]
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))


def _part(name: str) -> Any:
    """Load a neighbour of this file: its folder must not be where modules are looked for (it has an `http.py`)."""
    spec = importlib.util.spec_from_file_location(name, str(Path(__file__).with_name(f"{name}.py")))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def work(order: dict[str, Any]) -> dict[str, Any]:
    """Look at the file, load it, and do with it what was ordered."""
    pickles, tasks = _part("model_sandbox_pickle"), _part("model_sandbox_work")
    # Now, while reading is all that is left to do: what numpy and others need is loaded under the restrictions too.
    told: dict[str, Any] = {"isolation": isolate(order["limits"])}
    with Path(order["path"]).open("rb") as file:
        data = file.read(order["max_bytes"] + 1)
    if len(data) > order["max_bytes"]:
        return {**told, "why": "size", "detail": f"larger than {order['max_bytes']} bytes"}
    if (seen := hashlib.sha256(data).hexdigest()) != order["sha256"]:
        return {**told, "why": "hash", "detail": f"sha256 {seen[:12]}, expected {order['sha256'][:12]}"}
    try:
        return {**told, **_loaded(order, data, pickles, tasks)}
    except pickles.Refused as error:
        return {**told, "why": "refused", "detail": str(error)}
    except MemoryError:
        return {**told, "why": "memory", "detail": f"needs more than {order['limits']['AS'] >> 20} MiB"}
    except Exception as error:
        told["trace"] = traceback.format_exc(limit=-4)[-2000:]
        return {**told, "why": "error", "detail": f"{type(error).__name__}: {error}"[:500]}


def _loaded(order: dict[str, Any], data: bytes, pickles: Any, tasks: Any) -> dict[str, Any]:
    extra = tuple(order["allow"])
    data = pickles.unpacked(data, order["max_bytes"])
    found = pickles.imports(data)
    if bad := sorted(name for name in found if not pickles.allowed(*name.rsplit(".", 1), extra)):
        return {"why": "refused", "detail": f"it asks for {', '.join(bad[:5])}", "imports": bad}
    model = pickles.read(data, extra, joblib=pickles.WRAPPER in found)
    told = {"ok": True, "kind": f"{type(model).__module__}.{type(model).__qualname__}", "imports": sorted(found)}
    return {**told, **tasks.carry_out(order, model)}


def main(path: str) -> int:
    """Carry out the order in a file and write the answer to standard output."""
    with Path(path).open(encoding="utf-8") as file:
        order = json.load(file)
    # It may hold rows about people, and whoever made it may be killed before it is cleared away.
    Path(path).unlink()
    answers = os.dup(1)
    # What a library prints must not be taken for the answer.
    os.dup2(2, 1)
    answer = json.dumps(work(order)).encode()
    while answer:
        answer = answer[os.write(answers, answer) :]
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
