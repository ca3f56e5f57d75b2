"""An image's file system as a container would have it, without a container engine.

The process has uid, environment and entry point of the image's configuration, is the first of its own process
namespace, and sees the image read-only with an empty /tmp. The network is the machine's.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_PREPARE = """
mount --bind "$ROOT" "$ROOT"
mount --options remount,bind,ro "$ROOT"
mount --types tmpfs tmpfs "$ROOT/tmp" && chmod 1777 "$ROOT/tmp"
mount --types proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
if [ -n "$VOLUME" ]; then mount --bind "$VOLUME" "$ROOT/mnt"; fi
exec chroot --userspec="$CONTAINER_USER" --groups= "$ROOT" /usr/bin/env --ignore-environment "$@"
"""


class Image:
    """An image out of an archive, unpacked in a store of its own until `remove`."""

    def __init__(self, archive: Path) -> None:
        # Not below a user's folder: the process that runs as nobody must be allowed to walk there.
        self._store = Path(tempfile.mkdtemp(prefix="yolo-image-"))
        self._store.chmod(0o755)
        self._container = self._buildah("from", f"docker-archive:{archive}")
        self.root = Path(self._buildah("mount", self._container))
        self.config: dict[str, Any] = json.loads(self._buildah("inspect", self._container))["OCIv1"]["config"]

    def _buildah(self, *arguments: str) -> str:
        store = ("--root", str(self._store), "--runroot", str(self._store / "run"), "--storage-driver", "overlay")
        command = [shutil.which("buildah") or "buildah", *store, *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def remove(self) -> None:
        """Leave nothing of it on the machine."""
        self._buildah("rm", self._container)
        self._buildah("rmi", "--all", "--force")
        shutil.rmtree(self._store, ignore_errors=True)

    def bytes(self) -> int:
        """Return what all files of the image take, uncompressed, the base image included; hard links count once."""
        files = {(stat.st_dev, stat.st_ino): stat.st_size for stat in map(os.lstat, self.files())}
        return sum(files.values())

    def files(self) -> list[Path]:
        """Return every file and link of the image."""
        return [Path(folder, name) for folder, _, names in os.walk(self.root) for name in names]

    def start(
        self, *arguments: str, volume: Path | None = None, entry: Sequence[str] | None = None, **options: Any
    ) -> Container:
        """Return a container of the image; `volume` is what it sees at /mnt, `entry` replaces the entry point."""
        command = [*self.config["Env"], *(self.config["Entrypoint"] if entry is None else entry), *arguments]
        environment = {
            **os.environ,
            "ROOT": str(self.root),
            "VOLUME": str(volume or ""),
            "CONTAINER_USER": self.config["User"],
        }
        return Container(command, environment, **options)

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Return what a container of the image printed and how it ended."""
        container = self.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
        out, err = container.process.communicate()
        return subprocess.CompletedProcess(arguments, container.process.returncode, out, err)

    def python(self, program: str) -> subprocess.CompletedProcess[str]:
        """Return what a Python program printed inside."""
        return self.run("-c", program, entry=["python"])


class Container:
    """A running process of an image, number 1 of its namespace."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], **options: Any) -> None:
        namespaces = ("unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child")
        self.process = subprocess.Popen(
            [*namespaces, "sh", "-euc", _PREPARE, "sh", *command], env=environment, **options
        )

    def terminate(self) -> int:
        """Send SIGTERM to the process itself, as a kubelet would, and return its exit code."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        return self.process.wait()

    def stop(self) -> None:
        """End it at once, if it still runs."""
        self.process.kill()
        self.process.wait()
