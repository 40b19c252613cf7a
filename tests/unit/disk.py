# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A small file system of its own, to be filled: ext4 on a loop device, as on a host."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
from pathlib import Path

SIZE, INODES = 32 << 20, 512


class Disk:
    """A mounted file system of 32 MiB and 512 inodes, without a reserve for root."""

    def __init__(self, image: Path, path: Path) -> None:
        self.image, self.path = image, path
        with image.open("wb") as handle:
            handle.truncate(SIZE)
        self._run("mkfs.ext4", "-q", "-m", "0", "-N", str(INODES), "-O", "^resize_inode", str(image))
        path.mkdir()
        self.mount()

    def mount(self) -> None:
        """Mount it."""
        self._run("mount", "-o", "loop,noatime", str(self.image), str(self.path))

    def close(self) -> None:
        """Unmount it, also if a failed test still has a file of it."""
        self._run("umount", "--lazy", str(self.path))

    def again(self) -> None:
        """Unmount and mount it: what is read then was on disk."""
        self._run("umount", str(self.path))
        self.mount()

    def read_only(self) -> None:
        """Let nobody write."""
        self._run("mount", "-o", "remount,ro", str(self.path))

    def fill(self, what: str = "both") -> None:
        """Use up every byte, every inode, or both, as a service can."""
        folder = self.path / "filled"
        folder.mkdir(exist_ok=True)
        if what in ("inodes", "both"):
            with contextlib.suppress(OSError):
                for number in itertools.count(len(os.listdir(folder))):
                    (folder / str(number)).touch(exist_ok=False)
            assert not os.statvfs(self.path).f_favail
        if what in ("bytes", "both"):
            # The name was there before the inodes were gone.
            with (folder / "0").open("ab", buffering=0) as handle:
                for size in (1 << 20, 4096, 1):
                    with contextlib.suppress(OSError):
                        while handle.write(b"x" * size):
                            pass
                os.fsync(handle.fileno())

    def empty(self) -> None:
        """Remove what fill wrote."""
        for file in (self.path / "filled").iterdir():
            file.unlink()

    def _run(self, *command: str) -> None:
        subprocess.run(command, check=True, capture_output=True)
