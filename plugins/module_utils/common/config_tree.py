# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A set of configuration files as one unit.

C(apply_tree(spec)) brings the files of one or several owners to the desired
state: it compares, validates the whole staged tree where it will be used,
swaps file by file under a journal, removes what an owner no longer lists,
reloads, verifies that the reload took effect, and restores everything if any
step fails. If nothing differs, nothing is written, validated or reloaded.

The plan is a pure function (C(plan_trees)); everything else reads and writes
the host. Standard library only: it runs on hosts, inside modules.

Spec (a plain dict)::

    root: /etc/nginx                 # the directory that is staged for validation; relative paths start here
    owner: front-api                 # with `files`: one owner; or
    files: [...]
    trees: {front-api: [...], front-sites: [...]}     # several owners, one validation, one reload
    keep: [internal.conf]            # stays owned and unchanged, if it is owned already
    validate: [nginx, -t]            # argv; runs in a private mount namespace, the staged tree over root
    reload: [systemctl, reload-or-restart, nginx]     # argv; run after the swap
    prove: {workers: /run/nginx.pid, timeout: 10}     # or {command: [...], timeout: 10}: true after the reload
    explain: [journalctl, ...]       # argv; its output is added to the error when reload or prove fails
    state_dir: /var/lib/fivepointers/trees

A file: ``{path, content (str or bytes), mode: '0644', sensitive: false, user:, group:, template: 'edge.conf.j2'}``.
``template`` is only a label for messages. A sensitive file never appears in a
diff, and its mode is 0600 unless given.

State, below state_dir (0700): ``<owner>.json`` (manifest: what the owner
owns), ``originals/`` (files that existed before their owner took them over;
restored when it no longer lists them), ``journal.json`` and ``backup/`` (only
during a swap). A leftover journal means that a run died: the next run of any
owner completes its reload in phase C(reload), and restores its files in
C(swap) and C(back).
"""

from __future__ import annotations

import contextlib
import dataclasses
import grp
import hashlib
import json
import os
import pwd
import re
import shutil
import stat
import tempfile
import time
import typing as t

from ansible_collections.fivepointers.platform.plugins.module_utils.common import processes
from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import (
    LockedError,
    locked,
    read_json,
    sync_directory,
    write_file,
)

STATE_DIR = "/var/lib/fivepointers/trees"
DIRECTORY_MODE = 0o755
COMMAND_TIMEOUT = 90
LOCK_TIMEOUT = 60
DIFF_LIMIT = 200_000
_OWNER = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_LOCATION = re.compile(r"(?:in |at |^)(/[^\s:]+):(\d+)", re.M)
_STAGE = re.compile(r"config-tree-(\d+)-\w+")
_MANIFEST_VERSION = 1


class TreeError(Exception):
    """A tree was not applied. The text is for the operator; files that were written are restored."""


@dataclasses.dataclass(frozen=True)
class File:
    """Desired state of a file."""

    path: str
    content: bytes
    mode: int
    uid: int
    gid: int
    sensitive: bool = False
    template: str = ""

    @property
    def sha256(self) -> str:
        """Digest of the content, as in manifests."""
        return hashlib.sha256(self.content).hexdigest()


@dataclasses.dataclass(frozen=True)
class Found:
    """What is on the host at a path: kind is absent, file, link, directory or other."""

    kind: str = "absent"
    content: bytes = b""
    mode: int = 0
    uid: int = 0
    gid: int = 0


@dataclasses.dataclass(frozen=True)
class Spec:
    """A checked spec; shapes as in the module's docstring."""

    root: str
    trees: dict[str, dict[str, File]]
    keep: frozenset[str]
    validate: tuple[str, ...]
    reload: tuple[str, ...]
    prove: dict[str, t.Any]
    explain: tuple[str, ...]
    state_dir: str


