# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The source of a service, read file by file, and the id that is derived from it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import stat
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.build import node_modules
from ansible_collections.fivepointers.platform.plugins.module_utils.build.commands import BuildError, read_object
from ansible_collections.fivepointers.platform.plugins.module_utils.build.installed import parents
from ansible_collections.fivepointers.platform.plugins.module_utils.build.layouts import walk
from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers import (
    LOCK_FILES,
    PROGRAMS,
    SETTINGS,
    holds_token,
    lock_file,
    manager_of,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.common.archive import sha256_of

#: Increased when the same inputs would give a different artifact.
FORMAT = 4


@dataclass(frozen=True)
class Spec:
    """What to build. Paths are absolute; see the module ``build`` for their meaning.

    command: None runs the script with the project's package manager; an empty string builds nothing.
    note: which of several lock files counts; empty if there is only one.
    """

    name: str
    layout: str
    source: Path
    root: Path
    command: str | None
    output: str
    script: str = "build"
    script_required: bool = True
    lockfile: str = "required"
    install_scripts: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)
    standalone: bool = True
    exported: str = ""
    node: str = "24"
    start: tuple[str, ...] = ()
    migrate: tuple[str, ...] = ()
    migrations: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    note: str = ""

    @property
    def app(self) -> str:
        """The application's folder below the install root; "" if they are the same."""
        relative = self.source.relative_to(self.root).as_posix()
        return "" if relative == "." else relative

    @property
    def builds(self) -> bool:
        """Return whether a command or a script creates the output."""
        return self.command is None or bool(self.command.strip())


@dataclass(frozen=True)
class SourceFile:
    """One file of the source: its path below the install root, f(ile), x (executable) or l(ink), and a digest."""

    path: str
    mode: str
    digest: str


#: Git takes settings from a repository that it reads, and some of them name programs.
QUIET = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "safe.bareRepository=explicit")


def repository_of(folder: Path) -> Path | None:
    """Return the top level of the repository that a folder is in; None outside one.

    Git itself would first ask whether the folder looks like a bare repository, and files of a source can look like one.
    """
    for top in (folder, *folder.parents):
        if (top / ".git").is_file() or (top / ".git/HEAD").is_file():
            return top
    return None


def git(root: Path, *words: str) -> bytes | None:
    """Return the output of a git command in a folder; None if it fails, or outside a repository.

    Root reads the repository of somebody else as its owner: whatever its settings start has no more rights than that.
    """
    top = repository_of(root)
    if top is None:
        return None
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"
    owner, own = os.lstat(top / ".git"), os.geteuid()
    rights: dict[str, Any] = {}
    if own == 0 and owner.st_uid != 0:
        rights = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
        # What root has set for git is closed to others, and git would stop there.
        environment.update(HOME="/nonexistent", XDG_CONFIG_HOME="/nonexistent")
    elif owner.st_uid not in (0, own):
        raise BuildError(
            f"{top} is the repository of another user, whose settings git would follow. Build as its owner, or in a "
            "clone of your own."
        )
    where = [f"--git-dir={top / '.git'}", f"--work-tree={top}"]
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *where, *QUIET, *words],
            capture_output=True,
            check=False,
            env=environment,
            **rights,
        )
    except FileNotFoundError as error:
        raise BuildError(
            f"{top} is a git repository, but git is not installed, so what belongs to the source is unknown. Install "
            "git, or copy the source without its .git."
        ) from error
    return done.stdout if done.returncode == 0 else None


def listed_by_git(root: Path) -> list[str] | None:
    """Return the files below a folder that git tracks or that are new and not ignored; None outside a repository."""
    if repository_of(root) is None or git(root, "check-ignore", "-q", ".") is not None:
        return None
    names = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if names is None:
        raise BuildError(
            f"git cannot read {repository_of(root)}, so what belongs to the source is unknown. Make `git -C {root} "
            "status` work, or copy the source without its .git."
        )
    return sorted(set(os.fsdecode(names).split("\0")) - {""})


