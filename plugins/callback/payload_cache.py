# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Payloads of modules, kept from run to run."""

from __future__ import annotations

DOCUMENTATION = r"""
---
name: payload_cache
author:
  - Five Pointers (@fivepointers)
version_added: '0.2.0'
type: aggregate
short_description: Keep the payloads of modules from run to run
description:
  - Ansible sends a module to a host together with all Python files that it imports, and looks for these anew in every
    run, by parsing each of them once for each module.
  - This keeps what it made in the user's own O(directory), and gives it to the next run, where each of the files has
    the content that it had, and none came or went beside it. Other payloads are made anew.
  - Modules of roles and of playbooks (a folder C(library)) are not kept.
  - It trusts that no folder C(module_utils) that came later replaces a file of Ansible's own. Who does that leaves this
    plugin out.
requirements:
  - enabled in C(callbacks_enabled)
options:
  directory:
    description:
      - Where payloads are kept. It belongs to the user who runs Ansible, and nobody else can write there or replace it,
        since what is in it runs on the hosts. Otherwise it is not used.
    type: path
    default: ~/.ansible/payloads
    env:
      - name: FIVEPOINTERS_PAYLOADS
    ini:
      - section: callback_payload_cache
        key: directory
"""

import base64
import contextlib
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import stat
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import ansible
from ansible import constants
from ansible.plugins.callback import CallbackBase
from ansible.release import __version__
from ansible.utils.collection_loader import AnsibleCollectionConfig

# Where ansible-core looks for the payloads of a run, below its temporary directory. Where it looks elsewhere one day,
# nothing is kept, and nothing else happens.
PLACE = "ansiballz_cache"
# Modules whose payload depends on files alone whose place is known. None with a debugger's extensions.
KEPT = ("ansible.modules.", "ansible_collections.")
PLAIN = "-none"
# Seconds after which a store that nobody uses is removed.
UNUSED = 30 * 24 * 3600
STORE = re.compile("[0-9a-f]{16}")
# Where a collection redirects its module_utils.
ROUTES = "meta/runtime.yml"
# Packages that Ansible writes by itself, whatever is in the files.
WRITTEN = re.compile(
    r"(ansible/|ansible_collections/([^/]+/){0,2}(plugins/)?)(module_utils/|modules/(.+/)?)?__init__\.py"
)
# Not what this reads: written by something else, or by another version.
FOREIGN = (AttributeError, EOFError, ImportError, KeyError, TypeError, ValueError)

Sources = dict[str, "str | None"]