@dataclasses.dataclass
class Plan:
    """What has to be done. Paths are absolute; if everything is empty, there is no drift."""

    write: list[str] = dataclasses.field(default_factory=list)
    remove: list[str] = dataclasses.field(default_factory=list)
    restore: list[str] = dataclasses.field(default_factory=list)
    adopt: list[str] = dataclasses.field(default_factory=list)
    manifests: dict[str, dict[str, t.Any]] = dataclasses.field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether nothing differs."""
        return not (self.write or self.remove or self.restore or self.manifests)


# --- the spec -----------------------------------------------------------------------------------------------------


def parse_spec(spec: t.Mapping[str, t.Any]) -> Spec:
    """Check a spec. Raises TreeError naming the field, the value and the fix."""
    known = {"root", "owner", "files", "trees", "keep", "validate", "reload", "prove", "explain", "state_dir"}
    for key in spec:
        if key not in known:
            raise TreeError(f"config_tree: unknown key {key!r}; known are {', '.join(sorted(known))}")
    root = spec.get("root") or ""
    if not root.startswith("/") or os.path.normpath(root) != root or root == "/":
        raise TreeError(f"config_tree: root is {root!r}; give an absolute directory without .., such as /etc/nginx")
    trees = spec.get("trees")
    if trees is None:
        trees = {spec.get("owner") or "": spec.get("files") or []}
    elif "files" in spec or "owner" in spec:
        raise TreeError("config_tree: give either trees, or owner with files")
    parsed: dict[str, dict[str, File]] = {}
    holders: dict[str, str] = {}
    for owner, files in trees.items():
        if not _OWNER.fullmatch(owner):
            raise TreeError(f"config_tree: owner is {owner!r}; use lower case letters, digits, dots, - and _")
        parsed[owner] = {}
        for entry in files:
            file = _parse_file(entry, root)
            if file.path in holders:
                raise TreeError(
                    f"config_tree: {file.path} is given twice (by {holders[file.path]} and {owner}); "
                    "list a file once, for one owner"
                )
            holders[file.path] = owner
            parsed[owner][file.path] = file
    keep = frozenset(_absolute(path, root) for path in spec.get("keep") or [])
    for path in keep & set(holders):
        raise TreeError(f"config_tree: {path} is in both files and keep; give its content or keep it, not both")
    prove = dict(spec.get("prove") or {})
    if prove and not (set(prove) <= {"workers", "command", "timeout"} and ("workers" in prove) != ("command" in prove)):
        raise TreeError(f"config_tree: prove is {prove!r}; give workers (a PID file) or command (a list), and timeout")
    return Spec(
        root=root,
        trees=parsed,
        keep=keep,
        prove=prove,
        validate=_argv(spec, "validate"),
        reload=_argv(spec, "reload"),
        explain=_argv(spec, "explain"),
        state_dir=spec.get("state_dir") or STATE_DIR,
    )


def _argv(spec: t.Mapping[str, t.Any], key: str) -> tuple[str, ...]:
    value = spec.get(key) or []
    if isinstance(value, str) or not all(isinstance(word, str) for word in value):
        raise TreeError(f"config_tree: {key} is {value!r}; give the command as a list of words")
    return tuple(value)


def _absolute(path: str, root: str) -> str:
    full = os.path.join(root, path)
    if not path or os.path.normpath(full) != full or "\0" in full:
        raise TreeError(f"config_tree: path is {path!r}; give it relative to {root} or absolute, without .. or //")
    return full


def _parse_file(entry: t.Mapping[str, t.Any], root: str) -> File:
    path = _absolute(entry.get("path") or "", root)
    content = entry.get("content")
    if isinstance(content, str):
        content = content.encode("utf-8")
    if not isinstance(content, bytes):
        raise TreeError(f"config_tree: {path} has no content; give text or bytes")
    sensitive = bool(entry.get("sensitive"))
    mode = entry.get("mode") or ("0600" if sensitive else "0644")
    try:
        number = mode if isinstance(mode, int) else int(mode, 8)
    except ValueError:
        number = 0
    if not 0 < number <= 0o7777:
        raise TreeError(f"config_tree: mode of {path} is {mode!r}; give octal digits in quotes, such as '0644'")
    if sensitive and number & 0o077:
        raise TreeError(f"config_tree: {path} is sensitive and its mode is {mode!r}; use '0600' or stricter")
    return File(
        path=path,
        content=content,
        mode=number,
        sensitive=sensitive,
        template=entry.get("template") or "",
        uid=_id_of(entry.get("user"), pwd.getpwnam, "pw_uid", os.geteuid(), path),
        gid=_id_of(entry.get("group"), grp.getgrnam, "gr_gid", os.getegid(), path),
    )


def _id_of(name: str | None, lookup: t.Callable[[str], t.Any], field: str, default: int, path: str) -> int:
    if not name:
        return default
    try:
        return int(getattr(lookup(name), field))
    except KeyError:
        raise TreeError(
            f"config_tree: the user or group {name!r} of {path} does not exist on this host; create it first"
        ) from None


# --- the plan (pure) ----------------------------------------------------------------------------------------------


def plan_trees(
    trees: t.Mapping[str, t.Mapping[str, File]],
    keep: t.AbstractSet[str],
    root: str,
    manifests: t.Mapping[str, t.Mapping[str, t.Any]],
    found: t.Mapping[str, Found],
) -> Plan:
    """Compare the trees with the host.

    C(manifests) are those of all owners (also of others: they guard their
    files), C(found) what is at every path of the trees and of their manifests.
    """
    held = {path: owner for owner, manifest in manifests.items() if owner not in trees for path in manifest["files"]}
    plan = Plan()
    given_up: dict[str, bool] = {}
    wanted: set[str] = set()
    for owner, files in trees.items():
        old = manifests.get(owner, {}).get("files", {})
        new: dict[str, dict[str, t.Any]] = {}
        for path, file in files.items():
            if path in held:
                raise TreeError(
                    f"config_tree: {path} belongs to the tree {held[path]!r}, and {owner!r} wants it too; "
                    "give one of them another path"
                )
            there = found[path]
            if there.kind in ("directory", "other"):
                raise TreeError(f"config_tree: {path} is a {there.kind} on the host, not a file; move it away")
            record: dict[str, t.Any] = {"sha256": file.sha256, "mode": f"{file.mode:04o}"}
            if there != Found("file", file.content, file.mode, file.uid, file.gid):
                plan.write.append(path)
            if path in old and old[path].get("original"):
                record["original"] = True
            elif path not in old and there.kind != "absent":
                record["original"] = True
                plan.adopt.append(path)
            new[path] = record
        for path in keep & set(old):
            new[path] = old[path]
        for path in set(old) - set(new):
            given_up[path] = bool(old[path].get("original"))
        wanted |= set(new)
        manifest = {"version": _MANIFEST_VERSION, "root": root, "files": dict(sorted(new.items()))}
        if manifests.get(owner) != manifest and (new or owner in manifests):
            plan.manifests[owner] = manifest
    for path in sorted(set(given_up) - wanted):
        if given_up[path]:
            plan.restore.append(path)
        elif found[path].kind != "absent":
            plan.remove.append(path)
    plan.write.sort()
    return plan


def differences(
    plan: Plan, files: t.Mapping[str, File], found: t.Mapping[str, Found], originals: t.Mapping[str, Found]
) -> list[dict[str, str]]:
    """The plan in the format of Ansible's diff mode. Sensitive and binary content is not shown."""
    result = []
    for path in sorted(plan.write + plan.remove + plan.restore):
        before, after = found[path], originals.get(path, Found())
        file = files.get(path)
        if file:
            after = Found("file", file.content, file.mode, file.uid, file.gid)
        hidden = (file is not None and file.sensitive) or any(
            side.kind == "file" and not side.mode & 0o044 for side in (before, after)
        )
        result.append(
            {
                "before_header": f"{path} ({_kind(before)})",
                "after_header": f"{path} ({_kind(after)})",
                "before": _shown(before.content, hidden),
                "after": _shown(after.content, hidden),
            }
        )
        if hidden and after.kind == before.kind and after.content != before.content:
            result[-1]["after"] += "(it differs)\n"
    return result


