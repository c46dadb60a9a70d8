"""Adds to the witness's note what only the command's own Python knows: its torch, once it has imported it.

A .pth file of the image runs it in every Python; it does nothing where the witness left no note. It waits for torch's
import, and writes at the end of the process, when the script has set what it sets.
"""

import os
import sys

NOTE = "PARITY_NOTE"


class Waiting:
    """Sees an import of torch, and never takes part in it."""

    def find_spec(self, name, path=None, target=None):
        """As importlib has it; it never finds any."""
        if name == "torch":
            import atexit

            sys.meta_path.remove(self)
            atexit.register(add)


def add():
    """Writes the note of torch beside the witness's: NOTE-torch, and NOTE-torch-RANK of the other processes."""
    try:
        import json
        import re

        main = getattr(sys.modules["__main__"], "__spec__", None)
        if "torch.distributed.run" in sys.modules or getattr(main, "name", "") == "torch.distributed.run":
            return  # torchrun itself, which ends after the processes that it started
        torch = sys.modules["torch"]
        stem, extension = os.path.splitext(os.environ[NOTE])
        rank = os.environ.get("RANK", "0")
        cuda = torch.version.cuda if torch.cuda.is_initialized() else None
        devices = [torch.cuda.get_device_properties(each) for each in range(torch.cuda.device_count())] if cuda else []
        seen = {
            "version": torch.__version__,
            "build": torch.__config__.show(),
            "threads": torch.get_num_threads(),
            "interop_threads": torch.get_num_interop_threads(),
            "default_dtype": str(torch.get_default_dtype()),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "mkldnn": bool(torch.backends.mkldnn.enabled),
            "cuda": cuda,
            "cudnn": torch.backends.cudnn.version() if cuda else None,
            "tf32": tf32(torch.backends) if cuda else None,
            "devices": [f"{each.name}, compute capability {each.major}.{each.minor}" for each in devices],
        }
        stem = re.sub(r"-[0-9]+$", "", stem)  # a rank is one on all nodes
        path = f"{stem}-torch{'' if rank == '0' else '-' + rank}{extension}"
        with open(f"{path}.part", "w", encoding="utf-8") as file:
            json.dump(seen, file, indent=1, sort_keys=True)
        os.replace(f"{path}.part", path)
    except Exception:  # a note is never worth a run
        return


def tf32(backends):
    """How matrix products and convolutions may round on a GPU; None where it cannot be told."""
    try:  # before torch 2.9 the names were others, and to ask by the wrong ones is an error for it
        if hasattr(backends.cuda.matmul, "fp32_precision"):
            return [backends.cuda.matmul.fp32_precision, backends.cudnn.conv.fp32_precision]
        return [backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32]
    except Exception:
        return None


if os.environ.get(NOTE):
    sys.meta_path.insert(0, Waiting())
