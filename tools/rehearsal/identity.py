"""Who the workspace says it is: its names and ids, the same as long as its folder is kept."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from .. import files

PROVIDER = "Microsoft.MachineLearningServices"
# A subscription that is nobody's: Azure gives out random ids, and this one is not random.
SUBSCRIPTION = "00000000-0000-4000-8000-000000000000"
RESOURCE_GROUP = "rehearsal"
NAME = "rehearsal"
REGION = "loopback"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The workspace's own ids. workspace_id: under which the SDK remembers the last snapshot, so never used twice."""

    workspace_id: str
    tenant: str
    subscription: str = SUBSCRIPTION
    resource_group: str = RESOURCE_GROUP
    name: str = NAME
    region: str = REGION

    @property
    def scope(self) -> str:
        """/subscriptions/.../workspaces/NAME."""
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"
            f"/providers/{PROVIDER}/workspaces/{self.name}"
        )

    @property
    def config(self) -> dict[str, str]:
        """The content of .azureml/config.json."""
        return {
            "subscription_id": self.subscription,
            "resource_group": self.resource_group,
            "workspace_name": self.name,
        }


def load(path: Path) -> Identity:
    """The identity in that file, which is made if it is not there."""
    if not path.exists():
        made = Identity(workspace_id=str(uuid.uuid4()), tenant=str(uuid.uuid4()))
        files.write_text(path, json.dumps(asdict(made), indent=2) + "\n")
    return Identity(**json.loads(path.read_text(encoding="utf-8")))
