"""Train a model: `python train.py --model resnet20 --epochs 30`; `--help` lists all there is to set."""

import os
import sys

from lib.errors import BadInput


def main(argv: list[str]) -> int:
    """Run one command line; returns the exit code."""
    try:
        return run(argv)
    except BadInput as error:
        # What a library had to say may hold line breaks.
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
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
    if int(os.environ.get("WORLD_SIZE") or 1) > 1:
        # Without this, every process would train the same run.
        raise BadInput(
            f"torchrun starts {os.environ['WORLD_SIZE']} processes, but this version trains on one device; "
            "run python train.py without torchrun"
        )
    import torch

    from lib.build import build, build_device
    from lib.fit import fit
    from lib.log import Log
    from lib.record import outcome
    from lib.runfolder import RunFolder

    device = build_device(config.run.device)
    folder = RunFolder(config)
    if result := folder.result():
        print(
            f"complete: nothing to do; move {folder.path} away to train again\n{outcome(result, folder.path)}"
        )
        return 0 if result["status"] == "ok" else 1
    notes = [f"note: {note}" for note in config.notes]
    try:
        # Before the folder is claimed: what cannot be built leaves nothing behind.
        run = build(config, device, notes.append)
        folder.claim()
        log = Log(folder.path / "log.txt")
        for note in notes:
            log(note)
        result = fit(run, config, folder, device, log)
    except torch.OutOfMemoryError as error:
        raise BadInput(
            f"{device} is out of memory; give a larger --accumulate (parts that a batch is split into, now "
            f"{config.train.accumulate}), or a smaller --batch-size (now {config.train.batch_size})"
        ) from error
    log(outcome(result, folder.path))
    return 0 if result["status"] == "ok" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
