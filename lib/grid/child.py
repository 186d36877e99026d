"""Starts a command that dies with the process that asked for it, however that one ends.

    python -IS lib/grid/child.py PARENT COMMAND...

PARENT is the id of the process to die with. On Linux the kernel sees to it, and COMMAND takes the place of
this process; elsewhere this process stays, and looks after the other two.
"""

import os
import signal
import subprocess
import sys
import time

SET_PDEATHSIG = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>
LOOK_EVERY = 0.5  # seconds


def main(parent: int, command: list[str]) -> int:
    if die_with_parent():
        if os.getppid() != parent:  # it died before the kernel was asked
            return 1
        os.execvp(command[0], command)  # keeps what was asked of the kernel
    return look_after(parent, command)


def die_with_parent() -> bool:
    """Ask the kernel to kill this process when its parent dies; False where it cannot be asked."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    return ctypes.CDLL(None).prctl(SET_PDEATHSIG, signal.SIGKILL) == 0


def look_after(parent: int, command: list[str]) -> int:
    """Run the command while the parent lives; gives its exit code, or 128 and the signal that ended it."""
    process = subprocess.Popen(command, close_fds=False)
    signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number))
    try:
        while process.poll() is None and os.getppid() == parent:
            time.sleep(LOOK_EVERY)
    finally:
        if process.poll() is None:
            process.kill()
        code = process.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
