# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Build a service from its source: the same inputs give the same id, and are built only once.

Steps: list the source, derive the id, and stop if that artifact exists. Otherwise copy the source to a work folder,
install from the lock file, run the build command, and pack what the service needs to run. The source is only read.
What packages and projects run sees the work folder and the system only (isolation.py).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.build import findings, installed
from ansible_collections.fivepointers.platform.plugins.module_utils.build.commands import (
    BuildError,
    explain,
    locked,
    read_object,
    run,
    tail,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.build.declared import contradiction
from ansible_collections.fivepointers.platform.plugins.module_utils.build.entries import check_commands
from ansible_collections.fivepointers.platform.plugins.module_utils.build.isolation import (
    Isolation,
    accounts,
    give,
    write_filter,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.build.layouts import LAYOUTS, Built, make_layout
from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers import manager_of
from ansible_collections.fivepointers.platform.plugins.module_utils.build.packages import installed_packages
from ansible_collections.fivepointers.platform.plugins.module_utils.build.runtimes import (
    Runtime,
    fetch_runtime,
    find_runtime,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.build.signatures import Signer
from ansible_collections.fivepointers.platform.plugins.module_utils.build.sources import (
    SourceFile,
    Spec,
    build_command,
    check_source,
    commit_of,
    digest_of,
    file_sha256,
    identity,
    inputs,
    read_source,
    reason,
    tracked_names,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.build.store import Store
from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import read_record

#: Variables with certificates that a build trusts, and all that it inherits from the controller besides those of its
#: package manager: enough to reach a registry.
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS")
PASSED_ON = rf"LANG|LC_.*|TZ|{'|'.join(CERTIFICATES)}|(?i:(?:https?|no|all)_proxy)"
#: What Node.js runs; other programs of package managers run by themselves.
SCRIPTS = (".js", ".cjs", ".mjs")
#: Node.js includes brotli, Python does not. The argument is the folder of numbered files to compress.
BROTLI = """
const { readdirSync, promises: { readFile, writeFile } } = require("fs");
const pack = require("util").promisify(require("zlib").brotliCompress);
process.chdir(process.argv[1]);
Promise.all(readdirSync(".").map(async (name) => writeFile(`${name}.br`, await pack(await readFile(name)))));
"""


class Builder:
    """Builds one service in its work folder."""

    def __init__(
        self,
        spec: Spec,
        artifacts: Path,
        cache: Path,
        archives: Mapping[str, Mapping[str, Any]] | None = None,
        keep: int = 10,
        timeout: float = 1800,
        signer: Signer | None = None,
        secrets: Mapping[str, str] | None = None,
        isolate: bool = True,
    ) -> None:
        """Prepare to build.

        :param secrets: variables that only this build gets. They do not count for its id.
        :param isolate: whether commands are isolated. Where that is impossible, builds are refused.
        """
        self.spec = spec
        self.secrets = secrets or {}
        self.isolate = isolate
        self.isolation: Isolation | None = None
        self.store = Store(artifacts / spec.name, signer)
        self.cache = cache
        self.archives = archives or {}
        self.keep = keep
        self.timeout = timeout
        self.work = cache / "build" / spec.name
        self.tree = self.work / "tree"
        self.home = self.work / "home"
        self.temporary = self.work / "tmp"
        #: The package manager's cache. Each service has its own, since its install scripts can write to it.
        self.packages = self.work / "packages"
        self.folders = (self.tree, self.home, self.temporary, self.packages)
        #: The key of what is installed, and what that is.
        self.record = self.work / "installed"
        self.log = self.work / "build.log"
        self.runtime = Runtime("", None)
        #: Where the project asks for another Node.js than it gets; empty if it does not.
        self.told = ""
        self.manager = manager_of(spec.root)

    @property
    def app(self) -> Path:
        """The application's folder in the work folder."""
        return self.tree / self.spec.app

    def plan(self) -> dict[str, Any]:
        """Return what to build.

        That is id, inputs, files, tracked, manifest (None: not built yet) and reason (empty: up to date).
        """
        check_source(self.spec)
        self.runtime = find_runtime(self.spec.node, self.cache, self.archives)
        self.told = contradiction([self.spec.source, self.spec.root], self.runtime.version)
        files = read_source(self.spec)
        tracked = tracked_names(self.spec)
        parts = inputs(self.spec, files, self.runtime.version, tracked)
        name = identity(parts)
        manifest = self.store.complete(name)
        if manifest:
            # The commands are no part of the id.
            packed = {*manifest["files"], *manifest["links"]}
            check_commands(self.spec, packed, manifest["left_out"], (self.spec.source,))
        why = "" if manifest else reason(parts, self.store.manifest("latest"))
        return {
            "id": name,
            "inputs": parts,
            "files": files,
            "tracked": tracked,
            "manifest": manifest,
            "reason": why,
        }

    def build(self) -> dict[str, Any]:
        """Build unless the artifact exists. Returns manifest, built, changed, reason and removed (ids)."""
        with locked(self.work / "lock", f"building {self.spec.name}"):
            plan = self.plan()
            manifest = plan["manifest"]
            built = manifest is None
            commit = commit_of(self.spec)
            if built:
                manifest = self._make(plan, commit)
            elif commit and self._older(manifest):
                manifest = self.store.restate(manifest, commit)
            changed = self.store.point(manifest) or built
            removed = self.store.prune(self.keep, but=manifest["id"]) if changed else []
        return {"manifest": manifest, "built": built, "changed": changed, "reason": plan["reason"], "removed": removed}

    def _older(self, manifest: dict[str, Any]) -> bool:
        """Return whether an artifact that exists needs the commit of now: it was reverted to, or had none yet.

        An artifact that is still the latest keeps its commit: otherwise each commit would change all artifacts.
        """
        latest = self.store.manifest("latest") or {}
        return latest.get("id") != manifest["id"] or (manifest.get("commit") or {}).get("dirty", True)

    def try_out(self, command: str) -> None:
        """Install, and run a command that creates nothing that is kept, such as the project's own tests."""
        with locked(self.work / "lock", f"trying out {self.spec.name}"):
            environment, _packages = self._prepare(self.plan())
            self._run_command(command, environment)

    def _prepare(self, plan: dict[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
        """Copy the source and install; returns the environment of commands, and the installed packages."""
        self.log.unlink(missing_ok=True)
        self.log.touch(0o600)
        program = self.runtime.program
        if program is None:
            program = fetch_runtime(self.runtime.version, self.runtime.archive, self.cache)
        self._make_folders()
        environment = self._environment(program)
        self.isolation = self._isolation(program, environment) if self.isolate else None
        files = {file.path: file for file in plan["files"]}
        key = self._install_key(plan)
        kept = self._restore(key, files)
        self._make_folders()
        self._copy_source([file for path, file in files.items() if path not in (kept or ())])
        self._hand_over()
        if key and kept is None:
            self._install(key, files, environment)
        return environment, self._packages() if key else {}

    def _make(self, plan: dict[str, Any], commit: dict[str, Any] | None) -> dict[str, Any]:
        spec = self.spec
        environment, packages = self._prepare(plan)
        command = self._command()
        if command:
            self._run_command(command, environment)
        built = Built(spec, self.tree, command, packages, plan["tracked"], tuple(self.secrets.values()))
        layout = make_layout(built, self._brotli)
        about = {
            "service": spec.name,
            "layout": spec.layout,
            "node": self.runtime.version,
            "inputs": plan["inputs"],
            "left_out": layout.left_out,
            "changes_schema": [] if spec.layout == "static" else findings.schema_changes(layout),
        }
        if commit:
            about["commit"] = commit
        return self.store.put(plan["id"], about, layout)

    def _make_folders(self) -> None:
        for folder in self.folders:
            folder.mkdir(parents=True, exist_ok=True)

    def _restore(self, key: str, files: Mapping[str, SourceFile]) -> frozenset[str] | None:
        """Remove all that builds added, and what is installed too if it is not this, or if one changed it.

        Otherwise one build could prepare what the next one of a clean source runs and packs.

        :param key: the key of what has to be installed.
        :return: what the installation changed of the source, and must not be copied again; None if it was removed.
        """
        found = read_record(str(self.record))
        changed = found.get("changed")
        tops = [self.tree, self.home]
        more = None
        if found.get("key") == key and changed == _seen(files, changed or ()):
            entries = found["entries"]
            # A file that the source has now, where the installation made one, or a link in place of a folder.
            made = {path for path, state in entries.items() if not state.startswith("d ")}
            inside = {part for path in files if path not in changed for part in (path, *installed.parents(path))}
            if made.isdisjoint(f"{self.tree.name}/{part}" for part in inside):
                more = installed.added(self.work, [top.name for top in tops], entries)
        if more is None:
            self.record.unlink(missing_ok=True)
            lock = self.manager.lock_file(self.spec.root)
            if lock is None or not self.manager.pinned(lock):
                # The package manager would believe what its cache says, and scripts can write to that.
                tops.append(self.packages)
        installed.remove([str(self.temporary), *(map(str, tops) if more is None else more)])
        return None if more is None else frozenset(changed or ())

    def _copy_source(self, files: list[SourceFile]) -> None:
        """Copy files of the source to the work folder, which holds no more than what is installed."""
        for file in files:
            source, target = self.spec.root / file.path, self.tree / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.mode == "l":
                target.symlink_to(os.readlink(source))
                continue
            content = source.read_bytes() if source.is_file() else b""
            if hashlib.sha256(content).hexdigest() != file.digest:
                raise BuildError(f"{source} changed while it was being copied. Run the build again.")
            target.write_bytes(content)
            target.chmod(0o755 if file.mode == "x" else 0o600 if target.name in self.manager.settings else 0o644)

    def _isolation(self, program: Path, environment: Mapping[str, str]) -> Isolation:
        """Return how commands are isolated. Raises BuildError if they cannot be."""
        scripts = [script.parents[1] for script in self.manager.programs(program, self.cache).values()]
        headers = program.resolve().parents[1] / "include" / "node"
        stated = [environment.get(name) for name in (*CERTIFICATES, *self.manager.certificates)]
        certificates = [Path(path) for path in stated if path]
        reads = [self.work / "bin", program.resolve(), *dict.fromkeys(scripts), headers, *certificates]
        known, refused = accounts(self.work, self.home), write_filter(self.work)
        isolation = Isolation([path for path in reads if path.exists()], self.folders, known, refused)
        fault = isolation.fault()
        if fault:
            raise BuildError(
                f"{self.spec.name} cannot be built in isolation, because {fault}. Make that work, or build elsewhere. "
                "With -e build_isolation=off, install scripts of packages run with all rights of who builds: they can "
                "read and change whatever that is, credentials and artifacts included."
            )
        return isolation

    def _hand_over(self) -> None:
        """Give the build's folders to who runs the commands."""
        if self.isolation is not None:
            give(self.folders)

    def _environment(self, program: Path) -> dict[str, str]:
        """Return a build's environment: runtime and package manager first on PATH, and the catalogue's variables."""
        folder = self.work / "bin"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "node").symlink_to(program.resolve())
        for name, script in self.manager.programs(program, self.cache).items():
            path = folder / name
            node = f'"{folder / "node"}" ' if script.suffix in SCRIPTS else ""
            path.write_text(f'#!/bin/sh\nexec {node}"{script}" "$@"\n')
            path.chmod(0o755)
        folders = [folder, self.app / "node_modules/.bin", self.tree / "node_modules/.bin"]
        passed_on = re.compile(f"{PASSED_ON}|{self.manager.passed_on}")
        environment = {key: value for key, value in os.environ.items() if passed_on.fullmatch(key)}
        environment.update(
            PATH=":".join([*dict.fromkeys(map(str, folders)), os.environ.get("PATH", os.defpath)]),
            HOME=str(self.home),
            TMPDIR=str(self.temporary),
            NO_COLOR="1",
            DO_NOT_TRACK="1",
            # The build must not find the repository around its work folder.
            GIT_CEILING_DIRECTORIES=str(self.work),
        )
        environment.update(self.manager.environment(program, self.packages))
        environment.update(LAYOUTS[self.spec.layout].environment)
        environment.update(self.spec.environment)
        environment.update(self.secrets)
        return environment

    def _install(self, key: str, files: Mapping[str, SourceFile], environment: Mapping[str, str]) -> None:
        """Install from the lock file, and record what that left."""
        manager, top = self.manager, self.tree.name
        source = installed.states(self.work, (f"{top}/{path}" for path in files))
        manifests = [path for path in files if os.path.basename(path) == "package.json"]
        manager.check(self.spec.root, {path: read_object(self.tree / path) for path in manifests})
        words = manager.install(manager.lock_file(self.tree) is not None, self.spec.install_scripts, self.spec.app)
        self._run(words, self.tree, environment, f"'{' '.join(words)}'")
        entries = installed.record(self.work, top, [self.home.name], source)
        now = installed.states(self.work, source)
        changed = [path for path in files if now.get(f"{top}/{path}") != source[f"{top}/{path}"]]
        self.record.write_text(json.dumps({"key": key, "entries": entries, "changed": _seen(files, changed)}))

    def _packages(self) -> dict[str, Any]:
        """Return the installed packages, with what the source says of its own, whatever an install script wrote."""
        spec = self.spec
        manifests = {folder: spec.root / folder / "package.json" for folder in ("", spec.app)}
        stated = {folder: read_object(path) for folder, path in manifests.items() if path.is_file()}
        return {**installed_packages(self.tree, spec.app), **stated}

    def _install_key(self, plan: dict[str, Any]) -> str:
        """Return a key that changes whenever what is installed might; empty if there is nothing to install."""
        root, manager = self.spec.root, self.manager
        if not (root / "package.json").is_file():
            return ""
        relevant: dict[str, Any] = {}
        manifests = []
        deciding = {*manager.settings, *manager.configuration}
        for path in {root / "package.json", *(root / file.path for file in plan["files"])}:
            if path.name == "package.json":
                manifests.append(read_object(path))
                relevant[path.relative_to(root).as_posix()] = manifests[-1] | {"scripts": None}
            elif path.name in deciding or path.suffix == ".patch" or path == manager.lock_file(root):
                relevant[path.relative_to(root).as_posix()] = file_sha256(path)
        scripts = {name for about in manifests for name in about.get("scripts") or {}}
        scripted = self.spec.install_scripts and not scripts.isdisjoint(manager.install_scripts)
        if scripted or manager.copies(root, manifests):
            # The project's own install scripts may read any of its files, and variables.
            relevant["source"] = plan["inputs"]["source"]
            relevant["environment"] = plan["inputs"]["environment"]
        relevant["manager"] = [manager.name, manager.version]
        relevant["node"] = self.runtime.version
        relevant["user"] = self.isolation.user if self.isolation else os.geteuid()
        relevant["scripts"] = self.spec.install_scripts
        return digest_of(relevant)

    def _command(self) -> str:
        """Return the build command; empty if there is nothing to build, or if an optional script does not exist."""
        spec = self.spec
        command = build_command(spec)
        if spec.command is not None or not (self.app / "package.json").is_file():
            return command
        scripts = read_object(self.app / "package.json").get("scripts") or {}
        if spec.script in scripts:
            return command
        if not spec.script_required:
            return ""
        raise BuildError(
            f"{spec.source / 'package.json'} has no script '{spec.script}' (available: "
            f"{', '.join(scripts) or 'none'}). Set build.command of {spec.name}, or '' to run no command."
        )

    def _run_command(self, command: str, environment: Mapping[str, str]) -> None:
        """Run a shell command of the project. It does not share the cache from which packages are installed."""
        if self.isolation:
            writes = [folder for folder in self.folders if folder != self.packages]
            self.isolation = dataclasses.replace(self.isolation, writes=writes)
        own = {str(self.packages): str(self.temporary / "packages")}
        environment = {name: own.get(value, value) for name, value in environment.items()}
        self._run(["/bin/sh", "-c", command], self.app, environment, f"'{command}'")

    def _run(self, words: list[str], folder: Path, environment: Mapping[str, str], shown: str) -> None:
        argv = self.isolation.command(words, folder) if self.isolation else words
        status, text = run(argv, folder, environment, self.log, self.timeout, shown, self.secrets.values())
        if status == 0:
            return
        hint = explain(status, text, self.spec.root, bool(self.spec.app), self.manager.hints)
        raise BuildError(
            f"{shown} failed with status {status} in {folder} (a copy of {self.spec.source}). "
            + (f"Likely: {hint}. " if hint else "")
            + f"Full output: {self.log}. Last lines:\n{tail(text, self.manager.noise)}"
        )

    def _brotli(self, contents: list[bytes]) -> list[bytes]:
        """Compress contents with the build's Node.js. Nothing of the project runs, so this needs no isolation."""
        node = self.work / "bin" / "node"
        with tempfile.TemporaryDirectory(dir=self.work) as folder:
            for number, content in enumerate(contents):
                Path(folder, str(number)).write_bytes(content)
            words = [str(node), "-e", BROTLI, folder]
            status, text = run(words, self.work, {}, self.log, self.timeout, "Compressing with brotli")
            if status:
                raise BuildError(f"Compressing with brotli failed with status {status}: {text}")
            return [Path(folder, f"{number}.br").read_bytes() for number in range(len(contents))]


def _seen(files: Mapping[str, SourceFile], paths: Iterable[str]) -> dict[str, list[str]]:
    """Return mode and digest of the source's files at these paths."""
    return {path: [files[path].mode, files[path].digest] for path in paths if path in files}
