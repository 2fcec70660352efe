"""What a pickled model would import and call, found out without doing it; then reading it with only that allowed.

Part of the restricted process (`model_sandbox_child`); nothing of this package is imported here, and any Python from
3.8 on can run it. Two gates, of which the second does not trust the first:

1. `imports` runs the pickle on a machine that makes stand-ins where a real one imports and calls. Also what joblib puts
   between the opcodes (raw arrays, pickles within pickles for arrays of objects) is gone through.
2. `read` is an unpickler that finds classes of the known libraries only, and a few functions by which they rebuild
   arrays. A prefix alone would not do: `numpy.memmap` overwrites files, `pandas.eval` and `numpy.testing` run code.
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import pickle
import zlib
from typing import Any

ROOTS = ("numpy", "scipy", "sklearn", "pandas", "xgboost", "lightgbm", "joblib")
# Modules below these that open files, start programs, load code or run text.
FORBIDDEN = (
    "numpy.f2py", "numpy.distutils", "numpy.testing", "numpy.ctypeslib", "numpy.lib._datasource", "numpy.lib.npyio",
    "numpy.lib._npyio_impl", "numpy._core.memmap", "numpy.core.memmap", "numpy.conftest", "numpy.compat",
    "scipy.io", "scipy._lib", "scipy.weave", "scipy.conftest", "scipy.datasets",
    "scipy.stats._distn_infrastructure",
    "sklearn.datasets", "sklearn.externals", "sklearn.conftest", "sklearn.utils._testing", "sklearn._build_utils",
    "pandas.io", "pandas.compat", "pandas.conftest", "pandas.util", "pandas.testing", "pandas._testing",
    "pandas.plotting", "pandas.core.computation",
    "xgboost.testing", "xgboost.dask", "xgboost.spark", "lightgbm.dask", "joblib",
)  # fmt: skip
# A distribution's state holds the text of a function, which is run when it is set. Every distribution inherits that.
_RUN_THEIR_STATE = "scipy.stats._distn_infrastructure"
FUNCTIONS = frozenset(
    {
        "copyreg._reconstructor", "_codecs.encode",
        "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct",
        "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar",
        "numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer",
        "numpy.random._pickle.__randomstate_ctor", "numpy.random._pickle.__generator_ctor",
        "numpy.random._pickle.__bit_generator_ctor",
        "pandas._libs.internals._unpickle_block", "pandas.core.indexes.base._new_Index",
        "sklearn.metrics._dist_metrics.newObj", "sklearn.neighbors._kd_tree.newObj",
        "sklearn.neighbors._ball_tree.newObj",
    }
)  # fmt: skip
CLASSES = frozenset(
    {f"{module}.{name}" for module in ("builtins", "__builtin__") for name in (
        "object", "set", "frozenset", "list", "dict", "tuple", "bytearray", "bytes", "str", "int", "float", "bool",
        "complex", "slice", "range",
    )}
    | {
        "collections.OrderedDict", "collections.defaultdict", "collections.Counter", "datetime.datetime",
        "datetime.date", "datetime.timedelta", "datetime.timezone", "decimal.Decimal", "fractions.Fraction",
        "joblib.numpy_pickle.NumpyArrayWrapper",
    }
)  # fmt: skip
WRAPPER = "joblib.numpy_pickle.NumpyArrayWrapper"
# Cython writes such a function beside each of its classes; it makes an object of that class only.
_CYTHON = "__pyx_unpickle_"
# The one that is written in Python and can be overridden step by step; joblib builds upon it too.
_PYTHON_UNPICKLER: Any = vars(pickle)["_Unpickler"]


class Refused(Exception):
    """The file would do something that no model needs."""


def allowed(module: str, name: str, extra: tuple[str, ...] = ()) -> bool:
    """Tell whether a pickle may ask for `module.name`, by the names alone; `extra` are further names in full."""
    full = f"{module}.{name}"
    if full in CLASSES or full in FUNCTIONS or full in extra:
        return True
    # A dotted name would walk from an allowed module to whatever that has imported.
    if "." in name or module.split(".", 1)[0] not in ROOTS:
        return False
    parts = module.split(".")
    opens = name in ("memmap", "DataSource", "eval", "query") or name.startswith("read_")
    inside = any(module == bad or module.startswith(bad + ".") for bad in FORBIDDEN)
    return not (inside or opens or "tests" in parts)


def unpacked(data: bytes, limit: int) -> bytes:
    """Return the bytes of a file that joblib or somebody else has compressed.

    :raises Refused: it would become larger than `limit` bytes.
    """
    openers: dict[bytes, Any] = {
        b"\x1f\x8b": gzip.open,
        b"BZ": bz2.BZ2File,
        b"\xfd7": lzma.LZMAFile,
        b"]\x00": lzma.LZMAFile,
    }
    if data[:1] == b"\x78" and data[:2] in (b"x\x01", b"x^", b"x\x9c", b"x\xda"):
        step = zlib.decompressobj()
        whole = step.decompress(data, limit + 1)
    elif opener := openers.get(data[:2]):
        with opener(io.BytesIO(data)) as file:
            whole = file.read(limit + 1)
    else:
        whole = data
    if len(whole) > limit:
        raise Refused(f"it unpacks to more than {limit} bytes")
    return whole


class Global:
    """Stands for what an import would give."""

    def __init__(self, name: str) -> None:
        self.name = name


class Made:
    """Stands for what a call would give, with what is then put into it."""

    def __init__(self, called: Any, args: Any = ()) -> None:
        if not isinstance(called, Global):
            raise Refused(f"it calls {type(called).__name__}, which is no imported class or function")
        self.name, self.args, self.state = called.name, args, None

    def swallow(self, *_: Any) -> None:
        """Take items as lists, sets and dictionaries do."""

    append = extend = add = update = __setitem__ = swallow


class _Machine(_PYTHON_UNPICKLER):  # type: ignore[misc]
    """Goes through a pickle; imports and calls become stand-ins."""

    dispatch = _PYTHON_UNPICKLER.dispatch.copy()

    def __init__(self, file: Any, found: set[str], depth: int = 0) -> None:
        if depth > 20:
            raise Refused("it nests pickles more than 20 deep")
        super().__init__(file)
        self._source, self._found, self._depth = file, found, depth

    def find_class(self, module: str, name: str) -> Any:
        """Note an import."""
        self._found.add(f"{module}.{name}")
        return Global(f"{module}.{name}")

    def persistent_load(self, _: Any) -> None:
        """Refuse what only the program that wrote the file could find."""
        raise Refused("it refers to an object outside the file")

    def get_extension(self, code: int) -> None:
        """Refuse what another program's registry would name."""
        raise Refused(f"it uses extension code {code}")

    def _instantiate(self, klass: Any, args: Any) -> None:
        self.append(Made(klass, args))

    def load_reduce(self) -> None:
        """A call."""
        args = self.stack.pop()
        self.stack[-1] = Made(self.stack[-1], args)

    def load_newobj(self) -> None:
        """A new object."""
        self.load_reduce()

    def load_newobj_ex(self) -> None:
        """A new object with named arguments."""
        self.stack.pop()
        self.load_reduce()

    def load_build(self) -> None:
        """State for an object; after that of joblib's wrapper follows the array itself."""
        state, holder = self.stack.pop(), self.stack[-1]
        if not isinstance(holder, Made):
            raise Refused("it sets attributes of a class or function")
        holder.state = state
        if holder.name == WRAPPER:
            self._skip_array(state)

    def _skip_array(self, state: Any) -> None:
        dtype = state["dtype"]
        size, objects = _item(dtype)
        if objects:
            _Machine(self._source, self._found, self._depth + 1).load()
            return
        if state.get("numpy_array_alignment_bytes") is not None:
            self._source.read(self._source.read(1)[0])
        count = 1
        for length in state["shape"]:
            count *= int(length.args[1] if isinstance(length, Made) else length)
        if len(self._source.read(count * size)) != count * size:
            raise Refused("an array is shorter than it says")

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex
    dispatch[pickle.BUILD[0]] = load_build


