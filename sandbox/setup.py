"""Packages, virtual environment and Node.js runtimes: what a fresh machine lacks.

Runs with nothing but Debian's Python and the standard library.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from sandbox import image, nodejs, plan, runtime, tools
from sandbox.apt import explain
from sandbox.console import Steps, run, run_logged, say
from sandbox.engines import parts
from sandbox.errors import SandboxError
from sandbox.paths import BYTECODE, CACHE, FILES, REPO, VENV, repository_path
from sandbox.state import write

PYTHON = (3, 11)
# podman and what it needs without Recommends; the builder of images; what its users call.
PACKAGES = (
    "bubblewrap", "ca-certificates", "crun", "debian-archive-keyring", "git", "iproute2", "iptables", "mmdebstrap",
    "netavark", "openssh-client", "openssl", "podman", "procps", "python3", "python3-venv", "rsync",
    # Unit tests ask it whether configurations are right.
    "nginx", "libnginx-mod-http-brotli-static", "logrotate", "nftables",
)  # fmt: skip
# Packages that bring a service, which must not run on this machine.
SERVICES = ("nginx",)
POLICY = Path("/usr/sbin/policy-rc.d")
APT_LOCK_SECONDS = 300
# A first run fetches and unpacks this much; a later one writes little.
FIRST_GIGABYTES, LATER_GIGABYTES = 6.0, 1.0
LOCK = REPO / "requirements.txt"
STAMP = VENV / ".requirements.sha256"


def setup(steps: Steps, tests: bool = False, images: bool = False) -> None:
    """Make the machine ready; what is there is left alone.

    :param tests: for tests and benches too.
    :param images: make the images of hosts as well, which the first sandbox would do otherwise.
    """
    check_machine()
    with steps.step("Install Debian packages"):
        install_packages((*PACKAGES, *tools.PACKAGES) if tests else PACKAGES)
    what = ["the virtual environment", "Node.js", *["what tests need"] * tests, *["the images of hosts"] * images]
    # pip keeps one processor busy, and what apt unpacks the other one.
    with steps.step(f"Make {', '.join(what)}"), ThreadPoolExecutor(1) as pool:
        unpacked = pool.submit(_unpack_packages, tests, images)
        make_virtual_environment()
        for item in nodejs.missing():
            say(f"  Node.js {item['version']}")
            nodejs.fetch(item)
        if tests:
            tools.ensure_scanners()
        unpacked.result()


def _unpack_packages(tests: bool, images: bool) -> None:
    """Make what consists of Debian's packages."""
    if images:
        with runtime.session(last=True):
            image.ensure(parts(plan.servers()).values())
    if tests:
        tools.ensure_servers()


def check_machine() -> None:
    """Refuse a machine that cannot work, before anything is touched."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise SandboxError(
            f"The sandbox runs on Linux on x86_64; this is {sys.platform} on {platform.machine()}. "
            "Use a virtual machine with Debian 12."
        )
    if shutil.which("apt-get") is None:
        raise SandboxError("apt-get is missing. The sandbox installs Debian packages: use a machine with Debian 12.")
    check_disk(disk_gigabytes(REPO))


def disk_gigabytes(path: Path) -> float:
    """Free space for root on the file system of `path`."""
    return shutil.disk_usage(path).free / 1e9


def check_disk(free: float, first: bool | None = None) -> None:
    """Raise a SandboxError if the disk has too little space.

    :param first: whether images and packages have yet to be fetched; found out by default.
    """
    if first is None:
        first = not (CACHE / "podman").exists() or not STAMP.exists()
    needed = FIRST_GIGABYTES if first else LATER_GIGABYTES
    if free < needed:
        raise SandboxError(
            f"The file system of {REPO} has {free:.1f} GB free, and {needed:.0f} GB are needed. "
            "Free some, or put the clone on a larger disk."
        )


def missing_packages(packages: Sequence[str], listing: str) -> list[str]:
    """Which of the packages are not installed, from dpkg-query's `status name` lines."""
    installed = {line.split()[1] for line in listing.splitlines() if line.startswith("installed ")}
    return [package for package in packages if package not in installed]


