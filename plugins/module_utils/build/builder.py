# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Builds a service from its source: the same input gives the same id, and is built once.

Steps: list the source, derive the id, and stop there when that artifact exists. Otherwise copy the source to a work
folder, install by the lock file, run the command, and pack what runs. The user's source tree is only read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.build import node_modules
from ansible_collections.fivepointers.platform.plugins.module_utils.build.commands import (
    BuildError,
    explain,
    locked,
    run,
    tail,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.build.runtimes import (
    Runtime,
    fetch_runtime,
    find_runtime,
    npm_program,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.build.sources import (
    LOCK_FILES,
    SourceFile,
    Spec,
    check_source,
    digest_of,
    file_sha256,
    identity,
    inputs,
    lock_file,
    read_json,
    read_source,
    reason,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.build.store import (
    ArtifactError,
    Layout,
    Store,
    walk,
)

#: Never part of an artifact, even where the whole source is: they hold credentials.
PRIVATE = re.compile(r"(^|/)(\.npmrc|\.env(\..+)?\.local|\.env\.local|\.git)(/|$)")
#: What a build sees of the controller's environment: enough for npm, git and proxies, and nothing of AWS or Ansible.
PASSED_ON = re.compile(
    r"HOME|USER|LOGNAME|LANG|LC_.*|TZ|TMPDIR|SSL_CERT_FILE|SSL_CERT_DIR|NODE_EXTRA_CA_CERTS|SSH_AUTH_SOCK|NPM_TOKEN"
    r"|NODE_AUTH_TOKEN|(?i:npm_config_.*|(?:https?|no|all)_proxy)"
)
#: Node.js brings brotli, and Python does not. Takes the folder of the numbered files that it compresses.
BROTLI = """
const { readdirSync, promises: { readFile, writeFile } } = require("fs");
const pack = require("util").promisify(require("zlib").brotliCompress);
process.chdir(process.argv[1]);
Promise.all(readdirSync(".").map(async (name) => writeFile(`${name}.br`, await pack(await readFile(name)))));
"""
INSTALL_SCRIPTS = ("preinstall", "install", "postinstall", "prepare")


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
    ) -> None:
        self.spec = spec
        self.store = Store(artifacts / spec.name)
        self.cache = cache
        self.archives = archives or {}
        self.keep = keep
        self.timeout = timeout
        self.work = cache / "build" / spec.name
        self.tree = self.work / "tree"
        self.log = self.work / "build.log"
        self.runtime = Runtime("", None)

    @property
    def app(self) -> Path:
        """The application's folder in the work folder."""
        return self.tree / self.spec.app

    def plan(self) -> dict[str, Any]:
        """What the artifact would be, and whether it is there: id, inputs, files, reason (empty: nothing to do)."""
        check_source(self.spec)
        self.runtime = find_runtime(self.spec.node, self.cache, self.archives)
        files = read_source(self.spec)
        parts = inputs(self.spec, files, self.runtime.version)
        name = identity(parts)
        manifest = self.store.complete(name)
        why = "" if manifest else reason(parts, self.store.manifest("latest"))
        return {"id": name, "inputs": parts, "files": files, "manifest": manifest, "reason": why}

    def build(self) -> dict[str, Any]:
        """Build unless it is there. Returns manifest, whether it was built, whether anything changed, why."""
        with locked(self.work / "lock", f"building {self.spec.name}"):
            plan = self.plan()
            manifest = plan["manifest"]
            built = manifest is None
            if built:
                manifest = self._make(plan)
            changed = self.store.point(manifest) or built
            removed = self.store.prune(self.keep, but=manifest["id"]) if changed else []
        return {"manifest": manifest, "built": built, "changed": changed, "reason": plan["reason"], "removed": removed}

    def _make(self, plan: dict[str, Any]) -> dict[str, Any]:
        spec = self.spec
        self.log.unlink(missing_ok=True)
        program = self.runtime.program
        if program is None:
            archive = self.archives.get(spec.node) or next(
                item for item in self.archives.values() if str(item.get("version")) == self.runtime.version
            )
            program = fetch_runtime(self.runtime.version, archive, self.cache)
        self._copy_source(plan["files"])
        environment = self._environment(program)
        packages = self._install(plan, environment)
        command = self._command()
        if command:
            self._run(["/bin/sh", "-c", command], self.app, environment, f"'{command}'")
        layout = self._layout(packages, environment)
        about = {"service": spec.name, "kind": spec.kind, "node": self.runtime.version, "inputs": plan["inputs"]}
        return self.store.put(plan["id"], about, layout)

    def _copy_source(self, files: list[SourceFile]) -> None:
        """Make the work folder's tree exactly the source; installed packages stay."""
        self.tree.mkdir(parents=True, exist_ok=True)
        clear(self.tree)
        for file in files:
            source, target = self.spec.root / file.path, self.tree / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.mode == "l":
                target.symlink_to(os.readlink(source))
                continue
            content = source.read_bytes() if source.is_file() else b""
            if hashlib.sha256(content).hexdigest() != file.digest:
                raise BuildError(f"{source} changed while it was copied. Run the build again.")
            target.write_bytes(content)
            target.chmod(0o755 if file.mode == "x" else 0o600 if target.name == ".npmrc" else 0o644)

    def _environment(self, program: Path) -> dict[str, str]:
        """The environment of a build: the runtime first on PATH, what npm needs, and what the catalogue says."""
        programs = self.work / "bin"
        shutil.rmtree(programs, ignore_errors=True)
        programs.mkdir()
        (programs / "node").symlink_to(program.resolve())
        npm = npm_program(program)
        for name, script in (("npm", npm), ("npx", npm.with_name("npx-cli.js"))):
            path = programs / name
            path.write_text(f'#!/bin/sh\nexec "{programs / "node"}" "{script}" "$@"\n')
            path.chmod(0o755)
        folders = [programs, self.app / "node_modules/.bin", self.tree / "node_modules/.bin"]
        environment = {key: value for key, value in os.environ.items() if PASSED_ON.fullmatch(key)}
        environment.update(
            PATH=":".join([*dict.fromkeys(map(str, folders)), os.environ.get("PATH", os.defpath)]),
            NO_COLOR="1",
            NEXT_TELEMETRY_DISABLED="1",
            # The build must not find the repository around its work folder.
            GIT_CEILING_DIRECTORIES=str(self.work),
            npm_config_audit="false",
            npm_config_fund="false",
            npm_config_progress="false",
            npm_config_update_notifier="false",
        )
        headers = program.resolve().parents[1]
        if (headers / "include/node/node.h").exists():
            environment["npm_config_nodedir"] = str(headers)
        environment.update(self.spec.environment)
        return environment

    def _install(self, plan: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
        """Install by the lock file, unless what is installed fits already; returns what is installed."""
        spec, installed = self.spec, self.tree / "node_modules" / ".package-lock.json"
        if not (self.tree / "package.json").is_file():
            return {}
        key_file = self.work / "installed"
        key = self._install_key(plan)
        if not (installed.is_file() and key_file.is_file() and key_file.read_text() == key):
            key_file.unlink(missing_ok=True)
            words = ["npm", "ci" if lock_file(self.tree) else "install", "--include=dev"]
            if not spec.install_scripts:
                words.append("--ignore-scripts")
            self._run(words, self.tree, environment, f"'{' '.join(words)}'")
            key_file.write_text(key)
        packages = dict(read_json(installed).get("packages") or {}) if installed.is_file() else {}
        packages[""] = read_json(self.tree / "package.json")
        if spec.app:
            if spec.app not in packages:
                raise BuildError(
                    f"{spec.app} is not a workspace of {spec.root / 'package.json'}. Add it to `workspaces` there, or "
                    "drop build.workspace where the service has a lock file of its own."
                )
            packages[spec.app] = read_json(self.app / "package.json")
        return packages

    def _install_key(self, plan: dict[str, Any]) -> str:
        """Changes whenever the installed packages could."""
        manifests = [self.tree / "package.json", *(self.tree / file.path for file in plan["files"])]
        relevant: dict[str, Any] = {}
        scripted = False
        for path in manifests:
            if path.name == "package.json":
                content = read_json(path)
                relevant[path.relative_to(self.tree).as_posix()] = {
                    name: content.get(name) for name in (*node_modules.NEEDED_TO_BUILD, "overrides", "workspaces")
                }
                scripted = scripted or any(name in (content.get("scripts") or {}) for name in INSTALL_SCRIPTS)
            elif path.name == ".npmrc" or (path.parent == self.tree and path.name in LOCK_FILES):
                relevant[path.relative_to(self.tree).as_posix()] = file_sha256(path)
        if scripted and self.spec.install_scripts:
            # Scripts of the project itself may read any of its files.
            relevant["source"] = plan["inputs"]["source"]
        relevant["node"] = self.runtime.version
        relevant["scripts"] = self.spec.install_scripts
        return digest_of(relevant)

    def _command(self) -> str:
        """The build command; the usual one is left out where a relay has no such script."""
        command = self.spec.command.strip()
        usual = command in ("npm run build", "npm run build --if-present")
        if not usual or not (self.app / "package.json").is_file():
            return command
        scripts = read_json(self.app / "package.json").get("scripts") or {}
        if "build" in scripts:
            return command
        if self.spec.kind == "yjs_websocket":
            return ""
        raise BuildError(
            f"{self.spec.source / 'package.json'} has no script named build (it has: "
            f"{', '.join(scripts) or 'none'}). Set build.command of {self.spec.name}, or '' for no command."
        )

    def _run(self, words: list[str], folder: Path, environment: Mapping[str, str], shown: str) -> None:
        status, text = run(words, folder, environment, self.log, self.timeout)
        if status == 0:
            return
        hint = explain(status, text, self.spec.root, bool(self.spec.app))
        raise BuildError(
            f"{shown} failed with status {status} in {folder} (a copy of {self.spec.source}). "
            + (f"Likely: {hint}. " if hint else "")
            + f"All of its output: {self.log}. The end of it:\n{tail(text)}"
        )

    # --- what goes along ---

    def _layout(self, packages: dict[str, Any], environment: Mapping[str, str]) -> Layout:
        layout = Layout()

        def brotli(contents: list[bytes]) -> list[bytes]:
            with tempfile.TemporaryDirectory(dir=self.work) as folder:
                for number, content in enumerate(contents):
                    Path(folder, str(number)).write_bytes(content)
                self._run(["node", "-e", BROTLI, folder], self.work, environment, "Compressing with brotli")
                return [Path(folder, f"{number}.br").read_bytes() for number in range(len(contents))]

        try:
            if self.spec.kind == "static_frontend":
                self._static(layout)
            elif self.spec.kind == "nextjs" and self.spec.standalone:
                self._next_standalone(layout)
            elif self.spec.kind == "nextjs":
                self._next_server(layout, packages)
            else:
                self._node(layout, packages)
            layout.settle()
        except (ArtifactError, node_modules.ArrangeError) as error:
            raise BuildError(f"The artifact of {self.spec.name} cannot be made: {error}.") from error
        self._check_start(layout)
        if self.spec.kind == "static_frontend":
            layout.compress(brotli)
        elif self.spec.kind == "nextjs":
            # What nginx serves; the rest is served by Next.js, which looks for no compressed files.
            layout.compress(brotli, f"{self.spec.output}/static")
        return layout

    def _output(self, what: str = "") -> Path:
        """The build's output; it must be there and hold something."""
        folder = self.app / self.spec.output / what
        if folder.is_dir() and any(folder.iterdir()):
            return folder
        made = [name for name in ("dist", "build", "out", "lib", ".next", "public") if (self.app / name).is_dir()]
        ran = f"'{self.spec.command}' was done, but" if self.spec.command else "Nothing was built, and"
        raise BuildError(
            f"{ran} {Path(self.spec.output) / what} is missing or empty in {self.spec.source}. Set build.output of "
            f"{self.spec.name} to what the build makes (there is: {', '.join(made) or 'nothing that looks like it'})."
        )

    def _static(self, layout: Layout) -> None:
        folder = self._output()
        if not (folder / "index.html").is_file():
            pages = sorted(path.relative_to(self.app).as_posix() for path in self.app.glob("*/index.html"))[:3]
            found = f" (there is {', '.join(pages)})" if pages else ""
            raise BuildError(
                f"{self.spec.output} of {self.spec.name} holds no index.html{found}: set build.output to the folder "
                "that does."
            )
        layout.add_tree(folder, "", skip_private)

    def _node(self, layout: Layout, packages: dict[str, Any]) -> None:
        if self.spec.output in ("", "."):
            layout.add_tree(self.app, "", lambda path: path.split("/")[0] == "node_modules" or skip_private(path))
        else:
            layout.add_tree(self._output(), self.spec.output)
            layout.add_file(self.app / "package.json", "package.json")
        self._modules(layout, packages)

    def _next_server(self, layout: Layout, packages: dict[str, Any]) -> None:
        output = self._output()
        layout.add_tree(output, self.spec.output, lambda path: path.split("/")[0] in ("cache", "standalone", "trace"))
        if (self.app / "public").is_dir():
            layout.add_tree(self.app / "public", "public")
        for name in (
            "package.json",
            ".env",
            ".env.production",
            *(path.name for path in self.app.glob("next.config.*")),
        ):
            layout.add_file(self.app / name, name)
        self._modules(layout, packages)

    def _next_standalone(self, layout: Layout) -> None:
        output = self._output()
        standalone = output / "standalone"
        if not standalone.is_dir():
            raise BuildError(
                f"'{self.spec.command}' made no {self.spec.output}/standalone. Add output: 'standalone' to the "
                f"next.config of {self.spec.source}, or set build.standalone: false."
            )
        nested = nested_app(standalone, output)
        own, shared = standalone / nested / "node_modules", standalone / "node_modules"
        if nested and own.is_dir() and shared.is_dir():
            # The application moves to the root, and its packages to those that stand there.
            packages = {"": {}, **traced_packages(standalone)}
            # What was traced is needed, whether or not a package.json names it.
            traced = {key.rpartition("node_modules/")[2] for key in packages if "node_modules/" in key}
            packages[nested] = {"dependencies": dict.fromkeys(traced, "*")}
            for place, key in node_modules.arrange(packages, nested).items():
                layout.add_tree(standalone / key, place, skip_nested)
        else:
            layout.add_tree(own if own.is_dir() else shared, "node_modules")
        layout.add_tree(standalone / nested, "", lambda path: path == "node_modules" or skip_private(path))
        layout.add_tree(output / "static", f"{self.spec.output}/static")
        if (self.app / "public").is_dir():
            layout.add_tree(self.app / "public", "public")

    def _modules(self, layout: Layout, packages: dict[str, Any]) -> None:
        """The installed packages that the application needs to run."""
        placed = node_modules.arrange(packages, self.spec.app)
        for place, key in placed.items():
            local = "node_modules" not in key.split("/")
            skip = (lambda path: path.split("/")[0] == "node_modules" or skip_private(path)) if local else skip_nested
            layout.add_tree(self.tree / key, place, skip)
        for link, target in node_modules.programs(packages, placed).items():
            layout.add_link(link, target)
        # What install scripts generate beside packages, such as a database client.
        for base in dict.fromkeys((self.tree, self.app)):
            for path in sorted((base / "node_modules").glob(".*")):
                if path.is_dir() and path.name not in (".bin", ".cache") and not path.name.startswith(".vite"):
                    layout.add_tree(path, f"node_modules/{path.name}")

    def _check_start(self, layout: Layout) -> None:
        """What `start` names must be in the artifact, or the service would fail on the host."""
        words = list(self.spec.start)
        if not words or words[0] != "node":
            return
        script = next((word for word in words[1:] if not word.startswith("-")), None)
        if script is None or "$" in script or script.startswith("/"):
            return
        name = os.path.normpath(script)
        options = [name, f"{name}.js", f"{name}.cjs", f"{name}.mjs", f"{name}.json", f"{name}/index.js"]
        if any(option in layout.files or option in layout.links for option in options):
            return
        same = [file for file in layout.files if file.endswith(f"/{Path(name).name}") and "node_modules" not in file]
        there = sorted(same)[:3] or sorted(file for file in layout.files if "/" not in file)[:8]
        raise BuildError(
            f"start of {self.spec.name} is '{' '.join(words)}', and the build made no {name}. It made: "
            f"{', '.join(there) or 'nothing'}. Correct start, or what the build writes."
        )


def clear(folder: Path) -> None:
    """Remove all below a folder but installed packages."""
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            if entry.name == "node_modules":
                continue
            clear(Path(entry.path))
            with contextlib.suppress(OSError):
                os.rmdir(entry.path)
        else:
            os.unlink(entry.path)


def skip_private(path: str) -> bool:
    """Whether a file holds credentials and stays here."""
    return PRIVATE.search(path) is not None


def skip_nested(path: str) -> bool:
    """Whether a path of a package is another package, which has a place of its own."""
    return path == "node_modules"


def nested_app(standalone: Path, output: Path) -> str:
    """Where in a standalone output the application stands: "" or, in a monorepo, its folder."""
    if (standalone / "server.js").is_file():
        return ""
    found = [
        name.rpartition("/")[0]
        for name, _path in walk(standalone, lambda path: path.rpartition("/")[2] in ("node_modules", ".next"))
        if name.rpartition("/")[2] == "server.js" and (standalone / name).with_name("package.json").is_file()
    ]
    if len(found) > 1:
        with contextlib.suppress(BuildError):
            stated = read_json(output / "required-server-files.json").get("relativeAppDir")
            if stated in found:
                return str(stated)
    if len(found) != 1:
        raise BuildError(f"{standalone} holds {len(found)} server.js, and exactly one is needed.")
    return found[0]


def traced_packages(standalone: Path) -> dict[str, Any]:
    """The packages of a standalone output, as a lock file would list them."""
    packages: dict[str, Any] = {}
    for name, path in walk(standalone):
        folder, _slash, file = name.rpartition("/")
        parts = folder.split("/")
        if file != "package.json":
            continue
        outer = len(parts) - 1 - parts[::-1].index("node_modules") if "node_modules" in parts else -1
        inner = parts[outer + 1 :]
        is_package = outer >= 0 and len(inner) == (2 if inner[0].startswith("@") else 1)
        if is_package or "node_modules" not in parts:
            with contextlib.suppress(BuildError):
                packages[folder] = read_json(path)
    return packages
