"""Where the Docker daemon of restore tests is, by an Airflow connection."""

from __future__ import annotations

import json

import pytest

from upkeep.core.errors import ConfigurationError
from upkeep.operators import wiring


@pytest.mark.parametrize(
    ("connection", "address"),
    [
        ({"conn_type": "docker"}, "unix:///var/run/docker.sock"),
        ({"conn_type": "docker", "host": "unix:///srv/docker.sock"}, "unix:///srv/docker.sock"),
        ({"conn_type": "docker", "host": "/srv/docker.sock"}, "unix:///srv/docker.sock"),
        ({"conn_type": "docker", "host": "tcp://far:2376"}, "tcp://far:2376"),
        ({"conn_type": "docker", "host": "far", "port": 2376}, "tcp://far:2376"),
    ],
)
def test_host_of_the_connection_is_the_address(
    monkeypatch: pytest.MonkeyPatch, connection: dict[str, object], address: str
) -> None:
    """An address or the path of a socket; nothing means this machine's usual socket."""
    monkeypatch.setenv("AIRFLOW_CONN_ENGINE", json.dumps(connection))
    assert wiring.docker_address("engine") == address


def test_no_connection_means_the_usual_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a connection id nothing is looked up; one of another type is refused."""
    assert wiring.docker_address("") == "unix:///var/run/docker.sock"
    monkeypatch.setenv("AIRFLOW_CONN_ENGINE", "postgres://u@db/x")
    with pytest.raises(ConfigurationError, match="expected docker"):
        wiring.docker_address("engine")
