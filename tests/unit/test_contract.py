import shlex

from hypothesis import given
from hypothesis import strategies as st

from tools.runs.contract import Contract, line

contract = Contract(run_id="20260101-000000-000-abcd", run_uuid="0" * 32)


def test_the_working_directory_and_inputs_lie_where_azure_ml_puts_them() -> None:
    assert contract.working_directory == f"/mnt/azureml/cr/j/{'0' * 32}/exe/wd"
    assert contract.input_path("data") == f"/mnt/azureml/cr/j/{'0' * 32}/cap/data-capability/wd/data"


def test_an_input_stands_in_the_command_where_its_name_stood() -> None:
    command = line("python train.py --data-path {data} --note '{other}'", ["data"], witnessed=False)
    assert command == "python train.py --data-path ${AZUREML_DATAREFERENCE_data} --note '{other}'"


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_arguments_reach_the_command_as_they_were_given(arguments: list[str]) -> None:
    plain = line("python train.py", [], arguments, witnessed=False)
    assert shlex.split(plain) == ["python", "train.py", *arguments]
    *witness, shell, flag, command = shlex.split(line("python train.py", [], arguments, witnessed=True))
    assert (witness[-2:], shell, flag) == (["/opt/parity/witness.py", "outputs/parity/witness.json"], "/bin/bash", "-c")
    assert command == plain


def test_variables_name_the_run_and_its_inputs() -> None:
    variables = contract.variables(["data"])
    assert variables["AZUREML_RUN_ID"] == contract.run_id
    assert variables["AZURE_ML_INPUT_data"] == variables["AZUREML_DATAREFERENCE_data"] == contract.input_path("data")
    assert not any("TOKEN" in name for name in variables)
