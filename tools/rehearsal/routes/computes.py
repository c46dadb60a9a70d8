"""Clusters over the wire, as azureml-core 1.61 asks for them (api-version 2020-02-02)."""

from __future__ import annotations

import difflib
import re
import uuid
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from .. import definition
from ..answers import SCOPE, Call, Refusal, answering
from ..computes import NAME, Compute
from ..identity import PROVIDER
from ..vm_sizes import SIZES, find
from ..workspace import Workspace

LOCATION = f"/subscriptions/{{subscription}}/providers/{PROVIDER}/locations/{{location}}"
PRIORITIES = {"dedicated": "Dedicated", "lowpriority": "LowPriority"}
MOST_NODES = 1000
DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")  # ISO 8601, as far as it is used


def routes(workspace: Workspace) -> list[BaseRoute]:
    """Reads go through the data plane (/rp), changes through the resource manager; both paths take both."""
    clusters = _Clusters(workspace)
    found: list[BaseRoute] = [
        Route(f"{LOCATION}/vmSizes", answering(clusters.sizes)),
        Route(f"{LOCATION}/operations/{{operation}}", answering(clusters.operation)),
    ]
    for scope in (SCOPE, f"/rp/workspaces{SCOPE}"):
        one = f"{scope}/computes/{{name}}"
        found += [
            Route(f"{scope}/computes", answering(clusters.list)),
            Route(one, answering(clusters.get), methods=["GET"]),
            Route(one, answering(clusters.put), methods=["PUT"]),
            Route(one, answering(clusters.change), methods=["PATCH"]),
            Route(one, answering(clusters.delete), methods=["DELETE"]),
            Route(f"{one}/listNodes", answering(clusters.nodes), methods=["POST"]),
        ]
    return found


