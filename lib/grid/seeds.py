"""One run per seed: `python train.py --config X --seeds 0..9` trains several of them at once on one device.

Each seed is a job, as in a grid: a separate process and folder, the same program and the same result as a
single run. `python -m scripts.bench.packing` compares this with training one after another.
"""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from ..config.cli import Command
from ..config.habits import given_by
from ..config.sources import layer_of
from ..core.errors import BadInput, where
from ..core.fields import coerce
from ..report.text import count, duration
from ..store.run_folder import RunFolder, read_result
from .capacity import ask_capacity
from .job import Job, Options, done, outcome
from .local import ProcessPool
from .progress import Progress, describe, failures
from .spec import read_seeds


def train_seeds(command: Command, train: tuple[str, ...] = Options.train) -> int:
    """Run all seeds that are not complete; returns 0 if all are complete and none has diverged."""
    seeds, wanted = _parse(command)
    jobs = [_job(single_run(command, seed), seed) for seed in seeds]
    left = [job for job in jobs if not done(job)]
    print(f"{count(len(jobs), 'seed')}: {len(left)} to do, in {jobs[0].folder.parent}")
    for note in command.config().notes:
        print(f"note: {note}")
    for job in jobs:
        if job not in left:
            print(f"{job.name}: done, {describe(job)}")
    if left:
        _run(left, len(jobs), wanted, train)
    print("\n".join([*failures(jobs), *_mean_accuracies(jobs)]))
    return 0 if all(outcome(job) == "ok" for job in jobs) else 1


def _parse(command: Command) -> tuple[tuple[int, ...], int | None]:
    """The values of --seeds and --jobs."""
    try:
        seeds = read_seeds(command.seeds)
    except BadInput as error:
        raise BadInput(f"--{error}") from None
    with where(f"--jobs {command.jobs}"):
        return seeds, command.jobs and Options(coerce(command.jobs, int)).jobs


def single_run(command: Command, seed: int) -> Command:
    """The command that trains one of the seeds alone."""
    pairs, given = [], given_by(command.pairs)
    for pair in command.pairs:
        settings = dict(layer_of([pair], "command line", given))
        if setting := settings.get(("train", "seed")):
            raise BadInput(f"{setting} conflicts with --seeds; remove one of them")
        if ("run", "output_dir") not in settings:
            pairs.append(pair)
    if folder := command.config().run.output_dir:  # here it contains the folders of the runs
        if Path(folder, "config.yaml").exists():
            raise BadInput(f"{folder} is the folder of one run, so it cannot contain those of --seeds")
        pairs.append(("output-dir", str(Path(folder, f"seed{seed}")), "--output-dir"))
    return Command(files=command.files, pairs=[*pairs, ("seed", str(seed), "--seed")])


def _job(command: Command, seed: int) -> Job:
    folder = RunFolder(command.config()).path  # refused if it holds another configuration
    words = ["--config", ",".join(map(str, command.files))] if command.files else []
    for key, value, _ in command.pairs:
        switch = {True: f"--{key}", False: f"--no-{key}"} if isinstance(value, bool) else {}
        words.append(switch.get(value, f"--{key}={value}"))
    return Job(folder.parent.name, seed, tuple(words), folder)


def _run(left: Sequence[Job], seeds: int, wanted: int | None, train: tuple[str, ...]) -> None:
    """Run the jobs that are left.

    The number of runs at once, and so the threads of each, depends on all seeds and not on those that are
    left: the number of threads decides the order of sums, and a resumed run must continue as it began.
    """
    began = time.perf_counter()
    capacity = ask_capacity(left[0].arguments)  # also where --jobs is given: it refuses what cannot be built
    parallel = min(seeds, wanted or capacity)
    print(f"{parallel} at once", flush=True)
    options = Options(parallel, retries=0, train=train)  # the same command again retries what failed
    with Progress(left) as progress:
        ProcessPool(left, options, progress.report).run()
    seconds, complete = time.perf_counter() - began, sum(map(done, left))
    if complete:
        runs = f"{count(complete, 'run')} in {duration(seconds)}, {parallel} at once"
        print(f"{runs}: {3600 * complete / seconds:.3g} runs per hour")
    if any(outcome(job) == "out of memory" for job in left) and parallel > 1:
        print(f"fewer at once need less memory: --jobs {parallel // 2}")


def _mean_accuracies(jobs: Sequence[Job]) -> list[str]:
    """A line with the mean and standard deviation of each accuracy that all complete runs have."""
    results = [read_result(job.folder) for job in jobs if outcome(job) == "ok"]
    if not results:
        return ["no run is complete"]
    names = [name for name in results[0] if name.endswith("_accuracy") and all(name in r for r in results)]
    means = "  ".join(_mean(name, [result[name] for result in results]) for name in names)
    of = f"{len(results)} of {len(jobs)}" if len(results) < len(jobs) else f"{len(jobs)}"
    return [f"{means}  (last epoch; mean ± std of {of} seeds)"]


def _mean(name: str, values: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    what = name.removesuffix("_accuracy").replace("_", " ")
    return f"{what} accuracy {statistics.fmean(values):.2f}{deviation} %"
