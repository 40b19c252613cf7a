# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Which package manager builds a project, and what each of them makes of the same small monorepo, built for real."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.build.builder import Builder
from ansible_collections.fivepointers.platform.plugins.module_utils.build.commands import BuildError
from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers import (
    LOCK_FILES,
    holds_token,
    manager_of,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers.npm import fetch
from ansible_collections.fivepointers.platform.plugins.module_utils.build.sources import check_source, spec_of

from .conftest import NODE, node, spec, unpacked, write

Make = Callable[..., Builder]

MODERN = "__metadata:\n  version: 10\n"


@pytest.mark.parametrize(
    "locks, stated, expected",
    [
        ([], None, "npm "),
        (["package-lock.json"], None, "npm "),
        (["package-lock.json"], "npm@11.0.0", "npm 11.0.0"),
        (["pnpm-lock.yaml"], "pnpm@9.15.9+sha512.ab12", "pnpm 9.15.9"),
        (["pnpm-lock.yaml"], None, "pnpm 10.34.8"),
        (["yarn.lock"], None, "yarn 1.22.22"),
        (["yarn.lock"], "yarn@1.22.19", "yarn 1.22.19"),
        (["yarn.lock", MODERN], None, "yarn 4.18.1"),
        # The last version that keeps the lock file's format.
        (["pnpm-lock.yaml", "lockfileVersion: '9.0'\n"], None, "pnpm 10.34.8"),
        (["pnpm-lock.yaml", "lockfileVersion: '6.0'\n"], None, "pnpm 8.15.9"),
        (["pnpm-lock.yaml", "lockfileVersion: 5.4\n"], None, "pnpm 7.33.7"),
        (["pnpm-lock.yaml", "lockfileVersion: 5.4\n"], "pnpm@7.1.0", "pnpm 7.1.0"),
        (["yarn.lock", "# x\n\n__metadata:\n  version: 6\n"], None, "yarn 3.8.7"),
        (["yarn.lock", "# x\n\n__metadata:\n  version: 8\n  cacheKey: 10c0\n"], None, "yarn 4.13.0"),
        (["yarn.lock", "# x\n\n__metadata:\n  version: 10\n"], None, "yarn 4.18.1"),
        (["bun.lock"], None, "bun 1.4.5"),
        (["bun.lockb", "package-lock.json"], "bun@1.4.5", "bun 1.4.5"),
        ([], "yarn@4.1.0", "yarn 4.1.0"),
        (["pnpm-lock.yaml"], "yarn@4.1.0", "has pnpm-lock.yaml, but packageManager in its package.json is yarn@4.1.0"),
        (["pnpm-lock.yaml", "", "package-lock.json"], None, "has package-lock.json and pnpm-lock.yaml, of different"),
        (["yarn.lock", MODERN], "yarn@1.22.19", "is of Yarn 2 or newer, but packageManager"),
        (["yarn.lock"], "yarn@4.1.0", "is of Yarn 1, but packageManager"),
        (["bun.lock"], "bun@latest", "packageManager in .*package.json is 'bun@latest'. State one of npm, pnpm, yarn"),
    ],
)
def test_the_lock_file_and_the_project_choose(
    tmp_path: Path, locks: list[str], stated: str | None, expected: str
) -> None:
    write(tmp_path, {"package.json": {"name": "a", **({"packageManager": stated} if stated else {})}})
    texts = {name: next((text for text in locks if text not in LOCK_FILES), "") for name in locks if name in LOCK_FILES}
    write(tmp_path, texts)
    try:
        manager = manager_of(tmp_path)
    except BuildError as error:
        assert expected.replace(".*", f"{tmp_path}/") in str(error)
    else:
        assert f"{manager.name} {manager.version}" == expected


def test_a_version_that_a_project_keeps_is_stated(tmp_path: Path) -> None:
    write(tmp_path, {"package.json": {}, "yarn.lock": "__metadata:\n  version: 6\n"})
    write(tmp_path, {".yarnrc.yml": 'nodeLinker: pnp\nyarnPath: ".yarn/releases/yarn-3.6.4.cjs"\n'})
    assert manager_of(tmp_path).version == "3.6.4"
    write(tmp_path, {"package.json": {"packageManager": "yarn@3.5.1"}})
    assert manager_of(tmp_path).version == "3.5.1"


def test_the_nearest_lock_file_counts_and_it_is_said(tmp_path: Path) -> None:
    write(tmp_path, {"pnpm-lock.yaml": "", "apps/api/package-lock.json": {}, "apps/web/package.json": {}})
    service = {"name": "api", "layout": "node", "workspace": str(tmp_path)}
    api = spec_of({**service, "source": str(tmp_path / "apps/api")})
    assert (api.root, api.app) == (tmp_path / "apps/api", "")
    assert api.note == f"{tmp_path}/apps/api/package-lock.json counts, {tmp_path}/pnpm-lock.yaml not"
    write(tmp_path, {"apps/api/package.json": {"dependencies": {"@acme/shared": "workspace:^"}}})
    with pytest.raises(
        BuildError, match=r"needs @acme/shared of its workspace .*apps/api/package-lock.json is for this"
    ):
        check_source(api)
    web = spec_of({**service, "source": str(tmp_path / "apps/web")})
    assert (web.root, web.app, web.note) == (tmp_path, "apps/web", "")


@pytest.mark.parametrize(
    "name, text, expected",
    [
        (".yarnrc.yml", "npmAuthToken: abc", True),
        (".yarnrc.yml", 'npmScopes:\n  a:\n    npmAuthToken: "${NPM_TOKEN}"', False),
        (".yarnrc.yml", "npmAuthToken: ${NPM_TOKEN:-}", False),
        ("bunfig.toml", '[install.scopes]\na = { token = "abc", url = "https://r/" }', True),
        ("bunfig.toml", 'a = { token = "$NPM_TOKEN", url = "https://r/" }', False),
        (".npmrc", "//r/:_authToken=abc", True),
    ],
)
def test_a_token_in_settings_is_noticed(name: str, text: str, expected: bool) -> None:
    assert holds_token(name, text) == expected


MONOREPO: dict[str, Any] = {
    "packages/shared/package.json": {
        "name": "@acme/shared",
        "version": "1.0.0",
        "main": "index.js",
        "dependencies": {"leaf": "1.0.0", "scripted": "1.0.0"},
    },
    "packages/shared/index.js": 'module.exports = ["shared", ...require("leaf"), ...require("scripted")];\n',
    "packages/web/package.json": {"name": "@acme/web", "version": "1.0.0", "dependencies": {"needs-old": "1.0.0"}},
    "packages/web/index.js": "1;\n",
    "packages/api/src/main.js": 'console.log([...require("leaf"), ...require("@acme/shared")].join(" "));\n',
}
PNPM = "packages: ['packages/*']\ncatalog: {leaf: 2.0.0}\n"
#: What each of them needs besides: files, what stands in the root's package.json, and how the shared package is named.
PROJECTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "pnpm@10.34.8": (
        {"pnpm-workspace.yaml": f"{PNPM}onlyBuiltDependencies: [scripted]\n"},
        {},
        "workspace:*",
    ),
    "pnpm@12.20.0": (
        {"pnpm-workspace.yaml": f"{PNPM}allowBuilds: {{scripted: true}}\n"},
        {},
        "workspace:*",
    ),
    "yarn@1.22.22": ({}, {"workspaces": {"packages": ["packages/*"], "nohoist": ["**/scripted"]}}, "1.0.0"),
    "yarn@4.18.1": (
        {".yarnrc.yml": "nodeLinker: pnp\nenableScripts: true\nnpmMinimalAgeGate: 0\ncatalog:\n  leaf: 2.0.0\n"},
        {"workspaces": ["packages/*"], "dependenciesMeta": {"scripted": {"built": True}}},
        "workspace:*",
    ),
    "bun@1.4.5": (
        {},
        {
            "workspaces": {"packages": ["packages/*"], "catalog": {"leaf": "2.0.0"}},
            "trustedDependencies": ["scripted"],
        },
        "workspace:*",
    ),
}


