"""What ties a runner's life to its worker's, each cord by itself."""

import os
import select
import subprocess
import sys

from callsheet.runner.lifeline import parent_watch

CHILD = (
    "import os, threading; from callsheet.runner.lifeline import die_with_parent;"
    " die_with_parent(); print(os.getpid(), flush=True); threading.Event().wait(60)"
)
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"


def test_the_kernel_kills_a_child_whose_parent_was_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
        gone, _, _ = select.select([child], [], [], 5)
        os.close(child)
    assert gone


def test_a_living_parent_is_still_there() -> None:
    assert parent_watch()()
