"""A stand-in for the Hugging Face hub: a local server that takes commits of a repository."""

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Hub:
    token: str
    url: str = ""
    repositories: list[dict] = field(default_factory=list)  # as they were created
    files: dict[str, bytes] = field(default_factory=dict)  # of the last commit


@contextlib.contextmanager
def hub(token: str) -> Iterator[Hub]:
    """A hub that refuses every other token."""
    state = Hub(token)

    class Handler(BaseHTTPRequestHandler):
        def answer(self, content: dict, status: int = 200) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Authorization") != f"Bearer {state.token}":
                return self.answer({"error": "Invalid credentials"}, 401)
            if self.path.endswith("/repos/create"):
                state.repositories.append(json.loads(body))
                return self.answer({"url": f"{state.url}/owner/name"})
            if "/preupload/" in self.path:
                files = [{"path": f["path"], "uploadMode": "regular"} for f in json.loads(body)["files"]]
                return self.answer({"files": [f | {"shouldIgnore": False, "oid": None} for f in files]})
            if "/commit/" in self.path:
                lines = [json.loads(line) for line in body.splitlines()]
                values = [line["value"] for line in lines if line["key"] == "file"]
                state.files = {value["path"]: base64.b64decode(value["content"]) for value in values}
                return self.answer({"commitUrl": f"{state.url}/owner/name/commit/1", "commitOid": "1"})
            return self.answer({})  # such as the validation of a model card

        def do_GET(self) -> None:
            self.answer({"id": "owner/name", "sha": "0" * 40, "siblings": []})

        def log_message(self, *arguments) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
