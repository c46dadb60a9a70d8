"""Azure's resource manager, as far as azureml-core asks it: who one is, the subscription, its groups, the workspace."""

from __future__ import annotations

import hmac
import re
import time
from typing import Any
from urllib.parse import parse_qs

from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ..answers import SCOPE, Call, Refusal, answering
from ..identity import PROVIDER, REGION
from ..resources import GROUP_NAME, WORKSPACE_NAME, Entry, Group
from ..tokens import PERSON_SECONDS
from ..workspace import Workspace

SERVICES = ("api", "experimentation", "history", "hyperdrive", "modelmanagement")  # the SDK reads them all at once
TYPE = f"{PROVIDER}/workspaces"
# Where a script may ask for its workspace: regions of Azure's, public knowledge, and this machine
LOCATIONS = (
    *("Australia East", "Brazil South", "Canada Central", "Canada East", "Central India", "Central US", "East Asia"),
    *("East US", "East US 2", "France Central", "Germany West Central", "Italy North", "Japan East", "Japan West"),
    *("Korea Central", "North Central US", "North Europe", "Norway East", "Poland Central", "Qatar Central"),
    *("South Africa North", "South Central US", "Southeast Asia", "Spain Central", "Sweden Central"),
    *("Switzerland North", "UAE North", "UK South", "UK West", "West Central US", "West Europe", "West US"),
    *("West US 2", "West US 3", REGION),
)


def routes(workspace: Workspace) -> list[BaseRoute]:
    """Whoever knows this start's word gets a token; all else needs one."""
    manager = _Manager(workspace)
    subscription = "/subscriptions/{subscription}"
    found = [
        Route("/msi/{word}/token", answering(manager.token), methods=["GET", "POST"]),
        Route("/adfs/.well-known/openid-configuration", answering(manager.authority)),
        Route("/adfs/oauth2/token", answering(manager.principal_token), methods=["POST"]),
        Route("/discovery/{word}", answering(manager.discovery)),
        Route("/subscriptions", answering(manager.subscriptions)),
        Route(subscription, answering(manager.subscription)),
        Route(f"{subscription}/providers/{PROVIDER}", answering(manager.provider)),
        Route(f"{subscription}/providers/Microsoft.Resources/deployments/", answering(manager.nothing)),
        Route(f"{subscription}/providers/{TYPE}", answering(manager.list)),
        Route(f"{subscription}/resources", answering(manager.list)),
        Route(SCOPE, answering(manager.get), methods=["GET"]),
        Route(SCOPE, answering(manager.delete), methods=["DELETE"]),
        Route(f"/rp/workspaces{SCOPE}", answering(manager.get), methods=["GET"]),
    ]
    for groups in ("resourceGroups", "resourcegroups"):  # the SDK's clients differ, and Azure takes both
        group = f"{subscription}/{groups}/{{group}}"
        found += [
            Route(f"{subscription}/{groups}", answering(manager.groups)),
            Route(group, answering(manager.group), methods=["GET"]),
            Route(group, answering(manager.put_group), methods=["PUT"]),
            Route(f"{group}/resources", answering(manager.list)),
            Route(f"{group}/providers/{TYPE}", answering(manager.list)),
            Route(
                f"{group}/providers/Microsoft.Resources/deployments/{{name}}",
                answering(manager.deploy),
                methods=["PUT"],
            ),
            Route(f"{group}/deployments/{{name}}/operations", answering(manager.nothing)),
        ]
    return [*found]


