"""Settings of the review of access logs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from upkeep.core.access_log import AccessOptions
from upkeep.core.model import Model, Threshold

Loud = Literal["info", "warning", "critical"]


class AccessLimits(Model):
    """What in an access log is trouble, and how much of it is too much. Counts are of one window."""

    options: AccessOptions = Field(AccessOptions(), description="how the log is read, and which paths are of which use")
    least_requests: int = Field(50, ge=1, description="requests below which a rate or a percentile says nothing")
    server_errors: Threshold = Field(
        Threshold(info=0.5, warning=1, critical=5),
        description="percent of the requests answered 5xx (CM-T01, CL-D09: 1 %; campus: 5 % is critical)",
    )
    client_errors: Threshold = Field(
        Threshold(info=5, warning=50), description="percent of the requests answered 4xx; scanners make some everywhere"
    )
    response_time: Threshold = Field(
        Threshold(info=1, warning=2, critical=5), description="p95 of all requests, in seconds (CM-T01: 1, 2 and 5 s)"
    )
    route_time: Threshold = Field(
        Threshold(info=2, warning=5), description="p95 of one route, in seconds; some (exports) may take long"
    )
    route_errors: Threshold = Field(
        Threshold(info=1, warning=5, critical=50), description="percent of one route's requests answered 5xx"
    )
    burst: Threshold = Field(
        Threshold(info=20, warning=100), description="401 and 403 of one client within `options.burst_minutes`"
    )
    failed_logins: Threshold = Field(
        Threshold(info=10, warning=50), description="percent of the logins that failed (CL-D11, CM-W05)"
    )
    client_logins: Threshold = Field(
        Threshold(info=5, warning=20, critical=1000), description="failed logins of one client: somebody guesses"
    )
    tokens: Threshold = Field(
        Threshold(info=20, warning=50), description="percent of the requests for tokens that were refused (CL-D10)"
    )
    uploads: Threshold = Field(
        Threshold(info=10, warning=50), description="percent of the uploads answered 4xx or 5xx (CL-D12)"
    )
    writes: Threshold = Field(
        Threshold(info=5, warning=50), description="percent of POST, PUT, PATCH and DELETE answered 4xx or 5xx (ST-E03)"
    )
    attack: Loud = Field("warning", description="an attack's signature was answered 2xx or 5xx; others only inform")
    probe: Loud = Field("warning", description="a file that only scanners ask for was answered 2xx")
    leak: Loud = Field("warning", description="a secret stands in an address")
    own_hosts: tuple[str, ...] = Field(
        (), description="hosts whose pages may send forms here; none given: those of which any form was accepted"
    )
    foreign_writes: Threshold = Field(
        Threshold(info=0, warning=20), description="writing requests from one foreign page that were refused with 403"
    )
    unparsed: Threshold = Field(
        Threshold(info=0, warning=5), description="percent of the lines that do not have the declared format"
    )
    suspicious: int = Field(50, ge=1, description="score from which a client is named (see `score`)")
    top: int = Field(10, ge=1, le=100, description="clients, routes and requests that are named, of each kind")
