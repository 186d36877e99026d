"""From a configuration to a finished run and the exit code."""

import time

from ..config.schema import Config
from ..core import dist
from ..core.errors import BadInput, out_of_memory
from ..core.registry import PROGRAM
from ..store.run_folder import NullRunFolder, RunFolder
from .outcome import outcome
from .trackers import check_installed


def launch(config: Config) -> int:
    """Train as configured, unless the run is complete; returns 0, or 1 for a run that diverged."""
    began, world = time.perf_counter(), dist.world()
    if world.size > 1:
        from ..factory import build_device

        # Connected before the main process reads the folder, as its content decides for all.
        dist.init_process_group(build_device(config.run.device, world))
    if (code := world.on_main(lambda: _complete(config))) is not None:
        return code
    check_installed(config)

    # Imported late, because torch is slow to import and the checks above do not need it.
    from ..engine.log import Log
    from ..factory import build, build_device, compile_networks, process_of
    from .fit import fit
    from .screen import first_screen

    folder = RunFolder(config) if world.is_main else NullRunFolder()
    device = build_device(config.run.device, world)
    notes = [*config.notes]
    try:
        with process_of(config):
            # Before the folder is claimed: a run that cannot be built creates no folder.
            run = build(config, device, notes.append, world)
            world.on_main(folder.claim)
            log = Log(folder.path / "log.txt") if world.is_main else lambda line: None

            def note(line: str) -> None:
                notes.append(line)
                log(f"note: {line}")

            if world.is_main:
                for line in (*first_screen(run, config, device).splitlines(), *map("note: {}".format, notes)):
                    log(line)
            compile_networks(run, config.train, note)
            result = fit(run, config, folder, device, log, began, notes)
    except KeyboardInterrupt as stopped:
        saved = folder.checkpoint.exists()
        first = "resumes from the last checkpoint" if saved else "starts again, as there is no checkpoint yet"
        raise KeyboardInterrupt(f"the same command {first}") from stopped
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise BadInput(
            f"{device} is out of memory; give a larger --accumulate (micro-batches of a batch, now "
            f"{config.train.accumulate}), or a smaller --batch-size (now {config.train.batch_size})"
        ) from error
    finally:
        folder.release()
    log(outcome(result, folder.path))
    return 0 if result["status"] == "ok" else 1


def _complete(config: Config) -> int | None:
    """Print the result of the run in the folder if it is complete, and return its exit code."""
    folder = RunFolder(config)
    if not (result := folder.result()):
        return None
    print(f"complete: nothing to do; move {folder.path} away to train again")
    print(outcome(result, folder.path))
    if config.evaluate.corruptions and "corruptions" not in result:
        print(f"corruptions: {PROGRAM} --evaluate {folder.path} --evaluate.corruptions True")
    return 0 if result["status"] == "ok" else 1
