"""Many runs on one device: `python train.py --config X --seeds 0..9` trains a run a seed, several at once.

They are jobs as those of a grid, in processes of their own, and each has the folder and the outcome that it
has alone: it is the same code with the same tricks, which a network that is many at once could not take.
`python -m scripts.bench.packing` measures this way beside others.
"""

import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.cli import Command, parse
from ..config.schema import Config
from ..config.sources import layer_of
from ..core.errors import BadInput, exit_code
from ..core.fields import coerce
from ..run.launch import launch
from ..store.run_folder import RunFolder, read_result
from .carry_out import Progress, failures, told
from .estimate import duration
from .fork import SUPPORTED, Forks, asked
from .job import Job, Options, done, outcome
from .local import Pool, cores
from .spec import read_seeds

if TYPE_CHECKING:  # takes seconds to import, which a command that has nothing left to do need not wait for
    from ..data.base import Dataset

CONTEXT = 600 * 2**20  # bytes that CUDA itself takes for a process, which that cannot see
SPARE = 0.1  # of the free memory stays so: a run is measured by its first steps only


def train_seeds(command: Command) -> int:
    """Carry out the runs that are not complete; 0 if all are in the end, and none has diverged."""
    seeds, at_once = _asked_for(command)
    jobs = [_job(single(command, seed), seed) for seed in seeds]
    left = [job for job in jobs if not done(job)]
    print(f"{len(jobs)} seeds: {len(left)} to do, in {jobs[0].folder.parent}")
    for note in command.config().notes:
        print(f"note: {note}")
    for job in jobs:
        if job not in left:
            print(f"{job.name}: done, {told(job)}")
    if left:
        _carry_out(left, len(jobs), at_once)
    print("\n".join([*failures(jobs), *_means(jobs)]))
    return 0 if all(outcome(job) == "ok" for job in jobs) else 1


def _asked_for(command: Command) -> tuple[tuple[int, ...], int | None]:
    """The seeds, and how many of them at once."""
    try:
        seeds = read_seeds(command.seeds)
    except BadInput as error:
        raise BadInput(f"--{error}") from None
    try:
        return seeds, command.jobs and Options(coerce(command.jobs, int)).jobs
    except ValueError as error:
        raise BadInput(f"--jobs {command.jobs}: {error}") from error


def single(command: Command, seed: int) -> Command:
    """What the user would ask for to have the run of one seed alone."""
    pairs = []
    for pair in command.pairs:
        settings = dict(layer_of([pair], "command line"))
        if setting := settings.get(("train", "seed")):
            raise BadInput(f"{setting} is one seed, and --seeds are several; leave one out")
        if ("run", "output_dir") not in settings:
            pairs.append(pair)
    if folder := command.config().run.output_dir:  # that of a run: here each has its own in it
        pairs.append(("output-dir", str(Path(folder, f"seed{seed}")), "--output-dir"))
    return Command(files=command.files, pairs=[*pairs, ("seed", str(seed), "--seed")])


def _job(command: Command, seed: int) -> Job:
    folder = RunFolder(command.config()).path  # it is refused here if it holds something else
    words = ["--config", ",".join(map(str, command.files))] if command.files else []
    for key, value, _ in command.pairs:
        switch = {True: f"--{key}", False: f"--no-{key}"} if isinstance(value, bool) else {}
        words.append(switch.get(value, f"--{key}={value}"))
    return Job(folder.parent.name, seed, tuple(words), folder)