class _Manager:
    """The answers, in the shapes that azure-mgmt-resource and azureml-core 1.61 read."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.identity, self.resources = workspace.identity, workspace.resources

    def token(self, call: Call) -> dict[str, str]:
        """A managed identity's token (2018-02-01), for who knows this start's word."""
        form = parse_qs(call.content.decode("utf-8", "replace"))
        resource = call.query.get("resource") or form.get("resource", [""])[0]
        return self._token(call.path["word"], resource)

    def authority(self, call: Call) -> dict[str, str]:
        """Where ServicePrincipalAuthentication("adfs", ...) asks: MSAL looks this one tenant up nowhere else."""
        base = f"{self.workspace.address.url}/adfs"
        ends = {"authorization_endpoint": f"{base}/oauth2/authorize", "token_endpoint": f"{base}/oauth2/token"}
        return {"issuer": base, **ends}

    def principal_token(self, call: Call) -> dict[str, Any]:
        """A service principal's token; its secret is this start's word."""
        form = parse_qs(call.content.decode("utf-8", "replace"))
        token = self._token(form.get("client_secret", [""])[0], form.get("resource", [""])[0])
        return {**token, "expires_in": PERSON_SECONDS}

    def _token(self, word: str, resource: str) -> dict[str, str]:
        if not hmac.compare_digest(word.encode(), self.workspace.word.encode()):
            raise Refusal(401, 'not the word of this start; next: eval "$(python -m tools rehearsal env)"')
        end = int(time.time()) + PERSON_SECONDS
        token = {"access_token": self.workspace.tokens.person(), "token_type": "Bearer", "resource": resource}
        return {**token, "expires_in": str(PERSON_SECONDS), "expires_on": str(end)}

    def discovery(self, call: Call) -> dict[str, str]:
        """Where each service is; asked without a token, so that its own address is the secret."""
        if not hmac.compare_digest(call.path["word"].encode(), self.workspace.page_word.encode()):
            raise Refusal(404, "not an address of this rehearsal workspace; next: python -m tools rehearsal env")
        return {**dict.fromkeys(SERVICES, self.workspace.address.url), "studio": self.workspace.studio}

    def subscriptions(self, call: Call) -> dict[str, Any]:
        """The only one there is."""
        return {"value": [self._subscription()]}

    def subscription(self, call: Call) -> dict[str, str]:
        """The subscription itself."""
        self._check(call)
        return self._subscription()

    def _subscription(self) -> dict[str, str]:
        own = self.identity
        return {
            "id": f"/subscriptions/{own.subscription}",
            "subscriptionId": own.subscription,
            "displayName": "Parity rehearsal",
            "state": "Enabled",
            "tenantId": own.tenant,
        }

    def provider(self, call: Call) -> dict[str, Any]:
        """Where workspaces may lie; Workspace.create checks its location against it."""
        self._check(call)
        types = [{"resourceType": "workspaces", "locations": LOCATIONS, "apiVersions": ["2022-05-01"]}]
        return {"namespace": PROVIDER, "registrationState": "Registered", "resourceTypes": types}

    def groups(self, call: Call) -> dict[str, Any]:
        """The resource groups."""
        self._check(call)
        return {"value": [self._group(each) for each in self.resources.groups()]}

    def group(self, call: Call) -> dict[str, Any]:
        """A resource group."""
        self._check(call)
        found = self.resources.group(call.path["group"])
        if found is None:
            message = f"Resource group '{call.path['group']}' could not be found."
            raise Refusal(404, message, code="ResourceGroupNotFound", component="resources")
        return self._group(found)

    def put_group(self, call: Call) -> Response:
        """Makes a resource group; nothing but workspaces lies in it."""
        self._check(call)
        name, location = call.path["group"], str(call.body.get("location") or REGION)
        if not GROUP_NAME.fullmatch(name) or name.endswith("."):
            raise Refusal(400, f"{name!r} is no name of a resource group", code="InvalidResourceGroup")
        there = self.resources.group(name)
        return JSONResponse(self._group(self.resources.put_group(name, location)), status_code=200 if there else 201)

    def _group(self, group: Group) -> dict[str, Any]:
        return {
            "id": f"/subscriptions/{self.identity.subscription}/resourceGroups/{group.name}",
            "name": group.name,
            "type": "Microsoft.Resources/resourceGroups",
            "location": group.location,
            "properties": {"provisioningState": "Succeeded"},
        }

    def nothing(self, call: Call) -> dict[str, Any]:
        """Deployments that are done leave nothing behind."""
        return {"value": []}

    def list(self, call: Call) -> dict[str, Any]:
        """The workspaces of the subscription or of a group, as $filter may say too."""
        self._check(call)
        asked = re.search(r"resourceGroup eq '([^']+)'", call.query.get("$filter", ""))
        group = call.path.get("group") or (asked[1] if asked else None)
        return {"value": [self._workspace(each) for each in self.resources.workspaces(group)]}

    def deploy(self, call: Call) -> dict[str, Any]:
        """Workspace.create's template: of what it lists only the workspace is made, as one more name of this one."""
        self._check(call)
        self.group(call)
        template = call.body.get("properties", {}).get("template", {})
        for resource in template.get("resources", []):
            if resource.get("type") == TYPE:
                name = str(resource["name"])
                if not WORKSPACE_NAME.fullmatch(name):
                    raise Refusal(400, f"{name!r} is no name of a workspace", code="ValidationError")
                self.resources.put_workspace(call.path["group"], name, str(resource.get("location") or REGION))
        return {
            "id": call.request.url.path,
            "name": call.path["name"],
            "type": "Microsoft.Resources/deployments",
            "properties": {"provisioningState": "Succeeded", "mode": "Incremental"},
        }

    def get(self, call: Call) -> dict[str, Any]:
        """The workspace, under a name that it has."""
        return self._workspace(self._entry(call))

    def delete(self, call: Call) -> None:
        """Takes a name away; the workspace itself is deleted with its folder."""
        entry = self._entry(call)
        if self.resources.is_own(entry):
            raise Refusal(
                400,
                "the rehearsal workspace is deleted with its folder; "
                "next: python -m tools rehearsal stop && rm -r .parity/rehearsal",
            )
        self.resources.remove_workspace(entry.resource_group, entry.name)

    def _entry(self, call: Call) -> Entry:
        self._check(call)
        group, name = call.path["group"], call.path["workspace"]
        found = self.resources.workspace(group, name)
        if found is None:
            message = f"The Resource '{TYPE}/{name}' under resource group '{group}' was not found."
            raise Refusal(404, message, code="ResourceNotFound", component="resources")
        return found

    def _workspace(self, entry: Entry) -> dict[str, Any]:
        return {
            "id": self.resources.scope(entry),
            "name": entry.name,
            "type": TYPE,
            "location": entry.location,
            "tags": {},
            "sku": {"name": "Basic", "tier": "Basic"},
            "properties": {
                "workspaceId": self.identity.workspace_id,
                "discoveryUrl": self.workspace.discovery,
                "friendlyName": entry.name,
                "description": "A rehearsal on this machine, not Azure",
                "creationTime": entry.created,
                "provisioningState": "Succeeded",
                "hbiWorkspace": False,
                "v1LegacyMode": False,
            },
        }

    def _check(self, call: Call) -> None:
        if call.path["subscription"].lower() != self.identity.subscription:
            message = (
                f"The subscription '{call.path['subscription']}' could not be found; the rehearsal workspace's is "
                f"{self.identity.subscription}; next: python -m tools rehearsal config"
            )
            raise Refusal(404, message, code="SubscriptionNotFound", component="resources")
