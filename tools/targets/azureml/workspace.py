"""The workspace, and how to sign in to it. Nothing of azureml is imported before one of these functions is called."""

from __future__ import annotations

import base64
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import AzureError
from ...settings import FILE, Settings
from .failures import errors

if TYPE_CHECKING:
    from azureml.core import Workspace
    from azureml.core.authentication import AbstractAuthentication

PRINCIPAL = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")
IDENTITY = ("169.254.169.254", 80)  # where a virtual machine of Azure asks for the token of its identity
COMPUTE_INSTANCE = Path("/mnt/azmnt/.nbvm")  # a file that each compute instance of Azure ML has
LOGIN_SECONDS = 60.0
EARLY_SECONDS = 300.0  # before its end a token is asked for anew

log = logging.getLogger(__name__)


def connect(settings: Settings) -> Workspace:
    """The workspace that [azureml] names, or its config.json.

    Errors: AzureError where neither does, the login fails, or there is no such workspace.
    """
    chosen = settings.azureml
    config = settings.root / chosen.config
    if not chosen.workspace and not config.is_file():
        raise AzureError(
            f"no workspace is named: {config} is not there, and [azureml] in {settings.root / FILE} names none",
            expected="the config.json of your workspace: on its page in the Azure portal, or at ml.azure.com",
            command=f"mkdir -p {config.parent}, and put it there; without an account: make rehearse",
        )
    names = _names(settings, config)
    with errors("signing in to Azure"):
        from azureml.core import Workspace

        login = _authentication(chosen.auth, names["subscription_id"])
    where = f"the workspace {names['workspace_name']} of resource group {names['resource_group']}"
    with errors(where):
        if not chosen.workspace:
            return Workspace.from_config(str(config), auth=login)
        return Workspace.get(
            names["workspace_name"],
            auth=login,
            subscription_id=names["subscription_id"],
            resource_group=names["resource_group"],
        )


def _names(settings: Settings, config: Path) -> dict[str, str]:
    chosen = settings.azureml
    if chosen.workspace:
        return {
            "subscription_id": chosen.subscription,
            "resource_group": chosen.resource_group,
            "workspace_name": chosen.workspace,
        }
    try:
        names = json.loads(config.read_text(encoding="utf-8-sig"))
        return {key: str(names[key]) for key in ("subscription_id", "resource_group", "workspace_name")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AzureError(
            f"{config} is not a workspace's config.json: {type(error).__name__}: {error}",
            expected='{"subscription_id": "...", "resource_group": "...", "workspace_name": "..."}',
            command="download it anew from the workspace's page in the Azure portal",
        ) from error


def _authentication(way: str, subscription: str) -> AbstractAuthentication:
    """way: as [azureml] auth has it; "auto" is the first that is there."""
    if way == "auto":
        way = _found()
        log.debug("signing in to Azure with auth = %r", way)
    ways: dict[str, Callable[[], Any]] = {
        "service-principal": _principal,
        "msi": _managed_identity,
        "cli": lambda: _command_line(subscription),
        "interactive": _interactive,
    }
    return ways[way]()


def _found() -> str:
    if all(os.environ.get(name) for name in PRINCIPAL):
        return "service-principal"
    if "MSI_ENDPOINT" in os.environ or COMPUTE_INSTANCE.exists():
        return "msi"
    if shutil.which("az"):
        return "cli"
    if sys.stdin.isatty() and sys.stderr.isatty():
        return "interactive"
    raise AzureError(
        "there is no way to sign in to Azure: no az on PATH, no variables of a service principal, no managed identity",
        expected=f"the Azure CLI, or {', '.join(PRINCIPAL)}",
        command="install the Azure CLI, then: az login; without an account: make rehearse",
    )


def _principal() -> AbstractAuthentication:
    from azureml.core.authentication import ServicePrincipalAuthentication

    missing = [name for name in PRINCIPAL if not os.environ.get(name)]
    if missing:
        raise AzureError(
            f'auth = "service-principal", but {", ".join(missing)} {"is" if len(missing) == 1 else "are"} not set',
            expected=", ".join(PRINCIPAL),
            command=f"export {missing[0]}=..., or set auth under [azureml] of {FILE}",
        )
    tenant, client, secret = (os.environ[name] for name in PRINCIPAL)
    return ServicePrincipalAuthentication(tenant, client, secret)


def _managed_identity() -> AbstractAuthentication:
    from azureml.core.authentication import MsiAuthentication

    if "MSI_ENDPOINT" not in os.environ and not COMPUTE_INSTANCE.exists():
        try:  # the SDK would ask for minutes
            socket.create_connection(IDENTITY, timeout=2).close()
        except OSError as error:
            raise AzureError(
                'auth = "msi", but this machine has no managed identity of Azure',
                expected="a virtual machine or a compute instance of Azure, with an identity",
                command=f'set auth under [azureml] of {FILE}, e.g. auth = "cli", then: az login',
            ) from error
    return MsiAuthentication()


def _command_line(subscription: str) -> AbstractAuthentication:
    """The login of the Azure CLI as a program; the SDK's own way needs its packages in this Python."""
    from azureml.core.authentication import TokenAuthentication

    program = shutil.which("az")
    if program is None:
        raise AzureError('auth = "cli", but there is no az on PATH', command="install the Azure CLI, then: az login")
    kept: dict[str, tuple[str, float]] = {}

    def token(audience: str) -> str:
        text, end = kept.get(audience, ("", 0.0))
        if end - EARLY_SECONDS < time.time():
            text = _asked(program, audience, subscription)
            kept[audience] = text, _expiry(text)
        return text

    token("https://management.azure.com/")  # a login that has ended is met here, and told as such
    return TokenAuthentication(token)


def _asked(program: str, audience: str, subscription: str) -> str:
    command = [
        "account",
        "get-access-token",
        "--output",
        "json",
        "--resource",
        audience,
        "--subscription",
        subscription,
    ]
    try:
        done = subprocess.run([program, *command], capture_output=True, text=True, check=False, timeout=LOGIN_SECONDS)
        if done.returncode == 0:
            return str(json.loads(done.stdout)["accessToken"])
        said = done.stderr.strip().removeprefix("ERROR:").strip().splitlines()
        reason = said[0] if said else f"exit code {done.returncode}"
    except subprocess.TimeoutExpired:
        reason = f"no answer within {LOGIN_SECONDS:.0f} s"
    except (OSError, ValueError, KeyError) as error:
        reason = f"{type(error).__name__}: {error}"
    raise AzureError(f"az gave no token: {reason}", command="az login, then try again")


def _expiry(token: str) -> float:
    """When a JSON Web Token ends (RFC 7519, exp), in seconds since 1970; now if it does not say."""
    try:
        claims = token.split(".")[1]
        return float(json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"])
    except (IndexError, ValueError, KeyError):
        return time.time()


def _interactive() -> AbstractAuthentication:
    from azureml.core.authentication import InteractiveLoginAuthentication

    return InteractiveLoginAuthentication(tenant_id=os.environ.get("AZURE_TENANT_ID"))
