"""Who may ask: tokens (JSON Web Tokens, HS256) for people and for jobs, and signatures for single files.

A person's token is good for one start of the service; a job's for its run, also after a restart. Nothing here is sent
anywhere else: the SDK only reads a token's tenant and expiry.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .. import files

PERSON_SECONDS = 24 * 3600
JOB_SECONDS = 30 * 24 * 3600  # no job lives longer (maxRunDurationSeconds of the SDK), so none must refresh its token
FILE_SECONDS = 8 * 3600  # as the service's own log addresses
CLOCK_SECONDS = 600  # and as much before

Permission = Literal["r", "w"]
Purpose = Literal["token", "file"]


@dataclass(frozen=True, kw_only=True)
class Bearer:
    """Whom a token speaks for: a person (run_id None) or the job of a run."""

    run_id: str | None


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Makes and checks them. key: 32 bytes that stay with the workspace; start: the random word of this start."""

    key: bytes = field(repr=False)
    start: str = field(repr=False)
    tenant: str

    def person(self) -> str:
        """A token for whoever asks with this start's word."""
        return self._token({"sub": "person", "start": self.start}, PERSON_SECONDS)

    def job(self, run_id: str) -> str:
        """A token for the containers of a run."""
        return self._token({"sub": "job", "run": run_id}, JOB_SECONDS)

    def check(self, token: str) -> Bearer | None:
        """Whom it speaks for; None if it is not ours, not of this start, or expired. Never raises."""
        signed, _, signature = token.rpartition(".")
        if not self._signed("token", signed, signature):
            return None
        claims = json.loads(_decode(signed.partition(".")[2]))
        if claims["exp"] < time.time():
            return None
        if claims["sub"] == "job":
            return Bearer(run_id=claims["run"])
        return Bearer(run_id=None) if hmac.compare_digest(claims["start"], self.start) else None

    def sign_file(self, name: str, permission: Permission) -> dict[str, str]:
        """The query of an address that gives one permission on one file for some hours, named as the service does."""
        moment = time.time()
        start, end = (
            time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(each))
            for each in (moment - CLOCK_SECONDS, moment + FILE_SECONDS)
        )
        query = {"sv": "2021-08-06", "sr": "b", "st": start, "se": end, "sp": permission}
        return {**query, "sig": self._sign("file", "\n".join([name, *query.values()]))}

    def check_file(self, name: str, permission: Permission, query: Mapping[str, str]) -> bool:
        """Whether the query of an address gives that permission on that file now; who may write may also read."""
        fields = [query.get(each, "") for each in ("sv", "sr", "st", "se", "sp")]
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return (
            self._signed("file", "\n".join([name, *fields]), query.get("sig", ""))
            and moment <= fields[3]
            and fields[4] in (permission, "w")
        )

    def _token(self, claims: dict[str, Any], seconds: int) -> str:
        moment = int(time.time())
        body = {
            "iss": "azureml",
            "aud": "azureml",
            "tid": self.tenant,
            "iat": moment,
            "exp": moment + seconds,
            **claims,
        }
        signed = ".".join(_encode(json.dumps(each).encode()) for each in ({"alg": "HS256", "typ": "JWT"}, body))
        return f"{signed}.{self._sign('token', signed)}"

    def _sign(self, purpose: Purpose, text: str) -> str:
        """The purpose is signed too: what is good for a file is no token."""
        signed = f"{purpose}\n{text}".encode(errors="surrogatepass")
        return _encode(hmac.new(self.key, signed, hashlib.sha256).digest())

    def _signed(self, purpose: Purpose, text: str, signature: str) -> bool:
        given = signature.encode(errors="surrogatepass")  # compare_digest takes no text but ASCII
        return hmac.compare_digest(given, self._sign(purpose, text).encode())


def key(path: Path) -> bytes:
    """The key in that file, which is made for its owner alone if it is not there."""
    if not path.exists():
        with files.written_whole(path, private=True) as file:
            file.write(secrets.token_bytes(32))
    return path.read_bytes()


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
