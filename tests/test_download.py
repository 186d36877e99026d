"""Downloads from a local server that fails in many ways."""

import hashlib
import pickle
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lib.core.errors import BadInput
from lib.data.download import fetch, read_verified

BYTES = bytes(range(256)) * 2_000
MD5 = hashlib.md5(BYTES).hexdigest()


@dataclass
class Mirror:
    """What a server sends, and the requests that it got."""

    data: bytes = BYTES
    cut: int | None = None  # bytes after which the first connection ends
    ranges: bool = True
    status: int | None = None  # an error to answer with
    then: int | None = None  # an error to answer with after the first connection
    asked: list[str | None] = field(default_factory=list)  # the Range header of each request
    url: str = ""


@pytest.fixture
def serve():
    servers = []

    def start(mirror: Mirror) -> Mirror:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                mirror.asked.append(self.headers["Range"])
                start = int(self.headers["Range"][6:-1]) if mirror.ranges and self.headers["Range"] else 0
                if start >= len(mirror.data):
                    return self.send_error(416)
                if mirror.status:
                    return self.send_error(mirror.status)
                body = mirror.data[start:]
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: mirror.cut])
                mirror.cut, mirror.status = None, mirror.then

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        mirror.url = f"http://127.0.0.1:{server.server_port}/set.bin"
        return mirror

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def dead() -> str:
    """The address of a server that does not exist."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/set.bin"


def get(folder: Path, *urls: str, md5: str = MD5) -> bytes:
    return fetch("set.bin", urls, md5, folder, offline=False).read_bytes()


def names(folder: Path) -> list[str]:
    """The files in a folder, without the lock, which stays so that no two runs lock different files."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".set.bin.lock")


def test_a_file_is_downloaded_into_a_new_folder_and_a_pipe_is_told_so(serve, tmp_path, capsys):
    url = serve(Mirror()).url
    assert get(tmp_path / "new", url) == BYTES
    assert names(tmp_path / "new") == ["set.bin"]
    assert capsys.readouterr().err.startswith("downloading set.bin from ")


def test_a_lost_connection_is_resumed(serve, tmp_path):
    mirror = serve(Mirror(cut=100_000))
    assert get(tmp_path, mirror.url) == BYTES
    assert mirror.asked == [None, "bytes=100000-"]


def test_the_next_run_resumes_a_partial_file(serve, tmp_path):
    (tmp_path / "set.bin.part").write_bytes(BYTES[:300_000])
    mirror = serve(Mirror())
    assert get(tmp_path, mirror.url) == BYTES
    assert mirror.asked == ["bytes=300000-"]


def test_a_complete_partial_file_is_used(serve, tmp_path):
    (tmp_path / "set.bin.part").write_bytes(BYTES)
    assert get(tmp_path, serve(Mirror()).url) == BYTES
    assert names(tmp_path) == ["set.bin"]


def test_another_mirror_resumes_where_the_first_one_failed(serve, tmp_path):
    first, second = serve(Mirror(cut=100_000, then=503)), serve(Mirror())
    assert get(tmp_path, first.url, second.url) == BYTES
    assert first.asked == [None, "bytes=100000-"]
    assert second.asked == ["bytes=100000-"]


def test_a_server_without_range_requests_starts_again(serve, tmp_path):
    mirror = serve(Mirror(cut=100_000, ranges=False))
    assert get(tmp_path, mirror.url) == BYTES
    assert len(mirror.asked) == 2


def test_wrong_bytes_are_discarded_and_the_next_mirror_starts_again(serve, tmp_path):
    wrong, right = serve(Mirror(data=BYTES[:-1] + b"!")), serve(Mirror())
    assert get(tmp_path, wrong.url, right.url) == BYTES
    assert right.asked == [None]


def test_wrong_bytes_never_reach_the_name_of_the_file_and_are_never_unpickled(serve, tmp_path):
    class Planted:
        def __reduce__(self):
            return Path.touch, (tmp_path / "unpickled",)

    mirror = serve(Mirror(data=pickle.dumps(Planted())))
    with pytest.raises(BadInput, match=r"set\.bin \(md5 .*sends a file with md5"):
        get(tmp_path, mirror.url)
    assert names(tmp_path) == []


@pytest.mark.parametrize("offline", [False, True])
def test_a_failed_download_is_reported_with_folder_md5_and_alternatives(tmp_path, dead, offline):
    with pytest.raises(BadInput) as error:
        fetch("set.bin", [dead, dead], MD5, tmp_path, offline)
    for part in ("set.bin", MD5, str(tmp_path), "--root", "--dataset digits"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    assert names(tmp_path) == []


def test_a_server_that_answers_with_an_error_is_skipped(serve, tmp_path):
    assert get(tmp_path, serve(Mirror(status=404)).url, serve(Mirror()).url) == BYTES


def test_offline_uses_existing_files_and_no_network(serve, tmp_path):
    mirror = serve(Mirror())
    (tmp_path / "set.bin").write_bytes(BYTES)
    assert fetch("set.bin", [mirror.url], MD5, tmp_path, offline=True) == tmp_path / "set.bin"
    with pytest.raises(BadInput, match="--offline"):
        fetch("other.bin", [mirror.url], MD5, tmp_path, offline=True)
    assert mirror.asked == []


def test_two_runs_that_start_together_download_once(serve, tmp_path):
    mirror = serve(Mirror())
    found = []
    threads = [threading.Thread(target=lambda: found.append(get(tmp_path, mirror.url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [BYTES] * 4
    assert mirror.asked == [None]


def test_a_damaged_file_is_reported_with_both_md5s_and_the_remedy(tmp_path):
    path = tmp_path / "set.bin"
    path.write_bytes(BYTES[:1_000])
    found = hashlib.md5(BYTES[:1_000]).hexdigest()
    for read in (lambda: read_verified(path, MD5), lambda: fetch("set.bin", [], MD5, tmp_path, offline=True)):
        with pytest.raises(BadInput, match=rf"{MD5}, found {found} in 1000 bytes; delete {path}.*--root"):
            read()


def test_a_folder_that_cannot_be_created_is_bad_input(tmp_path, dead):
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"cannot write .*--root"):
        get(tmp_path / "file", dead)