@pytest.fixture(scope="session")
def managers() -> Path:
    """A cache in which package managers stay between runs; each is fetched from the registry once."""
    return Path(__file__).parents[3] / ".cache" / "managers-of-tests"


def lock(project: Path, cache: Path, folder: Path) -> None:
    """Write the lock file, as somebody of the team would."""
    manager = manager_of(project)
    program = manager.programs(NODE, cache)[manager.name]
    words = [str(NODE), str(program)] if program.suffix else [str(program)]
    install = {"yarn@1.22.22": "install --ignore-scripts"}.get(
        f"{manager.name}@{manager.version}", manager.lock_command.split(" ", 1)[1]
    )
    environment = {**os.environ, **manager.environment(NODE, folder / "lock"), "HOME": str(folder)}
    environment["PATH"] = f"{NODE.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [*words, *install.split()], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    subprocess.run("rm -rf node_modules packages/*/node_modules .yarn .pnp.*", shell=True, cwd=project, check=True)


@pytest.mark.slow
@pytest.mark.parametrize("stated", PROJECTS)
def test_a_service_of_a_monorepo(
    tmp_path: Path, managers: Path, registry: dict[str, str], monkeypatch: pytest.MonkeyPatch, stated: str
) -> None:
    files, about, shared = PROJECTS[stated]
    project = tmp_path / "mono"
    catalog = "2.0.0" if stated.startswith("yarn@1") else "catalog:"
    write(project, {"package.json": {"name": "acme", "private": True, "packageManager": stated, **about}})
    write(project, {**MONOREPO, **files})
    api = {
        "name": "@acme/api",
        "version": "1.0.0",
        "scripts": {"build": "compile"},
        "dependencies": {"@acme/shared": shared, "leaf": catalog},
        "devDependencies": {"compiler": "1.0.0"},
    }
    write(project, {"packages/api/package.json": api})
    manager_of(project).programs(NODE, managers)
    address = registry["npm_config_registry"]
    for name in ("npm_config_registry", "pnpm_config_registry", "YARN_NPM_REGISTRY_SERVER", "BUN_CONFIG_REGISTRY"):
        monkeypatch.setenv(name, address)
    monkeypatch.setenv("YARN_UNSAFE_HTTP_WHITELIST", "127.0.0.1")
    lock(project, managers, tmp_path)
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "managers").symlink_to(managers / "managers")
    of = spec(project / "packages/api", root=project, command=None, start=("node", "dist/main.js"))

    make = Builder(of, tmp_path / "artifacts", cache)
    manifest = make.build()["manifest"]
    app = unpacked(make, manifest, tmp_path / "host")
    assert node(app, "dist/main.js") == "leaf@2.0.0 shared leaf@1.0.0 scripted@1.0.0"
    files_of = set(manifest["files"])
    assert any(name.endswith("scripted/made-at-install.txt") for name in files_of), "its install script did not run"
    assert not [name for name in files_of if "needs-old" in name or "compiler" in name], "more than it needs went along"

    # Another package does not count; what was installed is used again, from the lock file only.
    write(project, {"packages/web/index.js": "2;\n"})
    assert Builder(of, tmp_path / "artifacts", cache).plan()["id"] == manifest["id"]
    write(project, {"packages/api/src/main.js": "console.log(2);\n"})
    again = Builder(of, tmp_path / "artifacts", cache)
    assert again.build()["built"]
    assert " install" not in again.log.read_text()
    write(project, {"packages/api/package.json": {**api, "dependencies": {**api["dependencies"], "deep": "1.0.0"}}})
    with pytest.raises(
        BuildError, match=rf"[Rr]un `{again.manager.name} install` in {project} and commit the lock file"
    ):
        Builder(of, tmp_path / "artifacts", cache).build()


@pytest.mark.slow
def test_a_package_manager_that_is_not_what_the_project_states_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"yarn 1\.22\.22 of the registry has another checksum than packageManager"):
        fetch(NODE, tmp_path, "yarn", "1.22.22", "sha512." + "ab" * 64)
    assert not list((tmp_path / "managers").glob("yarn/*"))
