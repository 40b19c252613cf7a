# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Projects to build, and a registry on the loopback that has the packages that they need. No network is used."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import shutil
import struct
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.build.builder import Builder
from ansible_collections.fivepointers.platform.plugins.module_utils.build.commands import wheel
from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers.npm import npm_of
from ansible_collections.fivepointers.platform.plugins.module_utils.build.runtimes import node_version
from ansible_collections.fivepointers.platform.plugins.module_utils.build.sources import Spec

NODE = Path(wheel("bin", "node") or "node")
NODE_VERSION = node_version(NODE)
MAJOR = NODE_VERSION.partition(".")[0]

#: Every package says its name, its version and what it sees of the packages that it needs.
INDEX = """
module.exports = [
  require("./package.json").name + "@" + require("./package.json").version,
  ...Object.keys(require("./package.json").dependencies || {}).flatMap((name) => require(name)),
];
"""

#: What the registry asks for before it gives the package "private".
TOKEN = "a-token-of-the-registry"

#: Tries what AIM lists, and writes down what worked.
HOSTILE = """
const fs = require("fs"), { spawn, execFileSync } = require("child_process");
const aim = JSON.parse(process.env.AIM), loot = [];
const attempt = (what, act) => { try { if (act() !== false) loot.push(what); } catch {} };
for (const path of aim.read) attempt(`read ${path}`, () => fs.readFileSync(path));
for (const path of aim.write) attempt(`write ${path}`, () => fs.writeFileSync(path, "canary"));
for (const path of aim.writable) attempt(`writable ${path}`, () => fs.accessSync(path, fs.constants.W_OK));
for (const path of aim.reach) attempt(`reach ${path}`, () => fs.existsSync(path));
for (const pid of aim.kill) attempt(`kill ${pid}`, () => process.kill(pid, "SIGKILL"));
for (const pid of fs.readdirSync("/proc").filter((name) => /^[0-9]+$/.test(name)))
  attempt(`environment of ${pid}`, () => fs.readFileSync(`/proc/${pid}/environ`, "utf8").includes("canary"));
attempt("environment", () => JSON.stringify(process.env).includes('"canary"'));
attempt("home", () => fs.readdirSync(process.env.HOME).some((name) => name !== ".npm"));
spawn("setsid", ["sh", "-c", "sleep 60; : " + aim.mark], { detached: true, stdio: "ignore" }).unref();
fs.writeFileSync("loot.json", JSON.stringify(loot));
"""

#: name → version → what stands in package.json besides, and files besides index.js.
PACKAGES: dict[str, dict[str, tuple[dict[str, Any], dict[str, str]]]] = {
    "leaf": {"1.0.0": ({}, {}), "2.0.0": ({}, {})},
    "needs-old": {"1.0.0": ({"dependencies": {"leaf": "1.0.0"}}, {})},
    "needs-new": {"1.0.0": ({"dependencies": {"leaf": "2.0.0"}}, {})},
    "deep": {"1.0.0": ({"dependencies": {"needs-old": "1.0.0", "needs-new": "1.0.0"}}, {})},
    "compiler": {
        "1.0.0": (
            {"bin": {"compile": "compile.js"}, "dependencies": {"compiler-part": "1.0.0"}},
            {
                "compile.js": '#!/usr/bin/env node\nconst fs = require("fs");\n'
                'fs.mkdirSync("dist", {recursive: true});\n'
                'for (const name of fs.readdirSync("src")) fs.copyFileSync("src/" + name, "dist/" + name);\n'
            },
        )
    },
    "compiler-part": {"1.0.0": ({}, {})},
    "framework": {
        "1.0.0": (
            {
                "bin": "./cli.js",
                "peerDependencies": {"leaf": "*", "compiler": "*"},
                "peerDependenciesMeta": {"compiler": {"optional": True}},
            },
            {"cli.js": "#!/usr/bin/env node\nconsole.log('framework');\n"},
        )
    },
    "scripted": {
        "1.0.0": (
            {"scripts": {"install": "node install.js"}},
            {"install.js": 'require("fs").writeFileSync("made-at-install.txt", process.version);\n'},
        )
    },
    "generates": {
        "1.0.0": (
            {"scripts": {"install": "node install.js"}},
            {
                "install.js": 'const fs = require("fs"); fs.mkdirSync("../.client", {recursive: true});\n'
                'fs.writeFileSync("../.client/index.js", "module.exports = 42;\\n");\n'
            },
        )
    },
    "beside": {
        "1.0.0": (
            {"scripts": {"install": "node install.js"}},
            {
                "install.js": 'const fs = require("fs"); process.chdir(process.env.INIT_CWD);\n'
                'fs.mkdirSync("generated", {recursive: true}); fs.writeFileSync("generated/made.js", "42;\\n");\n'
            },
        )
    },
    "hostile": {"1.0.0": ({"scripts": {"install": "node install.js"}}, {"install.js": HOSTILE})},
    "private": {"1.0.0": ({}, {})},
    "impostor": {
        "1.0.0": (
            {"bin": {"bwrap": "run.sh", "setpriv": "run.sh"}},
            {"run.sh": '#!/bin/sh\nif [ "$(id -u)" = 0 ]; then touch "$AIM"; fi\nexit 1\n'},
        )
    },
    "@scope/tool": {"1.0.0": ({"dependencies": {"leaf": "2.0.0"}, "bin": {"tool": "index.js"}}, {})},
}


