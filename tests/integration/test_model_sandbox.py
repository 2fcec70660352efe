"""Loading model files in the restricted process: real models load, and no pickle executes anything."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import marshal
import os
import pickle
import time
import warnings
import zlib
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from upkeep.adapters.model_sandbox import ModelSandbox
from upkeep.core.model_health import Answer, Confined, LabelledRows

DICE = np.random.default_rng(7)
X = np.abs(DICE.normal(size=(60, 3)))
Y = (X[:, 0] > X[:, 1]).astype(int)


@pytest.fixture
def sandbox(tmp_path: Path) -> ModelSandbox:
    (tmp_path / "scratch").mkdir()
    return ModelSandbox(tmp_path / "scratch")


def load(sandbox: ModelSandbox, path: Path, **how: Any) -> Answer:
    return sandbox.load(str(path), hashlib.sha256(path.read_bytes()).hexdigest(), Confined(seconds=30, **how))


def pickled(value: Any, protocol: int = 4) -> bytes:
    return pickle.dumps(value, protocol=protocol)


MODELS = [
    LogisticRegression(),
    RandomForestClassifier(4, n_jobs=4, random_state=np.random.RandomState(1)),
    HistGradientBoostingClassifier(max_iter=2, random_state=3),
    make_pipeline(FunctionTransformer(np.log1p), StandardScaler(), SVC()),
    KNeighborsClassifier(algorithm="kd_tree"),
    GradientBoostingClassifier(n_estimators=2),
]


@pytest.mark.parametrize(
    ("model", "how"),
    [(model, "joblib") for model in MODELS]
    + [(MODELS[1], how) for how in ("pickle 2", "pickle 5")]
    + [(MODELS[0], f"joblib {how}") for how in ("zlib", "gzip", "bz2", "lzma", "xz")],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_real_models_load(sandbox: ModelSandbox, tmp_path: Path, model: Any, how: str):
    """Models of scikit-learn load, as pickles of old and new protocols and as joblib writes them."""
    path = tmp_path / "model.pkl"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, Y)
    if how.startswith("pickle"):
        path.write_bytes(pickled(model, int(how[-1])))
    else:
        joblib.dump(model, path, compress=(how.split()[1], 3) if " " in how else 0)
    answer = load(sandbox, path)
    assert answer.ok, answer
    assert answer.kind.endswith(type(model).__name__)


def test_arrays_of_objects_load(sandbox: ModelSandbox, tmp_path: Path):
    """Categories as text are arrays of objects: pickles within the file that joblib writes."""
    rows = np.array([["a", 1.0], ["b", 2.0], ["c", 3.0]] * 4, dtype=object)
    model = make_pipeline(make_column_transformer((OneHotEncoder(), [0]), remainder="passthrough"), LinearRegression())
    model.fit(rows, range(12))
    joblib.dump(model, tmp_path / "a.joblib")
    assert load(sandbox, tmp_path / "a.joblib").ok


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


def command(mark: Path) -> str:
    return f"touch {mark}"


def hostile(mark: Path) -> dict[str, bytes]:
    """Return pickles each of which makes a file when it is loaded by `pickle.load` or `joblib.load`."""
    touch, python = command(mark), f"open({str(mark)!r}, 'w').close()"
    system, run = Call(os.system, touch), Call(eval, python)
    array = np.array([1, run], dtype=object)
    buffer, packed = io.BytesIO(), io.BytesIO()
    joblib.dump({"weights": np.arange(5.0), "model": array}, buffer)
    joblib.dump([np.arange(3), system], packed, compress=3)
    forbidden = b"cnumpy.testing._private.utils\nrunstring\n"
    return {
        "os.system": pickled(system),
        "os.system, protocol 0": pickled(system, 0),
        "eval": pickled(run),
        "exec in a list in a dict": pickled({"a": [1, {"b": Call(exec, python)}]}),
        "INST": f"(S{touch!r}\nios\nsystem\n.".encode(),
        "OBJ": f"(cos\nsystem\nS{touch!r}\no.".encode(),
        "STACK_GLOBAL": b"\x8c\x05posix\x8c\x06system\x93" + pickle.dumps(touch, 3)[2:-1] + b"\x85R.",
        "getattr": b"cbuiltins\ngetattr\n(cos\nsystem\nS'a'\ntR.",
        "import": pickled(Call(__import__, "antigravity")),
        "dotted name": b"\x80\x04\x8c\x0bnumpy.rando\x94\x30\x8c\x05numpy\x8c\x0cos.path.join\x93.",
        "a module's own import": b"cnumpy.lib._npyio_impl\nos\n.",
        "object array": pickled(array),
        "object array in joblib": buffer.getvalue(),
        "joblib, compressed": packed.getvalue(),
        "numpy.testing": forbidden + f"(S{python!r}\n}}tR.".encode(),
        "numpy.memmap": b"cnumpy\nmemmap\n(S" + repr(str(mark)).encode() + b"\nS'float64'\nS'w+'\nI0\n(I9\nttR.",
        "pandas.eval": b"cpandas\neval\n(S'1+1'\ntR.",
        "pandas.read_pickle": b"cpandas\nread_pickle\n(S'/etc/hostname'\ntR.",
        "subprocess below joblib": b"cjoblib.externals.loky.backend.popen_loky_posix\nPopen\n.",
        "method on a class": b"csklearn.svm\nSVC\n}S'predict'\ncsklearn.svm\nSVC\nsb.",
        "extension registry": b"\x80\x02\x82\x01.",
        "persistent id": b"\x80\x02K\x01Q.",
        "metaclass": b"cnumpy\ndtype\n(cbuiltins\ntype\ntR.",
        "nested pickle": pickled(Call(pickle.loads, pickled(system))),
        "zlib": zlib.compress(pickled(system)),
        "gzip": gzip.compress(pickled(system)),
        "distribution": stated("scipy.stats\nrv_continuous", {"_parse_arg_template": python}),
        "distribution, by its own class": stated(
            "scipy.stats._continuous_distns\nnorm_gen", {"_parse_arg_template": python}
        ),
    }


def stated(name: str, state: dict[str, Any]) -> bytes:
    """Return a pickle that makes an object without arguments and sets its state."""
    return b"\x80\x02c" + name.encode() + b"\n)\x81" + pickle.dumps(state, 2)[2:-1] + b"b."


@pytest.mark.parametrize("name", hostile(Path("x")))
def test_no_pickle_executes_anything(sandbox: ModelSandbox, tmp_path: Path, name: str):
    """A file that would run something is refused, what it asks for is named, and nothing ran."""
    mark, path = tmp_path / "ran", tmp_path / "model.pkl"
    path.write_bytes(hostile(mark)[name])
    answer = load(sandbox, path)
    assert not answer.ok and answer.why == "refused", answer
    assert not mark.exists()


def test_the_hostile_ones_are_hostile(tmp_path: Path):
    """The samples do run something where nobody restricts them: the test above would see it."""
    mark = tmp_path / "ran"
    for name in ("os.system", "eval", "INST", "STACK_GLOBAL", "object array", "distribution"):
        with contextlib.suppress(KeyError):  # the distribution misses what the text should have defined
            pickle.loads(hostile(mark)[name])
        assert mark.exists(), name
        mark.unlink()
    joblib.load(io.BytesIO(hostile(mark)["object array in joblib"]))
    assert mark.exists()


def test_what_gets_past_the_list_still_runs_nothing(sandbox: ModelSandbox, tmp_path: Path):
    """Were a function allowed by mistake, the process itself can neither start programs nor write nor connect."""
    mark, path = tmp_path / "ran", tmp_path / "model.pkl"
    path.write_bytes(hostile(mark)["os.system"])
    answer = load(sandbox, path, allow=("posix.system",))
    assert (answer.why, mark.exists()) == ("error", False) and "os.system" in answer.detail
    path.write_bytes(pickled(Call(open, str(mark), "w")))
    answer = load(sandbox, path, allow=("builtins.open", "io.open", "_io.open"))
    assert (answer.why, mark.exists()) == ("error", False)
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        path.write_bytes(pickled(Call(socket.create_connection, server.getsockname())))
        answer = load(sandbox, path, allow=("socket.create_connection",))
    assert answer.why == "error" and "socket" in answer.detail


def test_no_text_and_no_further_pickle_becomes_code(sandbox: ModelSandbox, tmp_path: Path):
    """Were a way to `exec` or to another pickle overlooked in a library, what it leads to would not run."""
    mark, path = tmp_path / "ran", tmp_path / "model.pkl"
    for what, allow in (
        (Call(exec, "raise SystemError('ran')"), "builtins.exec"),
        (Call(eval, "[].no"), "builtins.eval"),
        (Call(marshal.loads, marshal.dumps(compile("1", "a.py", "eval"))), "marshal.loads"),
        (Call(pickle.loads, pickled(os.getpid)), "_pickle.loads"),
    ):
        path.write_bytes(pickled(what))
        answer = load(sandbox, path, allow=(allow,))
        assert answer.why == "error" and "PermissionError" in answer.detail, answer
    assert not mark.exists()


def test_the_machine_holds_where_python_does_not(sandbox: ModelSandbox, tmp_path: Path):
    """Below Python, through C: no file is made, no program started; where Linux offers what it takes."""
    import ctypes

    mark, path = tmp_path / "ran", tmp_path / "model.pkl"
    for name, *args in (("creat", str(mark).encode(), 0o600), ("system", command(mark).encode())):
        function = Call(getattr, Call(ctypes.CDLL, None), name)
        path.write_bytes(pickled(Call(list, Call(map, function, *([arg] for arg in args)))))
        answer = load(sandbox, path, allow=("builtins.getattr", "builtins.map", "ctypes.CDLL"))
        assert answer.ok, answer
        if "no writing or executing" not in answer.isolation:
            pytest.skip("this kernel has no Landlock")
        assert not mark.exists()
    descriptor = ctypes.CDLL(None).creat(str(mark).encode(), 0o600)
    assert mark.exists(), "it would have been made here"
    os.close(descriptor)


def test_only_bytes_with_the_known_hash_are_looked_at(sandbox: ModelSandbox, tmp_path: Path):
    """A file that changed after its hash was taken is not loaded."""
    path = tmp_path / "model.pkl"
    path.write_bytes(pickled(LinearRegression()))
    answer = sandbox.load(str(path), "0" * 64, Confined())
    assert (answer.why, answer.kind) == ("hash", "")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "error"),
        (b"garbage", "error"),
        (pickled(LinearRegression())[:-9], "error"),
        (b"\x80\x04\x95" + b"\xff" * 8, "error"),
        (zlib.compress(bytes(30_000_000)), "refused"),
        (gzip.compress(bytes(30_000_000)), "refused"),
        (b"(" * 1000 + b".", "error"),
    ],
    ids=["empty", "garbage", "cut off", "frame of 2^64 bytes", "bomb", "bomb in gzip", "marks"],
)
def test_damaged_files_are_told(sandbox: ModelSandbox, tmp_path: Path, data: bytes, why: str):
    """What is no pickle, is cut off or unpacks to too much is an answer, not a crash."""
    path = tmp_path / "model.pkl"
    path.write_bytes(data)
    assert load(sandbox, path, max_bytes=10_000_000).why == why


def test_time_and_memory_are_limited(sandbox: ModelSandbox, tmp_path: Path):
    """A file that takes for ever or wants all memory is given up."""
    path = tmp_path / "model.pkl"
    path.write_bytes(b"cnumpy\nndarray\n((I200000\nI200000\nttR.")
    assert load(sandbox, path).why in ("memory", "error")
    path.write_bytes(pickled(Call(time.sleep, 60)))
    answer = sandbox.load(
        str(path), hashlib.sha256(path.read_bytes()).hexdigest(), Confined(seconds=1, allow=("time.sleep",))
    )
    assert answer.why == "time"


def test_importance_finds_what_matters(sandbox: ModelSandbox, tmp_path: Path):
    """Shuffling the column that decides costs the score, shuffling noise does not; the same seed gives the same."""
    path = tmp_path / "model.joblib"
    model = LogisticRegression().fit(X, Y)
    joblib.dump(model, path)
    columns = {name: X[:, at].tolist() for at, name in enumerate(("big", "small", "noise"))}
    rows = LabelledRows(columns, Y.tolist(), True)
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    first, again = (sandbox.importance(str(path), sha, Confined(), rows, seed=5, repeats=5) for _ in range(2))
    assert first.importance == again.importance
    assert first.score == pytest.approx(model.score(X, Y), abs=1e-12)
    means = {name: mean for name, (mean, _) in first.importance.items()}
    assert means["big"] > 0.1 and means["small"] > 0.1 and abs(means["noise"]) < 0.05


def test_categories_and_gaps(sandbox: ModelSandbox, tmp_path: Path):
    """A model of numbers with gaps and of categories, trained without names, gets its columns as it knew them."""
    numbers = [None if n % 7 == 0 else float(n % 5) for n in range(60)]
    kinds = ["a" if n % 2 else "b" for n in range(60)]
    rows = np.column_stack([np.array(numbers, dtype=float).astype(object), np.array(kinds, dtype=object)])
    parts = make_column_transformer((SimpleImputer(), [0]), (OneHotEncoder(), [1]))
    truth = [int(kind == "a") for kind in kinds]
    (tmp_path / "m.pkl").write_bytes(pickled(make_pipeline(parts, LogisticRegression()).fit(rows, truth)))
    sha = hashlib.sha256((tmp_path / "m.pkl").read_bytes()).hexdigest()
    asked = LabelledRows({"number": numbers, "kind": kinds}, truth, True)
    answer = sandbox.importance(str(tmp_path / "m.pkl"), sha, Confined(), asked, seed=1, repeats=3)
    assert answer.ok and answer.score == 1.0
    assert answer.importance["kind"][0] > 0.2 and abs(answer.importance["number"][0]) < 0.05


def test_times_are_measured(sandbox: ModelSandbox, tmp_path: Path):
    """Each try is one answer to the sample, without the warm-up."""
    path = tmp_path / "model.pkl"
    path.write_bytes(pickled(LogisticRegression().fit(X, Y)))
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    answer = sandbox.time(str(path), sha, Confined(), {"a": [1.0], "b": [2.0], "c": [0.0]}, tries=7, warm_up=2)
    assert len(answer.milliseconds) == 7 and min(answer.milliseconds) > 0