def _item(dtype: Any) -> tuple[int, bool]:
    """Return the bytes of one element of a pickled numpy dtype, and whether it holds objects."""
    if not isinstance(dtype, Made) or dtype.name != "numpy.dtype" or not dtype.args:
        raise Refused("an array of a type that is not numpy's")
    code = str(dtype.args[0])
    state = dtype.state if isinstance(dtype.state, tuple) else ()
    if code[:1] == "O" or (len(state) > 7 and isinstance(state[7], int) and state[7] & 1):
        return 0, True
    if len(state) > 5 and isinstance(state[5], int) and state[5] > 0:
        return state[5], False
    return int(code[1:]), False


def imports(data: bytes) -> set[str]:
    """Return the full names of everything a pickle would import.

    :raises Refused: it would do more than making objects of imported classes.
    :raises Exception: it is no pickle, or a damaged one.
    """
    found: set[str] = set()
    _Machine(io.BytesIO(data), found).load()
    return found


def find(module: str, name: str, extra: tuple[str, ...]) -> Any:
    """Import what a pickle asks for.

    :raises Refused: it may not have it.
    """
    full = f"{module}.{name}"
    if not allowed(module, name, extra):
        raise Refused(f"{full} is not allowed")
    found = importlib.import_module({"__builtin__": "builtins"}.get(module, module))
    for part in name.split("."):
        found = getattr(found, part)
    if full in FUNCTIONS | CLASSES or full in extra or name.startswith(_CYTHON) or type(found).__name__ == "ufunc":
        return found
    home = getattr(found, "__module__", "") or ""
    if not isinstance(found, type) or issubclass(found, (type, io.IOBase, BaseException)):
        raise Refused(f"{full} is no class of a model")
    # A module offers under its own name what it has imported from others.
    if home.split(".")[0] not in ROOTS or not allowed(home, found.__name__, extra):
        raise Refused(f"{full} is {home}.{found.__qualname__}, which is not allowed")
    if any(base.__module__ == _RUN_THEIR_STATE for base in found.__mro__):
        raise Refused(f"{full} is a statistical distribution, which runs text of the file as code")
    return found


