"""The addresses that the SDK gives out open pages."""

import httpx
from workspaces import Rehearsal


def test_the_portals_addresses_open_the_pages_of_run_and_experiment(rehearsal: Rehearsal) -> None:
    addresses = rehearsal.answer("""
        from azureml.core import Experiment
        experiment = Experiment(ws, "portal")
        run = experiment.start_logging(snapshot_directory=None, display_name="seen in the portal")
        for step in range(5):
            run.log("loss", 1 / (1 + step), step=step)
        run.complete()
        print(json.dumps([run.get_portal_url(), experiment.get_portal_url()]))
    """)
    with httpx.Client(trust_env=False) as client:
        for address in addresses:
            assert address.startswith("http://127.0.0.1:")
            page = client.get(address)
            assert page.status_code == 200
            assert "seen in the portal" in page.text
        (curve,) = client.get(f"{addresses[0].partition('?')[0]}?live=1").json()["curves"]
        assert (curve["name"], curve["x"], curve["y"]) == ("loss", [0, 1, 2, 3, 4], [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5])
        said = rehearsal.parity("rehearsal", "env").stderr
        assert client.get(said.split()[-1]).status_code == 200
