"""Run a command that dies with its parent process, even if the parent is killed.

    python -IS lib/grid/guard.py PARENT COMMAND...

PARENT is the process id of the parent. On Linux the kernel kills COMMAND, which replaces this process; on
other systems this process stays and polls the parent.
"""

import os
import signal
import subprocess
import sys
import time

SET_PDEATHSIG = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>
POLL_SECONDS = 0.5


def main(parent: int, command: list[str]) -> int:
    if set_death_signal():
        if os.getppid() != parent:  # it died before the signal was set
            return 1
        os.execvp(command[0], command)  # keeps the death signal
    return supervise(parent, command)


def set_death_signal() -> bool:
    """Ask the kernel to kill this process when its parent dies; False where that is not supported."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    return ctypes.CDLL(None).prctl(SET_PDEATHSIG, signal.SIGKILL) == 0


def supervise(parent: int, command: list[str]) -> int:
    """Run the command while the parent lives; returns its exit code, or 128 plus the signal that ended it."""
    process = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number))
    try:
        while process.poll() is None and os.getppid() == parent:
            time.sleep(POLL_SECONDS)
    finally:
        if process.poll() is None:
            process.kill()
        code = process.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
