"""The scripts of examples/ as a user meets them: each in a process of its own."""

import os
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def start(script, *options, launcher=(), file_limit=None):
    """Start a script; with a limit, no file can grow beyond so many bytes, as on a full disk."""
    command = [sys.executable, *launcher, EXAMPLES / script, *options]
    return subprocess.Popen(
        list(map(str, command)),
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=file_limit and partial(resource.setrlimit, resource.RLIMIT_FSIZE, (file_limit, file_limit)),
    )


def finish(process, expected_status=0):
    """Wait for a process; return its output and its messages."""
    try:
        output, messages = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == expected_status, (
        f"exit status {process.returncode}:\n{output[-2000:]}{messages[-4000:]}"
    )
    return output, messages


def run(script, *options, launcher=()):
    """Run a script that must succeed; return its output."""
    return finish(start(script, *options, launcher=launcher))[0]


def refusal(script, *options, status=1):
    """Run a script that must fail; return what it says."""
    return refused(start(script, *options), status)


def refused(process, status=1):
    """Wait for a process that must fail, and not by an error of its own; return what it says."""
    messages = finish(process, expected_status=status)[1]
    assert "Traceback" not in messages, messages
    return messages