def read(data: bytes, extra: tuple[str, ...], *, joblib: bool) -> Any:
    """Read a pickle with only what is allowed.

    :raises Refused: it asks for something else.
    """
    if not joblib:

        class Plain(pickle.Unpickler):
            def find_class(self, module: str, name: str) -> Any:
                return find(module, name, extra)

        return Plain(io.BytesIO(data)).load()
    return _read_joblib(data, extra)


def _read_joblib(data: bytes, extra: tuple[str, ...]) -> Any:
    numpy_pickle = importlib.import_module("joblib.numpy_pickle")
    base = numpy_pickle.NumpyUnpickler

    def find_class(_: Any, module: str, name: str) -> Any:
        return find(module, name, extra)

    class Inner:
        """What joblib's module knows as `pickle`: before 1.6 it read arrays of objects with the library's own load."""

        def __getattr__(self, name: str) -> Any:
            return getattr(pickle, name)

        @staticmethod
        def load(file: Any) -> Any:
            reader = type("Nested", (_PYTHON_UNPICKLER,), {"find_class": find_class})(file)
            return reader.load()

    setattr(numpy_pickle, "pickle", Inner())  # noqa: B010 # in this process only, which ends after this file
    reader = type("Restricted", (base,), {"find_class": find_class})
    try:
        return reader("", io.BytesIO(data), False).load()
    except TypeError:  # joblib before 1.5 knows no byte order
        return reader("", io.BytesIO(data)).load()
