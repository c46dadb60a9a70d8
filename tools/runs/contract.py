"""The job container's contract: the paths and variables that a run finds, the same on every target.

It follows Azure ML's Common Runtime, the one that AmlCompute uses since 2022: the snapshot is unpacked under the run's
uuid, inputs lie beside it, the command goes through bash as root, and outputs/ and logs/ in the working directory are
collected.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

COLLECTED = ("outputs", "logs")  # folders of the working directory that outlive the container
LOGS = "user_logs"  # where Azure ML keeps what a command prints
USER_LOG = f"{LOGS}/std_log.txt"  # stdout and stderr
MASTER_PORT = 6105  # what Azure ML gives (its guide to distributed training)
SHELL = ("/bin/bash", "-c")
NOTES = "outputs/parity"  # where in the working directory the witness writes
WITNESS = "/opt/env/bin/python -I -S /opt/parity/witness.py"  # a layer of the image (tools/image/witness.py)
WITNESSED = "PARITY_VARIABLES"  # tells the witness which variables a run sets


def line(text: str, inputs: Iterable[str], arguments: Iterable[str] = (), *, witnessed: bool) -> str:
    """The command line for bash, the same on every target.

    {name} of each input becomes the variable that Azure ML sets to its path; the arguments come last. witnessed:
    whether the image has the witness, which then goes first.
    """
    for name in inputs:
        text = text.replace(f"{{{name}}}", f"${{AZUREML_DATAREFERENCE_{name}}}")
    text = " ".join([text, *(shlex.quote(argument) for argument in arguments)])
    return f"{WITNESS} {NOTES}/witness.json {shlex.join([*SHELL, text])}" if witnessed else text


@dataclass(frozen=True, kw_only=True)
class Contract:
    """The paths and variables of one run. run_id: its name; run_uuid: 32 hex digits."""

    run_id: str
    run_uuid: str

    @property
    def root(self) -> str:
        """The run's own folder in the container."""
        return f"/mnt/azureml/cr/j/{self.run_uuid}"

    @property
    def working_directory(self) -> str:
        """A fresh, writable copy of the snapshot."""
        return f"{self.root}/exe/wd"

    def input_path(self, name: str) -> str:
        """Where an input is mounted, read-only."""
        return f"{self.root}/cap/data-capability/wd/{name}"

    def variables(self, inputs: Iterable[str]) -> dict[str, str]:
        """The variables that Azure ML sets and that mean something without a workspace."""
        variables = {
            "AZUREML_RUN_ID": self.run_id,
            "AZUREML_ROOT_RUN_ID": self.run_id,
            "AZUREML_CR_EXECUTION_WORKING_DIR_PATH": self.working_directory,
            "AZUREML_CR_DATA_CAPABILITY_PATH": f"{self.root}/cap/data-capability",
            "AZUREML_CR_HT_CAP_outputs_PATH": f"{self.working_directory}/outputs",
            "AZUREML_CR_HT_CAP_logs_PATH": f"{self.working_directory}/logs",
        }
        for name in inputs:
            variables[f"AZUREML_DATAREFERENCE_{name}"] = variables[f"AZURE_ML_INPUT_{name}"] = self.input_path(name)
        return variables

    @staticmethod
    def of_node(node: int, processes: int, master: str) -> dict[str, str]:
        """The variables by which the nodes of a run find each other. processes: how many the service starts in all;
        master: the first node's address.
        """
        return {
            "MASTER_ADDR": master,
            "MASTER_PORT": str(MASTER_PORT),
            "WORLD_SIZE": str(processes),
            "NODE_RANK": str(node),
        }

    @staticmethod
    def of_process(rank: int, local: int = 0) -> dict[str, str]:
        """The variables of one process that the service starts. local: its number on its node."""
        return {"RANK": str(rank), "LOCAL_RANK": str(local)}