def commit_of(spec: Spec) -> dict[str, Any] | None:
    """Return the checked-out commit that the source belongs to: id, time (the committer's, in seconds), and dirty.

    dirty: files differ from it, or are new and not ignored. None outside a repository, or before its first commit.
    """
    if listed_by_git(spec.root) is None:
        return None
    head = git(spec.root, "log", "-1", "--no-show-signature", "--format=%H %ct")
    if not head:
        return None
    name, time = head.decode().split()
    return {"id": name, "time": int(time), "dirty": git(spec.root, "status", "--porcelain", "--", ".") != b""}


def source_names(spec: Spec) -> list[str]:
    """Return the files to build: git's, or all; without installed packages, outputs and unrelated packages."""
    root = spec.root
    listed = listed_by_git(root)
    names = list(listed or ())
    if listed is None:
        names = [name for name, _path in walk(root, lambda path: path.rpartition("/")[2] in ("node_modules", ".git"))]
    else:
        # git lists a submodule as a folder.
        for name in [name for name in names if (root / name).is_dir() and not (root / name).is_symlink()]:
            names += [f"{name}/{path}" for path, _file in walk(root / name)]
        names += [
            f"{folder}/{name}" if folder else name
            for folder in dict.fromkeys(("", spec.app))
            for name in always(root / folder)
        ]
    output = f"{spec.app}/{spec.output}".strip("/") if spec.builds and spec.output not in ("", ".") else None
    apart = unneeded_workspaces(spec, names)
    tracked = None if listed is None else git_tracks(root)
    kept = []
    for name in sorted(set(names)):
        parts = name.split("/")
        if "node_modules" in parts or ".git" in parts:
            continue
        if output and (name == output or name.startswith(f"{output}/")):
            continue
        if any(name.startswith(f"{folder}/") and name != f"{folder}/package.json" for folder in apart):
            continue
        path = root / name
        if parts[-1] in SETTINGS and not may_hold_settings(spec, path, name, tracked):
            continue
        if path.is_symlink() or path.is_file():
            kept.append(name)
    return kept


def may_hold_settings(spec: Spec, path: Path, name: str, tracked: frozenset[str] | None) -> bool:
    """Return whether a file with settings of a package manager belongs to the source; refuse a token in one.

    What git does not track is a developer's own, and install scripts can read whatever is copied. Outside a repository,
    and in a submodule, that is unknown.
    """
    if tracked is not None and name in tracked:
        return True
    if tracked is not None and tracked.isdisjoint(parents(name)):
        return False
    if path.is_file() and holds_token(path.name, path.read_text(errors="replace")):
        raise BuildError(
            f"{path} holds a token, which every install script could read. Name it in build.secrets, and write "
            "${NAME} in its place, with the name that you gave it."
        )
    return True


def git_tracks(root: Path) -> frozenset[str]:
    """Return the files below a folder that git tracks."""
    return frozenset(os.fsdecode(git(root, "ls-files", "-z", "--cached") or b"").split("\0")) - {""}


def tracked_names(spec: Spec) -> frozenset[str] | None:
    """Return what git tracks of a source that is packed as a whole; None if all of it may be packed."""
    if spec.output not in ("", ".") or listed_by_git(spec.root) is None:
        return None
    return git_tracks(spec.root) | {f"{spec.app}/package.json".lstrip("/")}


def always(folder: Path) -> list[str]:
    """Return files that a build needs even if git ignores them."""
    return [name for name in ("package.json", *SETTINGS, *LOCK_FILES) if (folder / name).is_file()]