def _carry_out(left: Sequence[Job], seeds: int, at_once: int | None) -> None:
    """Train what is left.

    How many run at once, and so the threads of each, depends on all the seeds, not on those that are left: as
    the threads decide the order of sums, a run that is resumed goes on as it began.
    """
    began = time.perf_counter()
    import torch

    config = parse(list(left[0].arguments)).config()
    threads = torch.get_num_threads()
    dataset = prepare(config)
    find = partial(room, config, dataset, threads, at_once)
    slots = min(seeds, (asked(find)[0] if SUPPORTED else find()) or 1)
    print(f"{slots} at once", flush=True)
    options = Options(slots, retries=0)  # the same command again is the way to repeat what failed
    with Progress(left) as progress:
        if SUPPORTED:
            Forks(left, options, progress.report, partial(_train, dataset, threads)).run()
        else:
            Pool(left, options, progress.report).run()
    seconds, complete = time.perf_counter() - began, sum(map(done, left))
    if complete:
        runs = f"{complete} run{'s' * (complete > 1)} in {duration(seconds)}, {slots} at once"
        print(f"{runs}: {3600 * complete / seconds:.3g} runs an hour")
    if any(outcome(job) == "out of memory" for job in left) and slots > 1:
        print(f"fewer at once need less memory: --jobs {slots // 2}")


def prepare(config: Config) -> "Dataset":
    """The data. All that runs import is imported too, and what cannot be built is refused.

    By one thread and on the CPU, for this process is to be forked.
    """
    import matplotlib.style  # noqa: F401
    import torch

    from ..factory import build, build_dataset
    from ..run import fit  # noqa: F401

    torch.set_num_threads(1)
    dataset = build_dataset(config)
    build(_uncompiled(config), torch.device("cpu"), _ignore, dataset=dataset)
    return dataset


def room(config: Config, dataset: "Dataset", threads: int, wanted: int | None = None) -> int:
    """How many runs to carry out at once: one for each core, as long as they find room on a GPU.

    Args:
        threads: that a run has if the user has said so.
        wanted: the answer, if the user has given it.
    Raises:
        BadInput: there is no such device.
    """
    import torch

    from ..engine.evaluate import BATCH, evaluate
    from ..engine.step import train_step
    from ..factory import build, build_device

    device = build_device(config.run.device)
    if wanted:
        return wanted
    if device.type != "cuda":
        return max(1, cores() // threads) if os.environ.get("OMP_NUM_THREADS") else cores()
    free, _ = torch.cuda.mem_get_info(device)
    try:
        run = build(_uncompiled(config), device, _ignore, dataset=dataset)
        for step in range(2):
            train_step(run, step)
        split = next(iter(run.splits.values()))
        evaluate(run.model, split.take(slice(0, BATCH)), run.normalize, run.precision)
        left, _ = torch.cuda.mem_get_info(device)
    except torch.OutOfMemoryError:
        return 1  # which will say what to do
    return max(1, min(cores(), int((1 - SPARE) * free / (free - left + CONTEXT))))


def _train(dataset: "Dataset", threads: int, job: Job) -> int:
    """A run, in a process of its own."""
    import torch

    share = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    torch.set_num_threads(int(share or threads))
    return exit_code(launch, parse(list(job.arguments)).config(), dataset)


def _uncompiled(config: Config) -> Config:
    return replace(config, settings=config.settings | {"train": config.train.uncompiled()})


def _ignore(note: str) -> None:
    """The runs will say it themselves."""


def _means(jobs: Sequence[Job]) -> list[str]:
    """What the runs are worth together."""
    results = [read_result(job.folder) for job in jobs if outcome(job) == "ok"]
    if not results:
        return ["no run is complete"]
    names = [
        name for name in results[0] if name.endswith("_accuracy") and all(name in one for one in results)
    ]
    means = "  ".join(_mean(name, [result[name] for result in results]) for name in names)
    of = f"{len(results)} of {len(jobs)}" if len(results) < len(jobs) else f"{len(jobs)}"
    return [f"{means}  (last epoch; mean ± std of {of} seeds)"]


def _mean(name: str, values: Sequence[float]) -> str:
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    what = name.removesuffix("_accuracy").replace("_", " ")
    return f"{what} accuracy {statistics.fmean(values):.2f}{spread} %"
