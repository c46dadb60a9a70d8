"""A function's result with the rights of a user who owns nothing; only root can ask for it."""

import json
import os

USER = 65534


def as_nobody(function, *arguments):
    """The result as JSON has it, of a copy of this process; None where the function raised."""
    read, write = os.pipe()
    if not (child := os.fork()):
        try:
            os.setgroups([])
            os.setresgid(USER, USER, USER)
            os.setresuid(USER, USER, USER)
            os.write(write, json.dumps(function(*arguments)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as stream:
        answer = stream.read()
    os.waitpid(child, 0)
    return json.loads(answer) if answer else None