def dependencies(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a package.json depends on, of all kinds, with what it says where that comes from."""
    return [
        (name, str(value))
        for kind in node_modules.NEEDED_TO_BUILD
        for name, value in (manifest.get(kind) or {}).items()
    ]


def project_packages(spec: Spec, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the packages of a monorepo by folder, with links as if they were installed. Empty without a monorepo.

    :param names: the source's files.
    """
    patterns = manager_of(spec.root).workspaces(spec.root) if spec.app else []
    if not patterns:
        return {}
    folders = [os.path.dirname(name) for name in names if os.path.basename(name) == "package.json"]
    folders = [folder for folder in folders if not folder or node_modules.is_workspace(folder, patterns)]
    packages = {folder: read_object(spec.root / folder / "package.json") for folder in dict.fromkeys(["", *folders])}
    links: dict[str, dict[str, Any]] = {}
    for folder, about in packages.items():
        if folder:
            links[f"node_modules/{about.get('name')}"] = {"resolved": folder, "link": True}
        for name, value in dependencies(about):
            target = node_modules.beside(folder, value, packages)
            if target is not None:
                links[f"{folder}/node_modules/{name}".lstrip("/")] = {"resolved": target, "link": True}
    return {**packages, **links}


def unneeded_workspaces(spec: Spec, names: Iterable[str]) -> list[str]:
    """Return a monorepo's packages that the service does not depend on; they must not change its id."""
    packages = project_packages(spec, names)
    if spec.app not in packages:
        return []
    needed = node_modules.reachable(packages, spec.app) | node_modules.reachable(packages, "")
    return [
        folder
        for folder in node_modules.workspaces(packages)
        if folder not in needed and not f"{spec.app}/".startswith(f"{folder}/")
    ]


def read_source(spec: Spec) -> list[SourceFile]:
    """Return all files of the source with their digests."""
    files = []
    for name in source_names(spec):
        path = spec.root / name
        try:
            if path.is_symlink():
                target = os.readlink(path)
                aim = os.path.normpath(os.path.join(os.path.dirname(name), target))
                if os.path.isabs(target) or aim.startswith(".."):
                    raise BuildError(
                        f"{path} is a link to {target}, outside {spec.root}. Copy its target there, or set "
                        "build.workspace to a folder that contains both."
                    )
                files.append(SourceFile(name, "l", hashlib.sha256(os.fsencode(target)).hexdigest()))
                continue
            executable = path.stat().st_mode & stat.S_IXUSR
            digest = file_sha256(path)
        except OSError as error:
            raise BuildError(f"{path} cannot be read: {error.strerror}.") from error
        files.append(SourceFile(name, "x" if executable else "f", digest))
    return files


def build_command(spec: Spec) -> str:
    """Return the shell command that builds; empty for none."""
    return manager_of(spec.root).run_script(spec.script) if spec.command is None else spec.command.strip()


def check_source(spec: Spec) -> None:
    """Reject a source that cannot be built, before anything is copied."""
    if not spec.source.is_dir():
        raise BuildError(
            f"build.source of {spec.name} is {spec.source}, which does not exist. Correct it; the path is relative "
            "to the catalogue's folder."
        )
    manifest = spec.source / "package.json"
    if not manifest.is_file():
        command = build_command(spec)
        if command and command.split()[0] in PROGRAMS:
            raise BuildError(
                f"{spec.source} has no package.json, so '{command}' cannot run. Correct build.source, or set "
                "build.command to '' if there is nothing to build."
            )
        return
    read_object(manifest)
    manager = manager_of(spec.root)
    lock = manager.lock_file(spec.root)
    if lock is None and spec.lockfile == "required":
        wanted = manager.lock_files[-1]
        below = next((folder for folder in spec.root.parents if lock_file(folder)), None)
        fix = f"Run `{manager.lock_command}` in {spec.root} and commit {wanted}"
        if below is not None and below != spec.root and not spec.app:
            fix += f"; or, if it belongs to the monorepo in {below}, set build.workspace to that folder"
        raise BuildError(
            f"{spec.root} has no {wanted}, so builds of it are not reproducible. {fix}; or set "
            "build.lockfile: optional to accept that."
        )
    for path in dict.fromkeys((spec.root / "package.json", manifest)):
        for name, value in dependencies(read_object(path) if path.is_file() else {}):
            if node_modules.beside(path.parent.relative_to(spec.root).as_posix(), value, {}) == "..":
                raise BuildError(
                    f"{path} refers to {value} as {name}, outside {spec.root}, where the build has no access. Make "
                    "both packages workspaces of one package.json, and set build.workspace to its folder."
                )
            if value.startswith("workspace:") and lock is not None and not manager.workspaces(spec.root):
                raise BuildError(
                    f"{path} needs {name} of its workspace ({value}), but {lock} is for this folder alone. Keep "
                    "one lock file for the whole workspace, in the folder that build.workspace names; remove this one."
                )
    if lock is not None and spec.app and not node_modules.is_workspace(spec.app, manager.workspaces(spec.root)):
        raise BuildError(
            f"{spec.app} is not a workspace of {spec.root / manager.workspace_file}. Add it there, or remove "
            "build.workspace if the service has its own lock file."
        )


# --- identity -------------------------------------------------------------------


def digest_of(value: Any) -> str:
    """Return a digest of any JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def inputs(spec: Spec, files: list[SourceFile], node: str, tracked: frozenset[str] | None) -> dict[str, str]:
    """Return everything that an artifact depends on, as digests or plain values."""
    manager = manager_of(spec.root)
    return {
        **({"package manager": f"{manager.name} {manager.version}"} if manager.version else {}),
        "format": str(FORMAT),
        "platform": f"{sys.platform}-{platform.machine()}",
        "node": node,
        "source": digest_of([(file.path, file.mode, file.digest) for file in files]),
        "commands": digest_of(
            [
                spec.layout,
                spec.app,
                build_command(spec),
                spec.output,
                spec.standalone,
                spec.install_scripts,
                spec.lockfile,
                spec.include,
                spec.exclude,
            ]
        ),
        "environment": digest_of(dict(spec.environment)),
        "tracked": digest_of(None if tracked is None else sorted(tracked)),
    }


def identity(parts: Mapping[str, str]) -> str:
    """Return the artifact's id: 16 hexadecimal digits."""
    return digest_of(parts)[:16]


def reason(parts: Mapping[str, str], latest: Mapping[str, Any] | None) -> str:
    """Return why there is no artifact for these inputs yet."""
    before = (latest or {}).get("inputs")
    if not before:
        return "there is no artifact yet"
    differ = [name for name, value in parts.items() if before.get(name) != value]
    if not differ:
        return "the artifact is missing or damaged"
    return f"{', '.join(differ)} differ{'s' if len(differ) == 1 else ''} from the latest artifact"


def file_sha256(path: Path) -> str:
    """Return the checksum of a file."""
    return sha256_of(str(path))


def spec_of(service: Mapping[str, Any]) -> Spec:
    """Return the spec of the module's `service`; raises BuildError if its paths do not fit together."""
    source = Path(str(service["source"])).expanduser().resolve()
    root = Path(str(service.get("workspace") or source)).expanduser().resolve()
    if root != source and root not in source.parents:
        raise BuildError(
            f"build.workspace of {service['name']} is {root}, but its source {source} is not below it. Set it to the "
            "folder with the lock file of the monorepo."
        )
    # The lock file that is nearest to the source is the one that its packages are installed from.
    folders = [folder for folder in (source, *source.parents) if root in (folder, *folder.parents)]
    locks = [lock for folder in folders if (lock := lock_file(folder))]
    note = f"{locks[0]} counts, {' and '.join(map(str, locks[1:]))} not" if locks[1:] else ""
    root = locks[0].parent if locks else root
    return Spec(
        name=str(service["name"]),
        layout=str(service["layout"]),
        source=source,
        root=root,
        command=None if service.get("command") is None else str(service["command"]),
        output=str(service.get("output") or "."),
        script=str(service.get("script") or "build"),
        script_required=service.get("script_required") is not False,
        lockfile=str(service.get("lockfile") or "required"),
        install_scripts=service.get("install_scripts") is not False,
        environment={str(key): str(value) for key, value in (service.get("environment") or {}).items()},
        standalone=service.get("standalone") is not False,
        exported=str(service.get("exported") or ""),
        node=str(service.get("node") or "24"),
        note=note,
        **{
            key: tuple(str(word) for word in service.get(key) or ())
            for key in ("start", "migrate", "migrations", "include", "exclude")
        },
    )
