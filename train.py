"""Train a model: `python train.py --model resnet20 --epochs 30`; `--help` lists all there is to set."""

import os
import signal
import sys

from lib.core import dist
from lib.core.errors import exit_code


def main(argv: list[str]) -> int:
    """Run one command line; returns the exit code."""
    try:
        return exit_code(dist.main_process_only(run), argv)
    except KeyboardInterrupt:
        if dist.world().is_main:
            print("interrupted; the same command resumes at the last checkpoint", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `--list models | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def run(argv: list[str]) -> int:
    from lib.config import help as inform
    from lib.config.cli import parse

    command = parse(argv)
    if command.action == "help":
        print(inform.help_text(command.config()))
    elif command.action == "list":
        print(inform.listing(*command.listing))
    elif command.action == "train":
        from lib.run.launch import launch

        return launch(command.config())
    elif command.action == "seeds":
        dist.require_single_process("--seeds")
        from lib.grid.packed import train_seeds

        return train_seeds(command)
    elif command.action == "evaluate":
        dist.require_single_process("--evaluate")
        config = command.config()
        from lib.run.evaluate_run import assess

        print(assess(config, command.folder))
    else:
        config = command.config()
        from lib.run import dry_run as plan  # the first to need torch

        print(plan.summary(config) if command.action == "summary" else plan.dry_run(config))
    return 0


if __name__ == "__main__":
    # What ends a program politely, as the queue of a cluster does, ends it like Ctrl-C: its record says so.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
