"""Train a model: `python train.py --model resnet20 --cutout`. `--help` lists everything there is to set."""

import os
import sys

from lib.errors import BadInput


def main(argv: list[str]) -> int:
    """Run one command line; returns the exit code."""
    try:
        return run(argv)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command resumes at the last checkpoint", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `--list models | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def run(argv: list[str]) -> int:
    from lib import inform
    from lib.cli import parse

    command = parse(argv)
    if command.action == "help":
        print(inform.help_text(command.config()))
    elif command.action == "list":
        print(inform.listing(*command.listing))
    elif command.action == "train":
        return train(command.config())
    else:
        config = command.config()
        from lib import plan

        print(plan.summary(config) if command.action == "summary" else plan.dry_run(config))
    return 0


def train(config) -> int:
    """Train as configured, or say that it is done; 0 for a complete run, 1 for one that diverged."""
    from lib.build import build, build_device
    from lib.fit import fit, outcome
    from lib.log import Log
    from lib.record import RunFolder

    device = build_device(config.run.device)
    folder = RunFolder(config)
    if result := folder.result():
        print(
            f"complete: nothing to do; move {folder.path} away to train again\n{outcome(result, folder.path)}"
        )
        return 0 if result["status"] == "ok" else 1
    log = Log(folder.path / "log.txt")
    for note in config.notes:
        log(f"note: {note}")
    result = fit(build(config, device, log), config, folder, device, log)
    log(outcome(result, folder.path))
    return 0 if result["status"] == "ok" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
