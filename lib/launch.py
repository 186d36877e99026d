"""From a configuration to a finished run and the exit code."""

import os

from lib.config import Config
from lib.errors import BadInput
from lib.inform import outcome
from lib.runfolder import RunFolder


def launch(config: Config) -> int:
    """Train as configured, or say that it is done; 0 for a complete run, 1 for one that diverged."""
    if int(os.environ.get("WORLD_SIZE") or 1) > 1:
        # Without this, every process would train the same run.
        raise BadInput(
            f"torchrun starts {os.environ['WORLD_SIZE']} processes, but this version trains on one device; "
            "run python train.py without torchrun"
        )
    folder = RunFolder(config)
    if result := folder.result():
        print(f"complete: nothing to do; move {folder.path} away to train again")
        print(outcome(result, folder.path))
        if config.evaluate.corruptions and "corruptions" not in result:
            print(f"corruptions: python train.py --evaluate {folder.path} --evaluate.corruptions True")
        return 0 if result["status"] == "ok" else 1

    import torch  # takes seconds, which what stands above need not wait for

    from lib.build import build, build_device
    from lib.fit import fit
    from lib.log import Log

    device = build_device(config.run.device)
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