def install_packages(packages: Sequence[str]) -> None:
    """Install what is missing of the packages."""
    listing = run(["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Package}\n", *packages], check=False)
    missing = missing_packages(packages, listing.stdout)
    if not missing:
        return
    say(f"  {' '.join(missing)}")
    options = ["--option", f"DPkg::Lock::Timeout={APT_LOCK_SECONDS}", "--option", "Acquire::Retries=2"]
    failure = "Debian packages cannot be installed."
    run_logged(["apt-get", *options, "update"], "apt-update", failure=failure, explain=explain)
    with services_stay_off(missing):
        run_logged(
            ["apt-get", *options, "install", "--yes", "--no-install-recommends", *missing],
            "apt-install",
            env={"DEBIAN_FRONTEND": "noninteractive"},
            failure=failure,
            explain=explain,
        )


@contextmanager
def services_stay_off(packages: Sequence[str]) -> Iterator[None]:
    """Install packages in the block without starting the services that they bring, now or at boot."""
    services = [package for package in packages if package in SERVICES]
    forbid = bool(services) and not POLICY.exists()
    if forbid:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if forbid:
            POLICY.unlink()
    if services and shutil.which("systemctl"):
        run(["systemctl", "disable", *services], check=False)


def make_virtual_environment() -> None:
    """Make .venv hold exactly what the lock file says, unless it does."""
    _install_packages()
    BYTECODE.mkdir(parents=True, exist_ok=True)
    load = f"{FILES / 'python'}\nimport kept_bytecode; kept_bytecode.install({str(BYTECODE)!r})\n"
    write(site_packages() / "kept_bytecode.pth", load)


def site_packages() -> Path:
    """Where the virtual environment's packages are."""
    return VENV / "lib" / f"python{'.'.join(map(str, PYTHON))}" / "site-packages"


def _install_packages() -> None:
    if not LOCK.exists():
        raise SandboxError(f"{repository_path(LOCK)} is missing: it locks the Python packages. Restore it from git.")
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    python = VENV / "bin" / "python"
    works = python.exists() and run([python, "-c", "import pip"], check=False).returncode == 0
    if works and STAMP.exists() and STAMP.read_text() == wanted:
        return
    if not works:
        run(
            [find_python(), "-m", "venv", "--clear", VENV],
            failure=f"The virtual environment {repository_path(VENV)} cannot be made.",
        )
    run_logged(
        # It ends with us: two of them must not write to one environment.
        ["setpriv", "--pdeathsig", "TERM",
         python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--require-hashes",
         # Most of Ansible's modules are never imported here: compiling them all takes a minute.
         "--no-compile",
         "--requirement", LOCK],
        "pip",
        failure=f"The packages of {repository_path(LOCK)} cannot be installed.",
        explain=_explain_pip,
    )  # fmt: skip
    STAMP.write_text(wanted)


def find_python() -> str:
    """A Python of the version that the lock file is made for, with the module venv."""
    if sys.version_info[:2] == PYTHON and importlib.util.find_spec("ensurepip"):
        return sys.executable
    version = ".".join(map(str, PYTHON))
    candidate = shutil.which(f"python{version}", path=f"/usr/bin:{os.environ.get('PATH', '')}")
    if candidate and run([candidate, "-c", "import ensurepip, venv"], check=False).returncode == 0:
        return candidate
    raise SandboxError(
        f"Python {version} with the module venv is missing; the locked packages are made for it. "
        "Use Debian 12, where `apt-get install python3 python3-venv` gives both."
    )


def _explain_pip(output: str) -> str | None:
    if re.search(r"Temporary failure in name resolution|unreachable|NewConnectionError|from versions: none", output):
        return "The Python package index cannot be reached: no network. Check the connection, name server and proxy."
    if "DO NOT MATCH THE HASHES" in output:
        return f"A package is not the one that {LOCK.name} names. Do not go on; run it again, or make the lock anew."
    if "No space left on device" in output:
        return "The disk is full. Free at least 6 GB on the repository's file system."
    return None
