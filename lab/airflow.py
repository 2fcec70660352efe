"""A real Airflow of its own: API server, scheduler, DAG processor and triggerer, each a process of the lab."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from lab.process import LabError, Server, write_private

ROOT = Path(__file__).resolve().parent.parent
ENDED = ("success", "failed")


class _Component(Server):
    """One Airflow process."""

    ports_needed: tuple[str, ...] = ()
    # Airflow gives running tasks time to end at SIGTERM.
    stop_steps = ((signal.SIGTERM, 20.0), (signal.SIGKILL, 5.0))

    def __init__(self, name: str, folder: Path, env: dict[str, str], port: int | None = None) -> None:
        super().__init__(folder / name, port)
        self.name, self.env = name, env

    def command(self) -> list[str]:
        program = [sys.executable, str(Path(sysconfig.get_path("scripts")) / "airflow"), self.name]
        return [*program, "--port", str(self.port), "--host", "127.0.0.1"] if self.name == "api-server" else program

    def spawn_options(self) -> dict[str, Any]:
        return {"env": self.env, "cwd": self.env["AIRFLOW_HOME"]}

    def check_ready(self) -> None:
        if self.name == "api-server":
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v2/version", timeout=2):
                pass


class _ApiServer(_Component):
    ports_needed = ("main",)


class Airflow:
    """Airflow in a folder, as a context manager or with `start` and `stop`; runs are started and read over REST.

    Everybody who reaches 127.0.0.1 is an admin: it is a lab. `metadata_url` is SQLAlchemy's address of the database.
    """

    def __init__(
        self,
        folder: str | Path,
        dags: str | Path = ROOT / "dags",
        metadata_url: str | None = None,
        env: Mapping[str, str] | None = None,
        plugins: str | Path = ROOT / "plugins",
    ) -> None:
        self.folder = Path(folder).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.env = self._environment(Path(dags), Path(plugins), metadata_url) | dict(env or {})
        self.api = _ApiServer("api-server", self.folder, self.env)
        self.others = [_Component(name, self.folder, self.env) for name in ("scheduler", "dag-processor", "triggerer")]
        self._token = ""

    @property
    def url(self) -> str:
        """The address of the user interface."""
        return f"http://127.0.0.1:{self.api.port}"

    @property
    def pids(self) -> dict[str, int]:
        """The process of each component."""
        return {part.name: part.pid for part in (self.api, *self.others)}

    def start(self) -> Self:
        """Migrate the metadata database when needed and start everything."""
        marker = self.folder / "migrated"
        wanted = f"{self._airflow_version()} {self.env['AIRFLOW__DATABASE__SQL_ALCHEMY_CONN']}"
        if not marker.exists() or marker.read_text() != wanted:
            self.command("db", "migrate")
            write_private(marker, wanted)
        self.api._state["ports"] = self.api._choose_ports(fresh=False)
        for part in (self.api, *self.others):
            part.env["AIRFLOW__API__BASE_URL"] = self.url
            part.env["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] = f"{self.url}/execution/"
        for part in self.others:
            part.start()
        self.api._wanted = self.api.port
        self.api.start()
        return self

    def stop(self) -> None:
        """End every component in good order."""
        with ThreadPoolExecutor(len(self.others)) as pool:
            list(pool.map(_Component.stop, self.others))
        self.api.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def command(self, *words: str) -> str:
        """Run an `airflow` command and return what it printed. :raises LabError: it failed."""
        program = str(Path(sysconfig.get_path("scripts")) / "airflow")
        done = subprocess.run(
            [sys.executable, program, *words],
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LabError(
                f"airflow {' '.join(words)} failed ({done.returncode}):\n{(done.stdout + done.stderr)[-3000:]}"
            )
        return done.stdout

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Call Airflow's REST API. :raises LabError: it answered with an error."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/api/v2/{path}", data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise LabError(f"{method} {path}: {error.code} {error.read().decode(errors='replace')[:1000]}") from error
        return json.loads(text) if text else None

    def wait_for_dag(self, dag_id: str, seconds: float = 90) -> None:
        """Wait until the DAG processor has delivered a DAG. :raises LabError: it has not, with the import errors."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.request("GET", f"dags/{dag_id}")
                return
            except LabError:
                if time.monotonic() > deadline:
                    errors = self.request("GET", "importErrors")["import_errors"]
                    raise LabError(f"{dag_id} did not appear in {seconds:.0f} s; import errors: {errors}") from None
                time.sleep(0.3)

    def unpause(self, dag_id: str) -> None:
        """Let the scheduler run a DAG; the newest window's scheduled run follows at once."""
        self.request("PATCH", f"dags/{dag_id}", {"is_paused": False})

    def is_paused(self, dag_id: str) -> bool:
        """Tell whether the scheduler leaves a DAG alone."""
        return bool(self.request("GET", f"dags/{dag_id}")["is_paused"])

    def trigger(self, dag_id: str, params: Mapping[str, Any] | None = None) -> str:
        """Start a manual run and return its id."""
        body = {"logical_date": None, "conf": dict(params or {})}
        return str(self.request("POST", f"dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the runs of a DAG, newest first."""
        return list(self.request("GET", f"dags/{dag_id}/dagRuns?order_by=-run_after&limit=50")["dag_runs"])

    def state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run."""
        return str(self.request("GET", f"dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id)}")["state"])

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run."""
        path = f"dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id)}/taskInstances?limit=1000"
        return list(self.request("GET", path)["task_instances"])

    def wait(self, dag_id: str, run_id: str, seconds: float = 600) -> str:
        """Wait for the end of a run and return its state. :raises LabError: it has not ended in time."""
        deadline = time.monotonic() + seconds
        while (state := self.state(dag_id, run_id)) not in ENDED:
            if time.monotonic() > deadline:
                raise LabError(
                    f"{dag_id} {run_id} is still {state} after {seconds:.0f} s: {self.tasks(dag_id, run_id)}"
                )
            time.sleep(0.5)
        return state

    def log(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, try_number: int = 1) -> str:
        """Return the log of one try of a task."""
        path = (
            f"dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id)}/taskInstances/{task_id}/logs/{try_number}"
            f"?map_index={map_index}&full_content=true"
        )
        content = self.request("GET", path)["content"]
        return "\n".join(str(line.get("event", line)) if isinstance(line, dict) else str(line) for line in content)

    @property
    def token(self) -> str:
        """A token for the REST API and the pages."""
        if not self._token:
            with urllib.request.urlopen(f"{self.url}/auth/token", timeout=30) as answer:
                self._token = str(json.loads(answer.read())["access_token"])
        return self._token

    def _environment(self, dags: Path, plugins: Path, metadata_url: str | None) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "PG"))}
        keys = self._secrets()
        return kept | {
            "AIRFLOW_HOME": str(self.folder),
            "PYTHONPATH": os.pathsep.join([str(plugins), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(plugins),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__FERNET_KEY": keys["fernet"],
            "AIRFLOW__API_AUTH__JWT_SECRET": keys["jwt"],
            "AIRFLOW__API__SECRET_KEY": keys["api"],
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata_url or f"sqlite:///{self.folder}/airflow.db",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
            # How long a task's supervisor may sleep before it sees that its task has ended; the default is 5 s.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.folder / "logs"),
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        }

    def _secrets(self) -> dict[str, str]:
        """Return keys that stay the same from one start to the next."""
        import base64

        path = self.folder / "keys.json"
        if not path.exists():
            fernet = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
            keys = {"fernet": fernet, "jwt": secrets.token_hex(32), "api": secrets.token_hex(32)}
            write_private(path, json.dumps(keys))
        return dict(json.loads(path.read_text()))

    @staticmethod
    def _airflow_version() -> str:
        from importlib.metadata import version

        return version("apache-airflow-core")
