"""What azureml-core raises, in one line and with the next command.

Its errors are of many families (its own, requests', msrest's, azure-core's, and bare Exceptions whose text holds the
answer of the service), so the text decides: first what the service itself said in it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

from ...errors import AzureError, ParityError

LONGEST = 400  # characters of a service's own words

# the service's words -> what a person can do
HINTS = (
    (
        r"AADSTS|InvalidAuthenticationToken|ExpiredAuthenticationToken|invalid_client|\b401\b|Unauthorized",
        "az login, or the variables of a service principal (AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET)",
    ),
    (
        r"AuthorizationFailed|Forbidden|\b403\b|does not have authorization",
        'ask the owner of the workspace for the role "AzureML Data Scientist"',
    ),
    (
        r"currently logged-in to|don't have access to|SubscriptionNotFound",
        "az login --tenant TENANT, for the tenant of the workspace's subscription",
    ),
    (
        r"Workspace not found|ResourceNotFound|ResourceGroupNotFound|Workspaces? .*not found",
        "look at the names in [azureml] of parity.toml, or download config.json anew",
    ),
    (r"snapshot size exceeds|file limit of", "make snapshot ARGS=--fix"),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError",
        "REQUESTS_CA_BUNDLE=/path/to/authorities.pem, if a proxy here has a certificate of its own",
    ),
    (
        r"Max retries exceeded|Connection refused|Connection aborted|RemoteDisconnected|Failed to establish"
        r"|Name or service not known|Temporary failure in name resolution|timed out|Bearer token",
        "look at the network and its proxy (make doctor), then try again",
    ),
    (r"\b50[0234]\b|InternalServerError|ServiceUnavailable|ServiceError", "try again in a minute"),
)


@contextlib.contextmanager
def errors(doing: str) -> Iterator[None]:
    """Turns what the SDK raises within the block into an AzureError, and keeps its prints off stdout.

    doing: "submitting the run".
    """
    # the SDK warns of its own deprecations, and msrestazure of a failed login with the address that was asked
    for name in ("azureml", "msrestazure"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except ParityError:
        raise
    except ImportError as error:
        raise missing(error) from error
    except Exception as error:
        raise refusal(doing, error) from error


def missing(error: ImportError) -> AzureError:
    """The error for a Python without azureml-core."""
    if error.name and not error.name.startswith("azureml"):
        return AzureError(f"azureml-core cannot be imported: {error}", command="make clean setup-azure")
    return AzureError("azureml-core is not installed in this Python", command="make setup-azure")


def refusal(doing: str, error: BaseException) -> AzureError:
    """The error for an exception of the SDK."""
    text = _text(error)
    told = f"{text} {status(error) or ''}"
    hint = next((command for pattern, command in HINTS if re.search(pattern, told)), "try again, with V=1 for more")
    return AzureError(f"{doing}: {useful(text)}", command=hint)


def status(error: BaseException | None) -> int | None:
    """The HTTP status that an error of the SDK stands for, if it tells."""
    while error is not None:
        for holder in (error, getattr(error, "response", None)):
            code = getattr(holder, "status_code", None)
            if isinstance(code, int):
                return code
        if match := re.search(r"\b(?:[Cc]ode|status_code)\W{1,3}([45]\d\d)\b", _text(error)):
            return int(match.group(1))
        error = error.__cause__
    return None


def useful(text: str) -> str:
    """The line of an error's text that a person can use: what the service said, else its first line."""
    said = None
    for start in (match.start() for match in re.finditer(r"\{", text)):
        with contextlib.suppress(ValueError):
            content, _ = json.JSONDecoder().raw_decode(text[start:])
            said = message(content)
            if said:
                break
    lines = [line.strip() for line in (said or text).splitlines()]
    lines.sort(key=lambda line: not re.match(r"Message:\s*\w|Message:\s*\(", line))  # of the SDK's own form
    lines = [re.sub(r"^(?:Message|\w+(?:Exception|Error)):\s*", "", line) for line in lines]
    line = next((line for line in lines if re.search(r"\w", line)), "no reason given")
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."


def message(content: Any) -> str | None:
    """The message in an answer of the service, whatever it is wrapped in; the innermost that is there."""
    if isinstance(content, str):
        with contextlib.suppress(ValueError):
            inner = json.loads(content)
            return message(inner) if isinstance(inner, dict) else content
        return content or None
    if not isinstance(content, dict):
        return None
    table = {str(key).lower(): value for key, value in content.items()}
    for key in ("error", "error_details", "errorresponse", "message"):
        if table.get(key) and (said := message(table[key])):
            return said
    return None


def _text(error: BaseException) -> str:
    """The text of an error; some of the SDK's fail on being turned into one."""
    try:
        return str(error) or type(error).__name__
    except Exception:
        return " ".join(str(part) for part in error.args) or type(error).__name__
