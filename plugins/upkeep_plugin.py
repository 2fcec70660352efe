"""What this package adds to Airflow's pages: the list of maintenance runs, and the report on every run's page.

Every component of Airflow imports this file, so the app itself is made when somebody first asks for a page.
"""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

# A sheet with a tick, drawn here: an icon from elsewhere would be a request to elsewhere.
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='{ink}'"
    " stroke-width='2' stroke-linecap='round' stroke-linejoin='round'%3E%3Cpath d='M6 2h9l5 5v15H6z'/%3E"
    "%3Cpath d='M9 14l3 3 5-6'/%3E%3C/svg%3E"
)


class LazyApp:
    """An ASGI app that imports what it needs with its first request."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if self._app is None:
            from upkeep.web.app import make_app

            self._app = make_app()
        await self._app(scope, receive, send)


class UpkeepPlugin(AirflowPlugin):
    """Views and nothing else: DAGs and operators are imported as a package."""

    name = "upkeep"
    fastapi_apps = [{"app": LazyApp(), "url_prefix": "/upkeep", "name": "upkeep"}]
    # The addresses are relative on purpose: Airflow may be served below a path. It fills in and encodes the names in
    # braces. They stand in the query because a run's id may hold a slash, which a path would not survive.
    external_views = [
        {
            "name": "Maintenance",
            "href": "upkeep/",
            "destination": "nav",
            "nav_top_level": True,
            "icon": _ICON.format(ink="%237c8aa0"),
            "icon_dark_mode": _ICON.format(ink="%23b4becd"),
            "url_route": "maintenance",
        },
        {
            "name": "Report",
            "href": "upkeep/report?dag_id={DAG_ID}&run_id={RUN_ID}",
            "destination": "dag_run",
            "icon": _ICON.format(ink="%237c8aa0"),
            "icon_dark_mode": _ICON.format(ink="%23b4becd"),
            "url_route": "maintenance-report",
        },
    ]
