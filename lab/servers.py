"""All servers of the lab in one place."""

from lab.cache_server import RedisServer
from lab.object_store import ObjectStoreServer
from lab.postgres import PostgresServer
from lab.process import LabError, Server, scratch_folder

__all__ = ["LabError", "ObjectStoreServer", "PostgresServer", "RedisServer", "Server", "scratch_folder"]
