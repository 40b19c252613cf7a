"""podman, with images, containers and networks of this clone only.

Where the kernel has cgroup v1 mounted, systemd does not start in a container.
There podman runs in a mount namespace of its own that has cgroup v2 instead;
nothing else on the machine notices. Every call goes through that namespace.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TextIO

from sandbox.console import run, say
from sandbox.errors import SandboxError
from sandbox.paths import CACHE, REPO, RUNTIME, SHARED_RUNTIME

STORE = CACHE / "podman"
NETWORKS = STORE / "networks"
CONFIGURATION = CACHE / "containers.conf"
NAMESPACE = RUNTIME / "namespace"
BOOT = RUNTIME / "boot"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
CGROUP = Path("/sys/fs/cgroup")
# podman keeps addresses in use and network namespaces here whatever its options say. In the
# namespace these are directories of our own: where /run is not a tmpfs, what is in them
# outlives a reboot, and then every address is «already allocated».
SHARED_BY_PODMAN = ("/run/containers/networks", "/run/netns")
# Limits of processes in containers; a machine that allows less sets its own.
NOFILE, NPROC = 65536, 16384
# Each systemd host needs about nine of these; Debian allows 128 to root, on the machine and
# in all its containers together, and the systemd that gets none ends at once with status 255.
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_INSTANCES = 1024
# For every container: without CAP_SYS_RESOURCE crun cannot install the device filter
# that unprivileged ones get, and on cgroup v1 machines the pids controller is not in v2.
PRIVILEGES = ("--privileged", "--pids-limit=-1")

CHANGING_NETWORKS = {"start", "stop", "restart", "kill", "rm", "network"}


@contextmanager
def lock(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock file, or raise a SandboxError with the sentence `busy`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SandboxError(busy) from None
        yield


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Hold a lock file; wait for it if somebody else has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def session(last: bool = False) -> Iterator[None]:
    """Make podman ready to be called in the block.

    :param last: afterwards take away what podman needs, if no container is left and nobody else is in a session.
    """
    path = SHARED_RUNTIME / f"{RUNTIME.name}.session.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        _prepare()
        try:
            yield
        finally:
            if last:
                _leave_when_unused(handle)


def _leave_when_unused(handle: TextIO) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    if podman_json("ps", "--all", "--external", "--format", "json"):
        return
    with turn(SHARED_RUNTIME / "prepare.lock"):
        _leave_namespace()
        shutil.rmtree(RUNTIME, ignore_errors=True)


def _prepare() -> None:
    with turn(SHARED_RUNTIME / "prepare.lock"):
        _forget_last_boot()
        _forget_lost_store()
        STORE.mkdir(parents=True, exist_ok=True)
        _write_configuration()
        _allow_many_hosts()
        if needs_namespace() and not _namespace_works():
            _leave_namespace()
            _enter_namespace()


def needs_namespace() -> bool:
    """Whether this machine mounts cgroup v1 (a controller's own directory exists)."""
    return (CGROUP / "cpu").exists() or (CGROUP / "memory").exists() or (CGROUP / "systemd").is_dir()


def command(*arguments: str | Path) -> list[str]:
    """The podman command line for `arguments`."""
    prefix = ["nsenter", f"--mount={NAMESPACE}/mnt", f"--wd={REPO}"] if needs_namespace() else []
    options = ["--root", STORE / "storage", "--runroot", RUNTIME / "run", "--tmpdir", RUNTIME / "tmp"]
    options += ["--network-config-dir", NETWORKS, "--runtime-flag", f"root={RUNTIME}/crun"]
    return [*prefix, "podman", *map(str, options), *map(str, arguments)]


def environment() -> dict[str, str]:
    """Environment variables that podman needs."""
    return {"CONTAINERS_CONF": str(CONFIGURATION)}


def podman(
    *arguments: str | Path, check: bool = True, text: str | None = None, failure: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Call podman."""
    with taking_turns(arguments):
        return run(command(*arguments), env=environment(), check=check, text=text, failure=failure)


def taking_turns(arguments: Sequence[str | Path]) -> AbstractContextManager[None]:
    """Let one call at a time change networks, over all sandboxes and clones.

    Two at once may leave a container whose interface is there and carries nothing.
    """
    changes = bool(arguments) and str(arguments[0]) in CHANGING_NETWORKS
    return turn(SHARED_RUNTIME / "networks.lock") if changes else nullcontext()


def podman_json(*arguments: str | Path) -> Any:
    """Call podman and parse the JSON that it prints."""
    return json.loads(podman(*arguments).stdout or "[]") or []


def note_exit(container: str) -> None:
    """Note that a container was killed, as its watcher would have: podman believes this file only."""
    exits = RUNTIME / "tmp" / "exits"
    exits.mkdir(parents=True, exist_ok=True)
    (exits / container).write_text("137")


def installed() -> bool:
    """Whether podman is there at all."""
    return shutil.which("podman") is not None


def remove_store() -> None:
    """Delete the images. No container may be left."""
    _unmount_below(STORE)
    shutil.rmtree(STORE, ignore_errors=True)
    CONFIGURATION.unlink(missing_ok=True)


def _write_configuration() -> None:
    # As few privileges as the machine has are enough: limits are never raised.
    nofile = _limit(resource.RLIMIT_NOFILE, NOFILE)
    nproc = _limit(resource.RLIMIT_NPROC, NPROC)
    manager = "systemd" if Path("/run/systemd/system").is_dir() and not needs_namespace() else "cgroupfs"
    text = (
        f'[containers]\ndefault_ulimits = ["nofile={nofile}:{nofile}", "nproc={nproc}:{nproc}"]\n'
        f'[engine]\nruntime = "crun"\ncgroup_manager = "{manager}"\nevents_logger = "none"\n'
        '[network]\nnetwork_backend = "netavark"\n'
    )
    CONFIGURATION.parent.mkdir(parents=True, exist_ok=True)
    if not CONFIGURATION.exists() or CONFIGURATION.read_text() != text:
        CONFIGURATION.write_text(text)


def _allow_many_hosts() -> None:
    allowed = int(INOTIFY.read_text())
    if allowed < INOTIFY_INSTANCES:
        say(f"  raising fs.inotify.max_user_instances from {allowed} to {INOTIFY_INSTANCES} until the next boot")
        INOTIFY.write_text(str(INOTIFY_INSTANCES))


def _limit(kind: int, wanted: int) -> int:
    hard = resource.getrlimit(kind)[1]
    return wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)


def _forget_last_boot() -> None:
    """After a reboot podman's files in /run are about containers that do not run.

    /run is not a tmpfs everywhere, so the boot is told by its id.
    """
    boot = BOOT_ID.read_text()
    if BOOT.exists() and BOOT.read_text() == boot:
        return
    if RUNTIME.exists():
        _leave_namespace()
        shutil.rmtree(RUNTIME)
    RUNTIME.mkdir(parents=True, mode=0o700)
    BOOT.write_text(boot)


def _forget_lost_store() -> None:
    """Somebody removed the clone, or its caches, while containers ran: podman does not know them any more."""
    if STORE.exists():
        return
    enter = ["nsenter", f"--mount={NAMESPACE}/mnt"] if _mounted(NAMESPACE / "mnt") else []
    for container in (RUNTIME / "crun").glob("*"):
        run([*enter, "crun", "--root", RUNTIME / "crun", "delete", "--force", container.name], check=False)
    _leave_namespace()
    shutil.rmtree(RUNTIME)
    _forget_last_boot()


def _namespace_works() -> bool:
    if not _mounted(NAMESPACE / "mnt"):
        return False
    result = run(["nsenter", f"--mount={NAMESPACE}/mnt", "stat", "--file-system", "--format=%T", CGROUP], check=False)
    return result.stdout.strip() == "cgroup2fs"


def _enter_namespace() -> None:
    NAMESPACE.mkdir(parents=True, exist_ok=True)
    cure = "The kernel must offer cgroup v2, and root must have CAP_SYS_ADMIN: run it on a machine, not in a container."
    run(["mount", "--bind", NAMESPACE, NAMESPACE], failure=f"A bind mount is refused. {cure}")
    run(["mount", "--make-private", NAMESPACE])
    (NAMESPACE / "mnt").touch()
    commands = []
    for shared in map(Path, SHARED_BY_PODMAN):
        own = RUNTIME / shared.name
        own.mkdir(exist_ok=True)
        shared.mkdir(parents=True, exist_ok=True)
        commands.append(f"mount --bind {own} {shared}")
    # Last: this is what a later run looks for.
    commands += [f"umount --recursive --lazy {CGROUP}", f"mount -t cgroup2 none {CGROUP}"]
    run(
        ["unshare", f"--mount={NAMESPACE}/mnt", "--propagation", "private", "sh", "-ec", "\n".join(commands)],
        failure=f"A mount namespace with cgroup v2 is refused. {cure}",
    )


def _leave_namespace() -> None:
    for path in (NAMESPACE / "mnt", NAMESPACE):
        while _mounted(path):
            run(["umount", "--lazy", path])


def _mounted(path: Path) -> bool:
    return any(target == path for target in _mounts())


def _mounts() -> Iterator[Path]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        yield Path(line.split()[4].encode().decode("unicode_escape"))


def _unmount_below(directory: Path) -> None:
    for target in sorted(_mounts(), reverse=True):
        if directory in target.parents:
            run(["umount", "--lazy", target], check=False)


def shell(arguments: Sequence[str]) -> int:
    """Hand podman over to the user's terminal; returns its exit status."""
    with taking_turns(arguments):
        return subprocess.call(command(*arguments), env={**os.environ, **environment()})
