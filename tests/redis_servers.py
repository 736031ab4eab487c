"""A redis-server, replicas and nginx in processes of their own, for tests and for a reader to run.

``python tests/redis_servers.py SCENARIO...`` starts a redis-server, three replicas and nginx before them, prints the
URL, and stops them with Ctrl-C. Nothing else is needed: no Docker, no file that stays. ``--replicas 0`` starts one
server without a store; further options are those of ``serve``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import redis

from command import Serving, serving

READY_S: Final = 30
NGINX: Final = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream replicas {{ {servers} keepalive 64; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://replicas;
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Connection "";
      proxy_next_upstream error timeout;  # a POST that was sent is not sent again
    }}
  }}
}}
"""


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    """Wait until something listens on a port."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
    raise AssertionError(f"nothing listens on port {port}")


@dataclass
class RedisServer:
    """A redis-server that writes each change to its disk before it answers, so that it can be killed.

    The time of day of one that ``has_clock`` can be set. It needs libfaketime, and another ``malloc`` than its own,
    which asks for the time before libfaketime has begun.
    """

    folder: Path
    has_clock: bool = False
    port: int = field(default_factory=free_port)
    process: Any = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @cached_property
    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port)

    def set_clock(self, seconds: int) -> None:
        """Let it show so many seconds more than the machine."""
        (self.folder / "clock").write_text(f"{seconds:+}s")

    def start(self, *options: str) -> None:
        environment = dict(os.environ)
        if self.has_clock:
            self.set_clock(0)
            (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")  # apt-get install faketime
            environment |= {"LD_PRELOAD": f"{library} libc.so.6", "FAKETIME_NO_CACHE": "1"}
            environment |= {"FAKETIME_TIMESTAMP_FILE": f"{self.folder}/clock", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        command = ["redis-server", "--port", f"{self.port}", "--bind", "127.0.0.1", "--dir", f"{self.folder}"]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
        wait_for(self.port)
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            with contextlib.suppress(redis.RedisError):
                self.client.ping()
                return

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def redis_server(*options: str, has_clock: bool = False) -> Iterator[RedisServer]:
    """Run a redis-server."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder), has_clock)
        server.start(*options)
        try:
            yield server
        finally:
            server.client.close()
            server.kill()


@contextlib.contextmanager
def nginx(urls: Sequence[str], port: int = 0) -> Iterator[str]:
    """Run nginx before some servers, each of which gets a request in turn; yield its URL."""
    port = port or free_port()
    servers = " ".join(f"server {url.removeprefix('http://')} max_fails=0;" for url in urls)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "nginx.conf"
        config.write_text(NGINX.format(folder=folder, port=port, servers=servers))
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        process = subprocess.Popen([program, "-c", config, "-e", f"{folder}/error.log"], stderr=subprocess.DEVNULL)
        try:
            wait_for(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def replicas(store: str, *words: str | Path, count: int = 2, code: int = 0) -> Iterator[list[Serving]]:
    """Serve scenarios by some replicas over a store."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(serving(*words, "--store", store, "--replica-name", f"replica-{number}", code=code))
            for number in range(1, count + 1)
        ]


def main() -> None:
    """Run all of it until it is interrupted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--port", type=int, default=0, help="of nginx; any free one by default")
    parser.add_argument("--appendfsync", default="always", help="when Redis writes to its disk")
    options, words = parser.parse_known_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        if options.replicas:
            server = stack.enter_context(redis_server("--appendfsync", options.appendfsync))
            served = stack.enter_context(replicas(server.url, *words, count=options.replicas))
        else:
            served = [stack.enter_context(serving(*words))]
        url = stack.enter_context(nginx([replica.url for replica in served], options.port))
        print(url, "(stop it with Ctrl-C)", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
