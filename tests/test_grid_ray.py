"""Grids on Ray, with grid_train.py instead of train.py: two nodes on this machine, at loopback addresses."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import scripts.grid
from tests.helpers.grids import wait_until

HERE = Path(__file__).parent
TRAIN = (sys.executable, str(HERE / "helpers" / "grid_train.py"))
LAUNCHER = f"import sys, scripts.grid; sys.exit(scripts.grid.main(sys.argv[1:], train={TRAIN}))"
GRID = "base: {epochs: 10}\naxes: {lr: [0.1, 0.2, 0.3]}\nseeds: 0..3\n"
HEAD, OTHER = "127.0.0.2", "127.0.0.3"


def test_without_ray_one_line_explains_how_to_install_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    Path("g.yaml").write_text(GRID)
    assert scripts.grid.main(["g.yaml", "--backend", "ray"], train=TRAIN) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: Ray is not installed: pip install -e '.[ray]'")
    assert "--backend local" in errors and errors.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cpus", "0"], "--cpus: cpus must be at least 1, got 0"),
        (["--gpus-per-run", "1.5"], "--gpus-per-run must be below 1 or a whole number, got 1.5"),
        (["--gpus", "0,1"], "--gpus names GPUs of this machine; with --backend ray give --gpus-per-run 1"),
        ([], "RAY_AUTH_MODE is disabled: Ray would run anyone's code; unset it"),
    ],
)
def test_wrong_options_are_refused_before_ray_is_started(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    Path("g.yaml").write_text(GRID)
    assert scripts.grid.main(["g.yaml", "--backend", "ray", *words], train=TRAIN) == 2
    errors = capsys.readouterr().err
    assert message in errors and errors.count("\n") == 1


def test_an_unreachable_head_is_reported_at_once_in_one_line(tmp_path, monkeypatch, capsys):
    pytest.importorskip("ray", minversion="2.52", reason="pip install -e '.[ray]'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    Path("g.yaml").write_text(GRID)
    with socket.socket() as silent:
        silent.bind((HEAD, 0))
        address = f"{HEAD}:{silent.getsockname()[1]}"
        for words in (["--address", address], ["--address", "nonsense"]):
            assert scripts.grid.main(["g.yaml", "--backend", "ray", *words], train=TRAIN) == 2
            errors = capsys.readouterr().err
            assert f"no Ray cluster accepts this token at {words[1]}" in errors and errors.count("\n") == 1


class Nodes:
    """Nodes of a Ray cluster on this machine, isolated from other clusters."""

    def __init__(self, place: Path, token: bool):
        # Ray's sockets are in this folder, and their paths must be short.
        self.place, self.temporary = place, Path(f"/tmp/ray-test-{os.getpid()}-{int(token)}")
        self.environment = os.environ | {"HOME": str(place), "PYTHONPATH": str(HERE.parent)}
        self.environment["RAY_AUTH_MODE"] = "token" if token else "disabled"
        self.started: list[subprocess.Popen] = []
        with socket.socket() as free:
            free.bind((HEAD, 0))
            self.address = f"{HEAD}:{free.getsockname()[1]}"
        if token:
            self.ray("get-auth-token", "--generate")

    def ray(self, *words: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "ray.scripts.scripts", *words]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True)

    def start(self, ip: str) -> None:
        where = ["--address", self.address]
        if ip == HEAD:
            where = ["--head", "--port", self.address.split(":")[1], "--temp-dir", str(self.temporary)]
            where += ["--include-dashboard", "false"]
        words = [
            "start",
            *where,
            "--node-ip-address",
            ip,
            "--num-cpus",
            "2",
            "--object-store-memory",
            "80000000",
        ]
        command = [sys.executable, "-m", "ray.scripts.scripts", *words, "--block", "--disable-usage-stats"]
        log = self.place / f"{ip}.log"
        for _ in range(3):  # on a busy machine the start of Ray may time out
            with open(log, "ab") as output:
                process = subprocess.Popen(command, env=self.environment, stdout=output, stderr=output)
            wait_until(lambda: process.poll() is not None or "runtime started" in log.read_text(), log)  # noqa: B023
            if process.poll() is None:
                self.started.append(process)
                return
        pytest.fail(log.read_text())

    def raylet(self, ip: str) -> int:
        """The process to kill so that the node dies."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            words = path.read_bytes().decode(errors="replace").split("\0") if path.exists() else []
            mine = any(str(self.temporary) in word for word in words)
            if mine and words[0].endswith("/raylet") and f"--node_ip_address={ip}" in words:
                return int(path.parent.name)
        raise LookupError(ip)

    def stop(self) -> None:
        for process in reversed(self.started):
            process.terminate()  # --block ends the processes of its node
        for process in self.started:
            process.wait(60)

    def grid(self, *words: str) -> list[str]:
        return [sys.executable, "-c", LAUNCHER, "g.yaml", *words]