class _Clusters:
    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.computes = workspace, workspace.computes

    def list(self, call: Call) -> dict[str, Any]:
        """All of them."""
        return {"value": [self._answer(each) for each in self.computes.all()]}

    def get(self, call: Call) -> Any:
        """One, or 404 with nothing in it, as recorded of the service."""
        found = self.computes.get(call.path["name"])
        return self._answer(found) if found else Response(status_code=404)

    def put(self, call: Call) -> Response:
        """ComputeTarget.create: done at once, but told as an operation, as the SDK wants it."""
        name, body = call.path["name"], call.body
        if not NAME.fullmatch(name):
            raise _wrong(f"{name!r} is no name of a cluster: 2 to 24 letters, digits and -, the first a letter")
        outer = body.get("properties") or {}
        if outer.get("computeType") != "AmlCompute":
            raise _wrong(f"the rehearsal workspace has AmlCompute clusters only, not {outer.get('computeType')}")
        inner = outer.get("properties") or {}
        asked = str(inner.get("vmSize") or "STANDARD_D2_V2")
        size = find(asked)
        if size is None:
            near = difflib.get_close_matches(asked.upper(), SIZES, n=3)
            raise _wrong(f"unknown VM size {asked}; near: {', '.join(near) or 'none'} (AmlCompute.supported_vmsizes)")
        there = self.computes.get(name)
        if there and there.vm_size != size.name:
            raise _wrong(f"{there.name} has nodes of {there.vm_size}, which cannot be changed; delete it first")
        priority = PRIORITIES.get(str(inner.get("vmPriority") or "dedicated").lower())
        if priority is None:
            raise _wrong(f"vmPriority {inner.get('vmPriority')!r} is neither dedicated nor lowpriority")
        tags = {str(key): str(value) for key, value in (body.get("tags") or {}).items()}
        made = self.computes.put(
            name,
            vm_size=size.name,
            priority=priority,
            description=outer.get("description"),
            tags=tags,
            **_scale(inner.get("scaleSettings") or {}, there),
        )
        return self._underway(self._answer(made), 200 if there else 201)

    def change(self, call: Call) -> Response:
        """AmlCompute.update: other numbers of nodes, another idle time."""
        there = self._found(call)
        inner = (call.body.get("properties") or {}).get("properties") or {}
        if "scaleSettings" not in inner:
            raise _wrong("the rehearsal workspace changes scaleSettings of a cluster, and nothing else")
        made = self.computes.put(
            there.name,
            vm_size=there.vm_size,
            priority=there.priority,
            description=there.description,
            tags=there.tags,
            **_scale(inner["scaleSettings"], there),
        )
        return self._underway(self._answer(made), 200)

    def delete(self, call: Call) -> Response:
        """Takes it away; runs that name it go on."""
        self.computes.delete(self._found(call).name)
        return self._underway(None, 202)

    def nodes(self, call: Call) -> dict[str, Any]:
        """The nodes by name: none, as all jobs run on this machine."""
        self._found(call)
        return {"nodes": []}

    def sizes(self, call: Call) -> dict[str, Any]:
        """AmlCompute.supported_vmsizes."""
        return {
            "amlCompute": [
                {
                    "name": f"Standard_{size.name.partition('_')[2]}",
                    "vCPUs": size.cores,
                    "gpus": size.gpus,
                    "memoryGB": size.memory_gb,
                    "maxResourceVolumeMB": size.disk_gb * 1024,
                }
                for size in SIZES.values()
            ]
        }

    def operation(self, call: Call) -> dict[str, str]:
        """Whatever was begun is done."""
        return {"id": call.request.url.path, "name": call.path["operation"], "status": "Succeeded"}

    def _found(self, call: Call) -> Compute:
        found = self.computes.get(call.path["name"])
        if found is None:
            names = ", ".join(self.computes.names()) or "none"
            raise Refusal(404, f"there is no compute {call.path['name']}; there are: {names}", code="NotFound")
        return found

    def _underway(self, answer: Mapping[str, Any] | None, status: int) -> Response:
        own, url = self.workspace.identity, self.workspace.address.url
        where = LOCATION.format(subscription=own.subscription, location=own.region)
        operation = f"{url}{where}/operations/{uuid.uuid4()}?api-version=2020-02-02"
        return JSONResponse(answer, status_code=status, headers={"Azure-AsyncOperation": operation})

    def _answer(self, compute: Compute) -> dict[str, Any]:
        own, running = self.workspace.identity, self._running(compute)
        idle = max(compute.min_nodes - running, 0)
        counts = {"idleNodeCount": idle, "runningNodeCount": running}
        none = dict.fromkeys(("leavingNodeCount", "preemptedNodeCount", "preparingNodeCount", "unusableNodeCount"), 0)
        return {
            "id": f"{own.scope}/computes/{compute.name}",
            "name": compute.name,
            "type": f"{PROVIDER}/workspaces/computes",
            "location": own.region,
            "tags": dict(compute.tags),
            "properties": {
                "computeType": "AmlCompute",
                "computeLocation": own.region,
                "description": compute.description,
                "resourceId": None,
                "isAttachedCompute": False,
                "provisioningState": "Succeeded",
                "provisioningErrors": None,
                "createdOn": compute.created,
                "modifiedOn": compute.changed,
                "properties": {
                    "osType": "Linux",
                    "vmSize": compute.vm_size,
                    "vmPriority": compute.priority,
                    "scaleSettings": {
                        "minNodeCount": compute.min_nodes,
                        "maxNodeCount": compute.max_nodes,
                        "nodeIdleTimeBeforeScaleDown": f"PT{compute.idle_seconds}S",
                    },
                    "subnet": None,
                    "remoteLoginPortPublicAccess": "Disabled",
                    "allocationState": "Steady",
                    "allocationStateTransitionTime": compute.changed,
                    "currentNodeCount": running + idle,
                    "targetNodeCount": running + idle,
                    "nodeStateCounts": {**counts, **none},
                    "errors": None,
                },
            },
        }

    def _running(self, compute: Compute) -> int:
        running = [
            run
            for run in self.workspace.runs.unfinished()
            if run.status == "Running" and run.target and run.target.lower() == compute.name.lower()
        ]
        return sum(definition.read(run.definition).nodes for run in running)


def _scale(settings: Mapping[str, Any], there: Compute | None) -> dict[str, int]:
    """Numbers of nodes and the idle time, where they are not given those that are there."""
    least = settings.get("minNodeCount", there.min_nodes if there else 0)
    most = settings.get("maxNodeCount", there.max_nodes if there else None)
    if not (isinstance(least, int) and isinstance(most, int) and 0 <= least <= most <= MOST_NODES):
        raise _wrong(f"nodes from {least} to {most}: expected 0 <= minimum <= maximum <= {MOST_NODES}")
    idle = settings.get("nodeIdleTimeBeforeScaleDown")
    if idle is None:
        return {"min_nodes": least, "max_nodes": most, "idle_seconds": there.idle_seconds if there else 1800}
    found = DURATION.fullmatch(str(idle))
    if found is None:
        raise _wrong(f"nodeIdleTimeBeforeScaleDown {idle!r} is no duration such as PT1800S")
    days, hours, minutes, seconds = (int(each or 0) for each in found.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    return {"min_nodes": least, "max_nodes": most, "idle_seconds": total}


def _wrong(message: str) -> Refusal:
    return Refusal(400, message, code="BadArgument", component="machinelearningcompute")
