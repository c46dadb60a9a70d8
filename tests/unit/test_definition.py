from typing import Any

import pytest

from tools.rehearsal import definition
from tools.rehearsal.answers import Refusal


def body(**configuration: Any) -> dict[str, Any]:
    environment = {"name": "e", "python": {"userManagedDependencies": True}, "docker": {"baseImage": "image:1"}}
    told = {"script": "train.py", "target": "cpu-cluster", "environment": environment, **configuration}
    return {"snapshotId": "s", "configuration": told}


def pascal(value: Any) -> Any:
    if isinstance(value, dict):
        return {key[:1].upper() + key[1:]: pascal(each) for key, each in value.items()}
    return value


def test_names_count_without_case_and_enums_may_be_numbers() -> None:
    asked = body(framework="PyTorch", communicator="Nccl", nodeCount=2, pytorch={"processCount": 4})
    numbered = pascal(body(framework=4, communicator=4, nodeCount=2, pytorch={"processCount": 4}))
    assert definition.read(numbered) == definition.read(asked)
    assert (definition.read(asked).distribution, definition.read(asked).per_node) == ("pytorch", 2)


def test_details_show_it_in_camel_case_with_names_and_defaults_and_no_password() -> None:
    asked = body(environmentVariables={"MyVar": "X"}, dataReferences={"MyData": {"Mode": 0}}, framework=0)
    asked["configuration"]["environment"]["docker"]["baseImageRegistry"] = {"username": "u", "password": "hunter2"}
    told = definition.shown(pascal(asked) | {"Configuration": {**pascal(asked["configuration"]), "CommandLine": None}})
    configuration = told["configuration"]
    assert told["snapshotId"] == "s"
    assert (configuration["framework"], configuration["communicator"]) == ("Python", "None")
    assert configuration["environmentVariables"] == {"MyVar": "X"}
    assert configuration["docker"]["shmSize"] == "2g"
    assert configuration["pyTorch"] == {"communicationBackend": "nccl", "processCount": None}
    assert "MyData" in configuration["dataReferences"]
    assert "hunter2" not in str(told)
    assert definition.read(told).environment.image == "image:1"


def test_the_command_line_is_quoted_and_data_references_are_expanded() -> None:
    arguments = ["--n", 2, 0.5, True, "a b", "$HOME", "$AZUREML_DATAREFERENCE_data/x", "$AZUREML_DATAREFERENCE_other"]
    asked = definition.read(body(arguments=arguments))
    assert asked.line({"data": "/in"}) == (
        "python train.py --n 2 0.5 True 'a b' '$HOME' /in/x '$AZUREML_DATAREFERENCE_other'"
    )


def test_a_command_is_left_to_bash() -> None:
    assert definition.read(body(script=None, command="a $B && c")).line({}) == "a $B && c"
    assert definition.read(body(script=None, command=["a", "$B"])).line({}) == "a $B"


def test_what_a_job_may_ask_of_the_engine() -> None:
    words = ["--shm-size=8g", "--ulimit", "memlock=-1", "--ipc=host", "-e A=B=C"]
    asked = definition.read(body(docker={"shmSize": "1g", "arguments": words})).docker
    assert (asked.shm_bytes, asked.host_ipc, asked.gpus) == (8 << 30, True, False)
    assert asked.ulimits == (("memlock", -1, -1),)
    assert asked.variables == {"A": "B=C"}


def test_which_exit_codes_are_no_failure() -> None:
    plain, any_code, some = (
        definition.read(body(commandReturnCodeConfig=config))
        for config in ({"returnCode": 0}, {"returnCode": "ZeroOrGreater"}, {"successfulReturnCodes": [0, 3]})
    )
    assert [plain.accepts(0), plain.accepts(3)] == [True, False]
    assert any_code.accepts(3)
    assert [some.accepts(3), some.accepts(4)] == [True, False]


@pytest.mark.parametrize(
    ("configuration", "words"),
    [
        ({"script": None}, "neither|either a script or a command"),
        ({"script": "../x.py"}, "source directory"),
        ({"target": "local"}, "run-local"),
        ({"framework": "PySpark"}, "PySpark"),
        ({"communicator": "ParameterServer", "framework": 3}, "TensorFlow"),
        ({"nodeCount": 0}, "nodeCount"),
        ({"docker": {"shmSize": "much"}}, "much"),
        ({"docker": {"arguments": ["--volume", "/:/host"]}}, "--volume"),
        ({"dataReferences": {"x": {"pathOnDataStore": "../.."}}}, "data reference x"),
        ({"data": {"x": {}}}, "as_mount"),
        ({"arguments": [{"a": 1}]}, "neither text nor a number"),
        ({"environment": {"name": "e", "docker": {"baseDockerfile": "FROM x"}}}, "Dockerfile"),
    ],
)
def test_what_is_not_done_here_is_refused_in_words(configuration: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal, match=words) as refusal:
        definition.read(body(**configuration))
    assert refusal.value.status == 400