DEEP = {
    "node_modules/deep": "1.0.0",
    "node_modules/leaf": "2.0.0",
    "node_modules/needs-new": "1.0.0",
    "node_modules/needs-old": "1.0.0",
    "node_modules/needs-old/node_modules/leaf": "1.0.0",
}
COMPILER = {"node_modules/compiler": "1.0.0", "node_modules/compiler-part": "1.0.0"}
OF_PROJECT = {**DEEP, **COMPILER, "node_modules/framework": "1.0.0"}


def tarball(name: str, version: str) -> bytes:
    about, files = PACKAGES[name][version]
    content = {
        "package.json": json.dumps({"name": name, "version": version, "main": "index.js", **about}),
        "index.js": INDEX,
        **files,
    }
    out = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=out, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for path, text in content.items():
            info = tarfile.TarInfo(f"package/{path}")
            info.size, info.mode = len(text), 0o755 if path != "package.json" else 0o644
            archive.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


class Registry(BaseHTTPRequestHandler):
    """As much of the npm registry as `npm install` asks for."""

    def do_GET(self) -> None:
        name, _, file = unquote(self.path).lstrip("/").partition("/-/")
        if name not in PACKAGES:
            self.send_error(404)
            return
        if name == "private" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.send_error(401)
            return
        if file:
            body, kind = tarball(name, file.removesuffix(".tgz").rpartition("_")[2]), "application/octet-stream"
        else:
            versions = {}
            for version, (about, _files) in PACKAGES[name].items():
                digest = base64.b64encode(hashlib.sha512(tarball(name, version)).digest()).decode()
                url = f"http://{self.headers['Host']}/{name}/-/package_{version}.tgz"
                scripts = about.get("scripts", {})
                versions[version] = {
                    "name": name,
                    "version": version,
                    **about,
                    "dist": {"tarball": url, "integrity": f"sha512-{digest}"},
                    **({"hasInstallScript": True} if "install" in scripts else {}),
                }
            body = json.dumps({"name": name, "versions": versions, "dist-tags": {"latest": max(versions)}}).encode()
            kind = "application/json"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment with which npm asks the registry of the tests, with a cache of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder = tmp_path_factory.mktemp("npm")
    yield {
        "npm_config_registry": f"http://127.0.0.1:{server.server_address[1]}/",
        "npm_config_cache": str(folder / "cache"),
        "npm_config_omit_lockfile_registry_resolved": "true",
        "HOME": str(folder),
    }
    server.shutdown()


