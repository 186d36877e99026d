"""The trainer: `python train.py` in a checkout; installed, `cifar-zoo` or `python -m cifar_zoo`."""

import os
import signal
import sys

from .core import dist
from .core.errors import exit_code


def main(argv: list[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        return exit_code(dist.main_process_only(run), argv)
    except KeyboardInterrupt as stopped:
        if dist.world().is_main:
            print(f"interrupted; {str(stopped) or 'the same command resumes'}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `--list models | head`: the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def run(argv: list[str]) -> int:
    """Parse a command line and carry it out. Imports are late: --help and --list do without torch."""
    from .config.cli import parse

    command = parse(argv)
    if command.action == "help":
        from .config.help import help_text

        print(help_text(command.words, command.config()))
    elif command.action == "list":
        from .config.listing import listing

        print(listing(*command.words))
    elif command.action == "train":
        from .run.launch import launch

        return launch(command.config())
    elif command.action == "seeds":
        dist.require_single_process("--seeds")
        from .grid.seeds import train_seeds

        return train_seeds(command)
    elif command.action == "evaluate":
        dist.require_single_process("--evaluate")
        config = command.config()
        from .run.evaluate_run import evaluate_run

        print(evaluate_run(config, command.folder, command.on))
    else:
        config = command.config()
        from .run import dry_run

        print(dry_run.summary(config) if command.action == "summary" else dry_run.dry_run(config))
    return 0


def console() -> int:
    """Run the command line of this process."""
    # Treat SIGTERM (sent by cluster schedulers) like Ctrl-C, so that the interruption is recorded.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(console())