def _kind(found: Found) -> str:
    return f"{found.mode:04o}" if found.kind == "file" else found.kind


def _shown(content: bytes, hidden: bool) -> str:
    if not content:
        return ""
    if hidden:
        return "(content is not shown)\n"
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text or len(text) > DIFF_LIMIT:
        return f"({len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()})\n"
    return text if text.endswith("\n") else text + "\n"


# --- reading the host ---------------------------------------------------------------------------------------------


def observe(path: str) -> Found:
    """What is at a path. Links are not followed."""
    try:
        info = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return Found()
    mode = stat.S_IMODE(info.st_mode)
    if stat.S_ISLNK(info.st_mode):
        return Found("link", os.fsencode(os.readlink(path)), mode, info.st_uid, info.st_gid)
    if not stat.S_ISREG(info.st_mode):
        return Found("directory" if stat.S_ISDIR(info.st_mode) else "other", b"", mode, info.st_uid, info.st_gid)
    with open(path, "rb") as handle:
        return Found("file", handle.read(), mode, info.st_uid, info.st_gid)


def _read_json(path: str) -> t.Any:
    try:
        return read_json(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise TreeError(
            f"config_tree: {path} is damaged ({error}). It is written atomically, so something else "
            "changed it. Remove it, and the next run takes stock again"
        ) from error


def _read_manifests(state_dir: str) -> dict[str, dict[str, t.Any]]:
    if not os.path.isdir(state_dir):
        return {}
    names = [name for name in os.listdir(state_dir) if name.endswith(".json") and name != "journal.json"]
    return {name[:-5]: _read_json(os.path.join(state_dir, name)) for name in sorted(names)}


# --- writing ------------------------------------------------------------------------------------------------------


def _write_new(path: str, found: Found) -> None:
    """Create a file or link that nothing reads yet; it is on disk when this returns."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    if found.kind == "link":
        os.symlink(os.fsdecode(found.content), path)
        os.chown(path, found.uid, found.gid, follow_symlinks=False)
        return
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(found.content)
        if (found.uid, found.gid) != (os.geteuid(), os.getegid()):
            os.fchown(handle, found.uid, found.gid)
        os.fchmod(handle, found.mode)
        stream.flush()
        os.fsync(handle)


def _as_json(value: t.Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


class _Swap:
    """Files that change together, under a journal that a later run can complete or revert."""

    def __init__(self, state_dir: str) -> None:
        self.state_dir = state_dir
        self.journal_path = os.path.join(state_dir, "journal.json")
        self.backup_dir = os.path.join(state_dir, "backup")

    def journal(self) -> dict[str, t.Any] | None:
        """The journal of an interrupted run, if there is one."""
        journal: dict[str, t.Any] | None = _read_json(self.journal_path)
        return journal

    def perform(self, changes: t.Mapping[str, Found], after: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """Apply C(changes). Returns the journal, which is then in phase C(reload)."""
        _unlink(self.journal_path)
        shutil.rmtree(self.backup_dir, ignore_errors=True)
        os.mkdir(self.backup_dir, 0o700)
        entries: list[dict[str, t.Any]] = []
        directories: list[str] = []
        for number, path in enumerate(changes):
            there = observe(path)
            backup = None
            if there.kind != "absent":
                backup = str(number)
                _write_new(os.path.join(self.backup_dir, backup), there)
            name = os.path.basename(path)
            entries.append(
                {
                    "path": path,
                    "backup": backup,
                    "temporary": os.path.join(os.path.dirname(path), f".{name}.{number}.new"),
                }
            )
            parent = os.path.dirname(path)
            missing = []
            while not os.path.isdir(parent) and parent not in directories:
                missing.append(parent)
                parent = os.path.dirname(parent)
            directories.extend(reversed(missing))
        sync_directory(self.backup_dir)
        journal = {"phase": "swap", "entries": entries, "directories": directories, **after}
        self._write_journal(journal)
        for directory in directories:
            os.mkdir(directory)
            os.chmod(directory, DIRECTORY_MODE)
            sync_directory(os.path.dirname(directory))
        for entry in entries:
            if changes[entry["path"]].kind != "absent":
                _write_new(entry["temporary"], changes[entry["path"]])
        for entry in entries:
            if changes[entry["path"]].kind == "absent":
                _unlink(entry["path"])
            else:
                os.rename(entry["temporary"], entry["path"])
        for directory in {os.path.dirname(path) for path in changes}:
            if os.path.isdir(directory):
                sync_directory(directory)
        journal["phase"] = "reload"
        self._write_journal(journal)
        return journal

    def put_back(self, journal: t.Mapping[str, t.Any]) -> None:
        """Restore every file. May itself be interrupted and repeated."""
        # First, because the disk may be full.
        for entry in journal["entries"]:
            _unlink(entry["temporary"])
        self._write_journal({**journal, "phase": "back"})
        for entry in reversed(journal["entries"]):
            if entry["backup"] is None:
                _unlink(entry["path"])
                continue
            there = observe(os.path.join(self.backup_dir, entry["backup"]))
            if there.kind != "absent" and there != observe(entry["path"]):
                _write_new(entry["temporary"], there)
                os.rename(entry["temporary"], entry["path"])
        for directory in reversed(journal["directories"]):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
        for directory in {os.path.dirname(entry["path"]) for entry in journal["entries"]}:
            if os.path.isdir(directory):
                sync_directory(directory)

    def close(self) -> None:
        """Remove the journal: what it describes is either done or reverted."""
        _unlink(self.journal_path)
        sync_directory(self.state_dir)
        shutil.rmtree(self.backup_dir, ignore_errors=True)

    def _write_journal(self, journal: t.Mapping[str, t.Any]) -> None:
        write_file(self.journal_path, _as_json(journal), 0o600)


# --- commands -----------------------------------------------------------------------------------------------------


def _run(argv: t.Sequence[str], timeout: float = COMMAND_TIMEOUT) -> tuple[int, str]:
    return processes.run(argv, timeout, {"LC_ALL": "C.UTF-8"})


def _copy_tree(source: str, target: str) -> None:
    """Copy directories, files and links with their modes and owners; leave out sockets and the like."""
    shutil.copystat(source, target)
    for entry in os.scandir(source):
        there, here = entry.path, os.path.join(target, entry.name)
        if entry.is_symlink():
            os.symlink(os.readlink(there), here)
        elif entry.is_dir(follow_symlinks=False):
            os.mkdir(here, 0o700)
            _copy_tree(there, here)
        elif entry.is_file(follow_symlinks=False):
            shutil.copy2(there, here)
        else:
            continue
        info = entry.stat(follow_symlinks=False)
        if (info.st_uid, info.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(here, info.st_uid, info.st_gid, follow_symlinks=False)


def _new_stage(parent: str) -> str:
    """Create a directory for a staged tree. Remove those of killed runs: they may contain keys."""
    for name in os.listdir(parent):
        found = _STAGE.fullmatch(name)
        if found and not os.path.exists(f"/proc/{found.group(1)}"):
            shutil.rmtree(os.path.join(parent, name), ignore_errors=True)
    return tempfile.mkdtemp(prefix=f"config-tree-{os.getpid()}-", dir=parent)


def _validate(spec: Spec, changes: t.Mapping[str, Found], files: t.Mapping[str, File]) -> None:
    """Validate a copy of root with the changes applied, mounted over root for that command only."""
    stage = _new_stage("/run" if os.access("/run", os.W_OK) else tempfile.gettempdir())
    try:
        _copy_tree(spec.root, stage)
        for path, wanted in changes.items():
            if not path.startswith(spec.root + "/"):
                continue
            here = os.path.join(stage, os.path.relpath(path, spec.root))
            if wanted.kind == "absent":
                _unlink(here)
            else:
                os.makedirs(os.path.dirname(here), exist_ok=True)
                _write_new(here, wanted)
        private = ["unshare", "--mount", "--propagation", "private"]
        if os.geteuid() != 0:
            private.append("--map-root-user")
        mount = 'mount --bind "$1" "$2" || exit 125; shift 2; exec "$@"'
        status, output = _run([*private, "--", "sh", "-c", mount, "sh", stage, spec.root, *spec.validate])
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    if status == 125:
        raise TreeError(
            f"The new files cannot be validated: {output}. This requires a private mount namespace (root, or "
            "CAP_SYS_ADMIN in a container). Nothing was changed."
        )
    if status:
        raise TreeError(
            f"The new configuration is invalid, and nothing was changed. `{' '.join(spec.validate)}` "
            f"says:\n{output}{_source_lines(output, files)}"
        )


def _source_lines(output: str, files: t.Mapping[str, File]) -> str:
    """The lines that an error message refers to, with their templates."""
    text = ""
    for path, number in dict.fromkeys(_LOCATION.findall(output)):
        file = files.get(path)
        if file is None:
            continue
        text += f"\n  {path}:{number}"
        if file.template:
            text += f" (from {file.template})"
        lines = file.content.decode("utf-8", "replace").splitlines()
        if not file.sensitive and 0 < int(number) <= len(lines):
            text += f": {lines[int(number) - 1].strip()}"
    return text


def _children(pid_file: str) -> set[tuple[int, str]]:
    """The processes (pid, start time) whose parent is the one in the PID file."""
    try:
        with open(pid_file, encoding="ascii") as handle:
            parent = handle.read().strip()
    except OSError:
        return set()
    result = set()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError, IndexError):
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as handle:
                fields = handle.read().rpartition(")")[2].split()
            if fields[1] == parent and fields[0] != "Z":
                result.add((int(name), fields[19]))
    return result


def _reload(after: t.Mapping[str, t.Any]) -> str:
    """Reload and verify. Returns what went wrong, if anything."""
    if not after["reload"]:
        return ""
    prove = after["prove"]
    before = _children(prove["workers"]) if "workers" in prove else set()
    status, output = _run(after["reload"])
    problem = f"`{' '.join(after['reload'])}` ended with status {status}: {output}" if status else ""
    if not problem and prove:
        deadline = time.monotonic() + float(prove.get("timeout") or 10)
        problem = _unproved(prove, before)
        while problem and time.monotonic() < deadline:
            time.sleep(0.05)
            problem = _unproved(prove, before)
    if problem and after["explain"]:
        if after["explain"][0] == "journalctl":
            # The latest messages may not be in the journal yet.
            _run(["journalctl", "--sync"])
        problem += "\n" + _run(after["explain"])[1]
    return problem


def _unproved(prove: t.Mapping[str, t.Any], before: set[tuple[int, str]]) -> str:
    """Why the reload is not verified yet, if it is not."""
    if "workers" in prove:
        if _children(prove["workers"]) - before:
            return ""
        return f"no new worker process appeared below the one of {prove['workers']}, so the old ones are still in use"
    status, output = _run(prove["command"])
    return f"`{' '.join(prove['command'])}` ended with status {status}: {output}" if status else ""


# --- the whole ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(state_dir: str) -> t.Iterator[None]:
    os.makedirs(state_dir, mode=0o700, exist_ok=True)
    try:
        with locked(os.path.join(state_dir, ".lock"), LOCK_TIMEOUT):
            yield
    except LockedError as error:
        raise TreeError(f"config_tree: {error}; wait for that run to end") from None


def _finish(swap: _Swap, journal: t.Mapping[str, t.Any]) -> None:
    """Reload what was swapped; if that fails, restore the files and reload again."""
    problem = _reload(journal)
    if problem:
        swap.put_back(journal)
        again = _reload(journal)
        swap.close()
        text = f"The new configuration did not take effect, and the old files were restored: {problem}"
        if again:
            text += f"\nReloading the old ones failed too: {again}"
        raise TreeError(text)
    swap.close()


def _original_path(state_dir: str, path: str) -> str:
    return os.path.join(state_dir, "originals", hashlib.sha256(path.encode()).hexdigest()[:32])


def _changes(
    spec: Spec, plan: Plan, files: t.Mapping[str, File], found: t.Mapping[str, Found], originals: t.Mapping[str, Found]
) -> dict[str, Found]:
    """Everything that the swap writes: the files, and the state about them."""
    changes: dict[str, Found] = {}
    private = (0o600, os.geteuid(), os.getegid())
    for path in plan.adopt:
        changes[_original_path(spec.state_dir, path)] = found[path]
    for path in plan.write:
        file = files[path]
        changes[path] = Found("file", file.content, file.mode, file.uid, file.gid)
    for path in plan.restore:
        changes[path] = originals[path]
        changes[_original_path(spec.state_dir, path)] = Found()
    for path in plan.remove:
        changes[path] = Found()
    for owner, manifest in plan.manifests.items():
        content = Found("file", _as_json(manifest), *private) if manifest["files"] else Found()
        changes[os.path.join(spec.state_dir, f"{owner}.json")] = content
    return changes


def apply_tree(spec: t.Mapping[str, t.Any], check: bool = False) -> dict[str, t.Any]:
    """Bring the files of the owners to the desired state. Raises TreeError, and then nothing is changed.

    Returns C(changed), C(written), C(removed), C(validated), C(reloaded), C(recovered) (what was done about an
    earlier run that died), C(notes) (sentences for the operator) and C(diff) (Ansible's shape). With C(check),
    nothing is written and nothing reloaded, but the staged tree is validated where the command exists.
    """
    parsed = parse_spec(spec)
    if check:
        return _apply(parsed, check=True)
    with _locked(parsed.state_dir):
        return _apply(parsed, check=False)


def _apply(spec: Spec, check: bool) -> dict[str, t.Any]:
    result: dict[str, t.Any] = {
        "changed": False,
        "written": [],
        "removed": [],
        "validated": False,
        "reloaded": False,
        "recovered": "",
        "notes": [],
        "diff": [],
    }
    swap = _Swap(spec.state_dir)
    owed = _recover(swap, check, result)
    files = {path: file for tree in spec.trees.values() for path, file in tree.items()}
    manifests = _read_manifests(spec.state_dir)
    mine = {path for owner in spec.trees for path in manifests.get(owner, {}).get("files", {})}
    found = {path: observe(path) for path in set(files) | mine}
    plan = plan_trees(spec.trees, spec.keep, spec.root, manifests, found)
    if plan.empty and owed:
        raise TreeError(f"{result['recovered']}. Reloading the restored files failed: {owed}")
    if plan.empty:
        return result
    originals = {path: observe(_original_path(spec.state_dir, path)) for path in plan.restore}
    result.update(changed=True, written=plan.write, removed=sorted(plan.remove + plan.restore))
    result["diff"] = differences(plan, files, found, originals)
    changes = _changes(spec, plan, files, found, originals)
    if spec.validate:
        reason = ""
        if not shutil.which(spec.validate[0]):
            reason = f"{spec.validate[0]} is not installed"
        elif not os.path.isdir(spec.root):
            reason = f"{spec.root} does not exist"
        if reason and not check:
            raise TreeError(
                f"`{' '.join(spec.validate)}` cannot be run to validate the new files: {reason}. "
                "Nothing was changed. Install the software that uses the files first."
            )
        if reason:
            result["notes"].append(f"Not validated: {reason} yet.")
        else:
            _validate(spec, changes, files)
            result["validated"] = True
    if check:
        if spec.reload:
            result["notes"].append(f"Would run `{' '.join(spec.reload)}`.")
        return result
    after = {"reload": list(spec.reload), "prove": spec.prove, "explain": list(spec.explain)}
    try:
        journal = swap.perform(changes, after)
    except OSError as error:
        unfinished = swap.journal()
        if unfinished:
            swap.put_back(unfinished)
            swap.close()
        raise TreeError(f"The new files could not be written, and the old ones were restored: {error}") from error
    _finish(swap, journal)
    result["reloaded"] = bool(spec.reload)
    return result


def _recover(swap: _Swap, check: bool, result: dict[str, t.Any]) -> str:
    """Complete or revert what an interrupted run left. Returns what is still wrong, if anything."""
    journal = swap.journal()
    if journal is None:
        if not check:
            shutil.rmtree(swap.backup_dir, ignore_errors=True)
        return ""
    result["changed"] = True
    paths = ", ".join(entry["path"] for entry in journal["entries"] if not entry["path"].startswith(swap.state_dir))
    if journal["phase"] == "reload":
        result["recovered"] = f"An earlier run died before its reload, which is completed now: {paths}"
        if not check:
            _finish(swap, journal)
            result["reloaded"] = bool(journal["reload"])
        return ""
    result["recovered"] = f"An earlier run died while writing, and its files are restored: {paths}"
    if check:
        return ""
    swap.put_back(journal)
    problem = _reload(journal)
    if not problem:
        swap.close()
    return problem