class CallbackModule(CallbackBase):
    """Gives a run the payloads of the ones before, and keeps those that it made."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "fivepointers.platform.payload_cache"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.store: Store | None = None

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Give the run what is kept."""
        with contextlib.suppress(OSError):
            self.store = Store(Path(self.get_option("directory")), Path(constants.DEFAULT_LOCAL_TMP) / PLACE)
            self.store.give()

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Keep what the run made. Where that fails, as on a full disk, the next run makes it anew."""
        if self.store:
            with contextlib.suppress(OSError):
                self.store.keep()


class Store:
    """Payloads by name, each with the files that are in it."""

    def __init__(self, directory: Path, run: Path) -> None:
        """Take a store.

        :param directory: of all stores. There is one for each set of places of Ansible and its collections.
        :param run: where ansible-core looks for the payloads of this run.
        :raises OSError: somebody else can write there.
        """
        self.roots = [Path(path) / "ansible_collections" for path in AnsibleCollectionConfig.collection_paths]
        self.core = Path(ansible.__file__).parent
        # One that comes may be what a module of another looked for.
        collections = sorted(str(path) for root in self.roots for path in root.glob("*/*"))
        made_by = [__version__, sys.version, str(self.core), *map(str, self.roots), *collections]
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory = directory.resolve() / hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:16]
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self.index = self.directory / "index.json"
        self.run = run
        _require_own(self.directory)
        self.seen: Sources = {}
        self.given: set[str] = set()

    def give(self) -> None:
        """Copy what is as it was into the run's folder: another run may remove what is kept."""
        os.utime(self.directory)
        self.run.mkdir(parents=True, exist_ok=True)
        for name, entry in self._kept().items():
            if (self.run / name).exists():
                continue
            with contextlib.suppress(FileNotFoundError):
                content = (self.directory / entry["payload"]).read_bytes()
                whole = hashlib.sha256(content).hexdigest() == entry["payload"]
                if whole and all(self._source(source) == state for source, state in entry["sources"].items()):
                    part = self.run / f"{name}-given"
                    part.write_bytes(content)
                    part.rename(self.run / name)
                    self.given.add(name)

    def keep(self) -> None:
        """Keep what was made in the run's folder, and remove what nothing needs any more."""
        made = [
            path for path in self.run.glob(f"*{PLAIN}") if path.name.startswith(KEPT) and path.name not in self.given
        ]
        kept = self._kept()
        for path in made:
            content = path.read_bytes()
            sources = self._sources(content)
            if sources:
                payload = hashlib.sha256(content).hexdigest()
                self._write(self.directory / payload, content)
                kept[path.name] = {"payload": payload, "sources": sources}
        if made:
            self._write(self.index, json.dumps(kept).encode())
            self._remove({entry["payload"] for entry in kept.values()})

    def _remove(self, payloads: set[str]) -> None:
        """Remove other payloads than these, and stores that nobody has used for long."""
        for path in set(self.directory.iterdir()) - {self.index}:
            if path.name not in payloads:
                # A run that was about to read it makes it anew.
                path.unlink(missing_ok=True)
        for store in self.directory.parent.iterdir():
            # Other things may lie there.
            if STORE.fullmatch(store.name) and store.lstat().st_mtime < time.time() - UNUSED:
                shutil.rmtree(store, ignore_errors=True)

    def _kept(self) -> dict[str, Any]:
        try:
            kept = json.loads(self.index.read_bytes()).items()
            return {name: {"payload": entry["payload"], "sources": dict(entry["sources"])} for name, entry in kept}
        except (FileNotFoundError, *FOREIGN):
            return {}

    def _sources(self, content: bytes) -> Sources:
        """What a payload depends on, as it was when it was made; none if that is not known."""
        found: Sources = {}
        try:
            # As ansible-core will read it: this run has written it.
            made = pickle.loads(content)  # noqa: S301
            archive = zipfile.ZipFile(io.BytesIO(base64.b64decode(made.zip_data)))
            for name in archive.namelist():
                if not WRITTEN.fullmatch(name):
                    # A redirection is in no file, and is made anew in each run.
                    found[name] = hashlib.sha256(archive.read(name)).hexdigest()
                package, *rest = name.split("/")
                if package != "ansible" and len(rest) > 2:
                    routes = "/".join([package, *rest[:2], ROUTES])
                    found[routes] = self._source(routes)
                if "/module_utils/" in name:
                    folder = name.rpartition("/")[0] + "/"
                    found[folder] = self._source(folder)
        except (*FOREIGN, OSError, pickle.UnpicklingError, zipfile.BadZipFile):
            return {}
        return found

    def _source(self, name: str) -> str | None:
        """What is in a file, or the names in a folder, as a digest; None where there is none."""
        if name not in self.seen:
            path = self._path(name)
            try:
                if name.endswith("/"):
                    content = "\n".join(sorted(set(os.listdir(path)) - {"__pycache__"})).encode()
                else:
                    content = path.read_bytes()
                self.seen[name] = hashlib.sha256(content).hexdigest()
            except OSError:
                self.seen[name] = None
        return self.seen[name]

    def _path(self, name: str) -> Path:
        """Where a file of a payload comes from."""
        package, *rest = name.split("/")
        if package == "ansible":
            return self.core.joinpath(*rest)
        root = next((root for root in self.roots if root.joinpath(*rest[:2]).is_dir()), self.roots[0])
        return root.joinpath(*rest)

    def _write(self, path: Path, content: bytes) -> None:
        with tempfile.NamedTemporaryFile(dir=self.directory, delete=False) as handle:
            handle.write(content)
        os.replace(handle.name, path)


def _require_own(folder: Path) -> None:
    """Raise PermissionError if somebody else but root can write to a folder of stores, or put another in its place."""
    for place in (folder, *folder.parents):
        status = place.lstat()
        within = place in (folder, folder.parent)
        # In a place as /tmp, nobody replaces what others have there.
        shared = status.st_mode & 0o022 and (within or not status.st_mode & stat.S_ISVTX)
        owners = {os.geteuid()} if within else {os.geteuid(), 0}
        if not stat.S_ISDIR(status.st_mode) or shared or status.st_uid not in owners:
            raise PermissionError(place)
