"""Sends what azureml-core has logged and not yet sent when a job's Python ends.

The service's own wrapper does that in a legacy job; the SDK by itself sends in the background and loses the rest. The
rehearsal puts this folder on PYTHONPATH: it takes itself off sys.path again, lets an image's own sitecustomize run, and
does nothing more until azureml-core is imported. Python 3.6 or later, its own library alone.
"""

import os
import sys

RUNS = "azureml._run_impl.run_base"  # the module with the list of runs whose metrics are on their way
SECONDS = 300  # as the service's wrapper has it (AZUREML_RUN_KILL_SIGNAL_TIMEOUT_SEC)


class Waiting:
    """Sees an import of azureml-core, and never takes part in it."""

    def find_spec(self, name, path=None, target=None):
        """As importlib has it; it never finds any."""
        if name == RUNS:
            import concurrent.futures.thread  # noqa: F401 - whose threads must still be there when flush is called
            import threading

            sys.meta_path.remove(self)
            if hasattr(threading, "_register_atexit"):  # Python 3.9: threads end before atexit's functions are called
                threading._register_atexit(flush)
            else:
                import atexit

                atexit.register(flush)


def flush():
    """Sends the rest of every run; a failure is told, and never changes the exit code."""
    try:
        import queue

        handlers = sys.modules[RUNS]._RunBase._registered_kill_handlers
        while True:
            try:
                handler = handlers.get_nowait()
            except queue.Empty:
                return
            handler(SECONDS)
    except Exception as error:
        print(f"metrics may be lost: {type(error).__name__}: {error}", file=sys.stderr)


def step_aside():
    """Takes this folder off sys.path and lets the sitecustomize run that this one hides."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [each for each in sys.path if os.path.abspath(each) != here]
    sys.path_importer_cache.pop(here, None)
    own = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # noqa: F401
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
        if own is not None:
            sys.modules["sitecustomize"] = own


sys.meta_path.insert(0, Waiting())
step_aside()
