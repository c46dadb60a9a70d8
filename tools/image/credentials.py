"""Logins to registries, as Docker keeps them: config.json (of DOCKER_CONFIG, else ~/.docker) and its helpers."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field

from ..errors import RegistryError

_AZURE = re.compile(r"([a-z0-9]+)(?:-[a-z0-9]+)?\.azurecr\.[a-z]+")  # NAME.azurecr.io; NAME-HASH.azurecr.io


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """One login: user and password, or the identity token that `az acr login` leaves (an OAuth2 refresh token)."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    def for_engine(self, host: str) -> dict[str, str]:
        """As the Engine API takes them (X-Registry-Auth)."""
        if self.identity_token:
            return {"identitytoken": self.identity_token, "serveraddress": host}
        return {"username": self.username, "password": self.password, "serveraddress": host}


def find(host: str) -> Credentials | None:
    """The login for the registry at `host`, None if there is none.

    Errors: RegistryError where config.json is not readable, or its helper is missing or fails.
    """
    from docker import auth
    from docker.errors import DockerException

    try:
        with warnings.catch_warnings(record=True):  # of a helper that is not installed: an error follows
            entry = auth.load_config().resolve_authconfig(host)
    except (DockerException, ValueError, TypeError, AttributeError) as error:
        reason = str(error) if isinstance(error, DockerException) else "an entry in it is not of Docker's form"
        raise RegistryError(
            f"{host}: the login in Docker's config.json cannot be read: {reason}", command=login(host)
        ) from error
    # helpers answer in Go's spelling, config.json in its own
    fields = {str(name).lower(): str(value) for name, value in (entry or {}).items() if value}
    if fields.get("identitytoken"):
        return Credentials(identity_token=fields["identitytoken"])
    if fields.get("username"):
        return Credentials(username=fields["username"], password=fields.get("password", ""))
    return None


def login(host: str) -> str:
    """What a person types to log in at `host`."""
    azure = _AZURE.fullmatch(host)
    return f"az acr login --name {azure.group(1)}" if azure else f"docker login {host}"