@pytest.fixture
def nodes(tmp_path, monkeypatch, request):
    pytest.importorskip("ray", minversion="2.52", reason="pip install -e '.[ray]'")
    monkeypatch.chdir(tmp_path)
    Path("g.yaml").write_text(GRID)
    cluster = Nodes(tmp_path, token=request.param)
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [True], indirect=True, ids=["token"])
def test_a_grid_survives_the_death_of_a_node_and_no_run_is_done_twice(nodes):
    nodes.start(HEAD)
    nodes.start(OTHER)
    Path("hold").touch()  # so that no run ends before the node dies
    command = nodes.grid("--backend", "ray", "--address", nodes.address)
    with open("output.txt", "w") as output:
        grid = subprocess.Popen(command, env=nodes.environment, stdout=output, stderr=output)
    try:
        wait_until(lambda: len(at_work()) == 4, Path("output.txt"))  # on two cores of each node
        os.kill(nodes.raylet(OTHER), signal.SIGKILL)
        wait_until(lambda: len(at_work()) == 2, Path("output.txt"))  # the others die with the node
        Path("hold").unlink()
        assert grid.wait(300) == 0, Path("output.txt").read_text()
    finally:
        grid.kill()
    alone = nodes.grid("--jobs", "4", "--output-dir", "alone")
    assert subprocess.run(alone, env=nodes.environment, capture_output=True).returncode == 0
    assert results("runs/grids/g") == results("alone")
    assert len(results("alone")) == 12
    again = 0
    for path in Path("runs/grids/g").glob("*/seed*/steps.txt"):
        steps = path.read_text().split()
        # A run that is stopped between a step and its checkpoint repeats that step.
        assert list(dict.fromkeys(steps)) == [str(step) for step in range(10)]
        starts = len((path.parent / "starts.txt").read_text().splitlines())
        assert len(steps) < 10 + starts
        again += starts - 1
    assert again == 2  # the runs on the dead node


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [False], indirect=True, ids=["open"])
def test_a_cluster_without_tokens_is_refused(nodes):
    nodes.start(HEAD)
    for mode in ({}, {"RAY_AUTH_MODE": "token"}):
        mine = {key: value for key, value in nodes.environment.items() if key != "RAY_AUTH_MODE"} | mode
        (nodes.place / ".ray").mkdir(exist_ok=True)
        (nodes.place / ".ray/auth_token").write_text("0" * 64)
        command = nodes.grid("--backend", "ray", "--address", nodes.address)
        done = subprocess.run(command, env=mine, capture_output=True, text=True)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "accepts work without a token" in done.stderr.splitlines()[-1]
    assert not Path("runs").exists()


def at_work() -> list[int]:
    """The process ids of the live runs."""
    starts = [path.read_text().splitlines() for path in Path("runs").glob("grids/g/*/seed*/starts.txt")]
    pids = [int(line.split()[0]) for lines in starts for line in lines]
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def results(folder: str) -> dict[str, str]:
    found = sorted(Path(folder).glob("*/seed*/result.json"))
    return {str(path.parent.relative_to(folder)): path.read_text() for path in found}
