"""Lets a job find the workspace at the address that it has outside: forwards 127.0.0.1:PORT to the service's socket.

    python -I -S forward.py PORT SOCKET

It runs in a container beside the job's, which shares its network. A service that is away for a moment is waited for.
Python 3.6 or later, its own library alone.
"""

import contextlib
import socket
import sys
import threading
import time

PATIENCE = 60.0  # seconds in which a service that was killed may come back
TICK = 0.2


def connected(path):
    """The service's socket, once it answers."""
    end = time.monotonic() + PATIENCE
    while True:
        there = socket.socket(socket.AF_UNIX)
        try:
            there.connect(path)
            return there
        except OSError:
            there.close()
            if time.monotonic() > end:
                raise
        time.sleep(TICK)


def pump(source, target):
    """All that comes, to its end, which is passed on."""
    try:
        while True:
            piece = source.recv(65536)
            if not piece:
                break
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def forward(here, path):
    """One connection, both ways."""
    with here:
        try:
            there = connected(path)
        except OSError:
            return
        with there:
            back = threading.Thread(target=pump, args=(there, here), daemon=True)
            back.start()
            pump(here, there)
            back.join()


def main(port, path):
    """Serves for ever."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(512)
        print("ready", flush=True)
        while True:
            here, _ = listener.accept()
            threading.Thread(target=forward, args=(here, path), daemon=True).start()


main(int(sys.argv[1]), sys.argv[2])