def run_npm(registry: dict[str, str], folder: Path, *words: str) -> None:
    done = subprocess.run(
        [str(NODE), str(npm_of(NODE)), *words, "--no-audit", "--no-fund"],
        cwd=folder,
        text=True,
        capture_output=True,
        check=False,
        env={**os.environ, **registry, "PATH": f"{NODE.parent}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def npm(registry: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run npm in a folder, with the registry of the tests; builds in this test use it as well."""
    for name, value in registry.items():
        monkeypatch.setenv(name, value)
    return lambda folder, *words: run_npm(registry, folder, *words)


def write_lock(folder: Path, packages: dict[str, str], workspaces: tuple[str, ...] = ()) -> None:
    """Write the lock file that npm would: package folders with their versions, without the seconds that npm takes."""
    entries: dict[str, Any] = {"": json.loads((folder / "package.json").read_text())}
    for name in workspaces:
        entries[name] = json.loads((folder / name / "package.json").read_text())
        entries[f"node_modules/{entries[name]['name']}"] = {"resolved": name, "link": True}
    for key, version in packages.items():
        about, _files = PACKAGES[key.rpartition("node_modules/")[2]][version]
        entries[key] = {"version": version, **{name: value for name, value in about.items() if name != "scripts"}}
        if "scripts" in about:
            entries[key]["hasInstallScript"] = True
        if key in COMPILER:
            entries[key]["dev"] = True
    name = entries[""]["name"]
    write(folder, {"package-lock.json": {"name": name, "lockfileVersion": 3, "requires": True, "packages": entries}})


def write(folder: Path, files: dict[str, Any]) -> None:
    """Write files; what is no text becomes JSON."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content, indent=2))


def spec(source: Path, **other: Any) -> Spec:
    """A spec with the defaults of an API."""
    values: dict[str, Any] = {
        "name": "api",
        "layout": "node",
        "source": source,
        "root": source,
        "command": "compile",
        "output": "dist",
        "node": MAJOR,
        **other,
    }
    return Spec(**values)


@pytest.fixture(scope="session")
def template(registry: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small API with a lock file, as a team would have it, and a cache in which it was built."""
    folder = tmp_path_factory.mktemp("template")
    project = folder / "project"
    write(
        project,
        {
            "package.json": {
                "name": "project",
                "version": "1.0.0",
                "scripts": {"build": "compile"},
                "dependencies": {"deep": "1.0.0", "framework": "1.0.0", "leaf": "2.0.0"},
                "devDependencies": {"compiler": "1.0.0"},
            },
            "src/main.js": 'console.log(require("deep").join(" "));\n',
        },
    )
    write_lock(project, OF_PROJECT)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in registry.items():
            patch.setenv(name, value)
        Builder(spec(project), folder / "artifacts", folder / "cache").build()
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    """The small API, for this test alone."""
    return Path(shutil.copytree(template / "project", tmp_path / "project"))


@pytest.fixture
def builder(template: Path, tmp_path: Path, npm: Callable[..., None]) -> Callable[..., Builder]:
    """Make a builder for a spec, with artifacts and cache in the test's folder; its packages are installed already."""
    shutil.copytree(template / "cache", tmp_path / "cache", symlinks=True)

    def make(of: Spec, **other: Any) -> Builder:
        return Builder(of, tmp_path / "artifacts", tmp_path / "cache", **other)

    return make


def unpacked(builder: Builder, manifest: dict[str, Any], folder: Path) -> Path:
    """Unpack an artifact as a host would."""
    with tarfile.open(builder.store.folder / f"{manifest['id']}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def elf(
    machine: int,
    needed: Sequence[bytes],
    versions: Sequence[bytes] = (),
    interpreter: bytes = b"",
    kind: int = 3,
    bits: int = 2,
    order: str = "<",
) -> bytes:
    """An ELF file without code: header, segments, and the names of the libraries that it needs."""
    strings = b"\0" + b"".join(text + b"\0" for text in (*needed, *versions))
    at, address = 64 + 3 * 56, 0x40000
    entries = [(1, strings.index(b"\0" + name + b"\0") + 1) for name in needed] + [(10, len(strings))]
    dynamic = b"".join(struct.pack(f"{order}QQ", *item) for item in [*entries, (5, address + at), (0, 0)])
    parts = [strings, dynamic if needed else b"", interpreter + b"\0" if interpreter else b""]
    begins = [at, at + len(parts[0]), at + len(parts[0]) + len(parts[1])]
    size = begins[2] + len(parts[2])
    segments = [(1, 0, size), (2, begins[1], len(parts[1])), (3, begins[2], len(parts[2]))]
    ident = b"\x7fELF" + bytes([bits, 1 if order == "<" else 2, 1]) + bytes(9)
    header = ident + struct.pack(f"{order}HHIQQQIHHHHHH", kind, machine, 1, 0, 64, 0, 0, 64, 56, len(segments), 0, 0, 0)
    table = [
        struct.pack(f"{order}IIQQQQQQ", what, 4, offset, address + offset, 0, length, length, 1)
        for what, offset, length in segments
    ]
    return header + b"".join(table) + b"".join(parts)


def node(folder: Path, *words: str) -> str:
    """What a program prints."""
    done = subprocess.run(
        [str(NODE), *words], cwd=folder, text=True, capture_output=True, check=False, env={"PATH": "/usr/bin:/bin"}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def running(mark: str) -> list[int]:
    """Processes with a mark in their command line, but for the one that looks."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark in path.read_text() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found
