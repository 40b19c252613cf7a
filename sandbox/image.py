"""The images: a Debian host with systemd and SSH, and the same with a server of databases."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from sandbox import runtime
from sandbox.apt import explain
from sandbox.console import run, run_logged, say
from sandbox.engines import DEFAULT, ENGINES, Engine
from sandbox.errors import SandboxError
from sandbox.paths import CACHE, FILES, RUNTIME, SHARED_RUNTIME

SUITE = "bookworm"
NEXT_SUITE = "trixie"
SUITES = {SUITE, f"{SUITE}-updates", f"{SUITE}-security", f"{SUITE}/updates", "stable", "stable-security"}
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-apt,sudo,iproute2,ca-certificates,procps,openssh-server"
FORMAT = "1"
WORK = CACHE / "image"
# Hosts that another clone on this machine has made serve as well. After a week newer packages are wanted.
SHARED = Path("/var/cache/fivepointers-sandbox")
SHARED_DAYS = 7
REPOSITORY = "localhost/fivepointers-sandbox"
# Settings of apt on this machine without which its sources cannot be reached.
APT_SETTINGS = re.compile(r"Acquire::(?:https?::|Check-|ForceIPv|Retries|AllowInsecure).*;\Z")


def ensure(engines: Iterable[str], suite: str = SUITE) -> dict[str, str]:
    """Build the images unless they are there; returns the name of each: `host`, `base`, and one for each engine.

    :param suite: the Debian release of the hosts; `base` and the engines are of this machine's.
    """
    sources = debian_sources(source_files())
    settings = [line for line in run(["apt-config", "dump"]).stdout.splitlines() if APT_SETTINGS.match(line)]
    tag = key(sources, settings)
    base = f"{REPOSITORY}/host:{tag}"
    engine_images = {name: f"{REPOSITORY}/{ENGINES[name].package}:{tag}" for name in engines}
    with runtime.turn(RUNTIME / "image.lock"):
        _ensure_host(base, SUITE, tag, sources, settings)
        for name, database in engine_images.items():
            if not _exists(database):
                say(f"  building the image of {name} (half a minute, once)")
                _build_database(base, database, ENGINES[name])
        host = base
        if suite != SUITE:
            sources = next_sources(sources)
            tag = key(sources, settings)
            host = f"{REPOSITORY}/{suite}:{tag}"
            _ensure_host(host, suite, tag, sources, settings)
    return {"host": host, "base": base, **engine_images}


def _ensure_host(image: str, suite: str, tag: str, sources: list[str], settings: list[str]) -> None:
    if _exists(image):
        return
    with runtime.turn(SHARED_RUNTIME / "shared-image.lock"):
        archive = SHARED / f"{suite}-{tag}.tar"
        if not fresh(archive, time.time()):
            say(f"  building the image of hosts with Debian's {suite} (about a minute, once)")
            _build_host(archive, suite, sources, settings)
        runtime.podman("import", "--quiet", "--change", 'CMD ["/sbin/init"]', archive, image)


def next_sources(sources: Iterable[str]) -> list[str]:
    """The machine's Debian sources, for the next release."""
    return [line.replace(SUITE, NEXT_SUITE) for line in sources if SUITE in line]


def fresh(archive: Path, now: float) -> bool:
    """Whether an archive is there and its packages are new enough."""
    return archive.exists() and now - archive.stat().st_mtime < SHARED_DAYS * 86400


def key(sources: Iterable[str], settings: Iterable[str]) -> str:
    """A name for everything that goes into the images."""
    inputs = [FORMAT, SUITE, PACKAGES, ENGINES[DEFAULT].package, platform.machine(), *sources, *settings]
    digest = hashlib.sha256("\n".join(inputs).encode())
    for file in ("customize.sh", "python/kept_bytecode.py"):
        digest.update((FILES / file).read_bytes())
    for certificate in sorted(Path("/usr/local/share/ca-certificates").glob("**/*.crt")):
        digest.update(certificate.read_bytes())
    return digest.hexdigest()[:12]


def debian_sources(files: Iterable[tuple[str, str]]) -> list[str]:
    """The Debian sources among the machine's apt sources, one line each.

    :param files: (name, content) of each file; `.sources` files are deb822.
    :returns: lines for sources.list; Debian's own address when there is none of the suite.
    """
    lines: list[str] = []
    for name, content in files:
        lines += _deb822(content) if name.endswith(".sources") else _one_line(content)
    if not any(f" {SUITE} " in f"{line} " for line in lines):
        lines = [
            f"deb http://deb.debian.org/debian {SUITE} main",
            f"deb http://deb.debian.org/debian {SUITE}-updates main",
            f"deb http://deb.debian.org/debian-security {SUITE}-security main",
        ]
    return list(dict.fromkeys(lines))


def _one_line(content: str) -> list[str]:
    lines = []
    for line in content.splitlines():
        match = re.match(r"deb\s+(\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(.*)", line.split("#")[0].strip())
        if match and match[3] in SUITES and "main" in match[4].split():
            lines.append(f"deb {match[1] or ''}{match[2]} {match[3]} main")
    return lines


def _deb822(content: str) -> list[str]:
    lines = []
    for stanza in re.split(r"\n\s*\n", content):
        fields: dict[str, str] = {}
        last = ""
        for line in stanza.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            if line[0].isspace():
                fields[last] += f" {line.strip()}"
            elif ":" in line:
                last, _, value = line.partition(":")
                last = last.strip().lower()
                fields[last] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
            continue
        if "main" not in fields.get("components", "").split():
            continue
        # A key inside the stanza cannot stand on one line; Debian's own keyring is trusted anyway.
        signed = fields.get("signed-by", "")
        option = f"[signed-by={signed}] " if signed.startswith("/") else ""
        lines += [
            f"deb {option}{uri} {suite} main"
            for uri in fields.get("uris", "").split()
            for suite in fields.get("suites", "").split()
            if suite in SUITES
        ]
    return lines


def source_files() -> list[tuple[str, str]]:
    """The machine's apt sources: name and content of each file."""
    directory = Path("/etc/apt/sources.list.d")
    paths = [Path("/etc/apt/sources.list"), *sorted(directory.glob("*.list")), *sorted(directory.glob("*.sources"))]
    return [(path.name, path.read_text()) for path in paths if path.exists()]


def _exists(image: str) -> bool:
    return runtime.podman("image", "exists", image, check=False).returncode == 0


def _build_host(archive: Path, suite: str, sources: list[str], settings: list[str]) -> None:
    # What an interrupted build left.
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    (WORK / "sources.list").write_text("\n".join(sources) + "\n")
    (WORK / "apt.conf").write_text("\n".join([*settings, 'Acquire::Languages "none";', ""]))
    temporary = WORK / "tmp"
    temporary.mkdir()
    run_logged(
        [
            # In namespaces of its own that end with us: whatever kills the build, no mount
            # of the machine's /proc or /dev stays in a directory that we are going to remove.
            "setpriv", "--pdeathsig", "KILL",
            "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc",
            "mmdebstrap", "--mode=root", "--variant=minbase", f"--include={PACKAGES}",
            f"--aptopt={WORK / 'apt.conf'}", f"--customize-hook=sh {FILES / 'customize.sh'} \"$1\"",
            "--skip=cleanup/apt", suite, WORK / "host.tar", WORK / "sources.list",
        ],
        "image",
        env={"TMPDIR": str(temporary)},
        failure="The host image cannot be built.",
        explain=explain,
    )  # fmt: skip
    SHARED.mkdir(parents=True, mode=0o700, exist_ok=True)
    # One for all clones is enough; what it was made from has changed since the others.
    for other in SHARED.glob(f"{suite}-*.tar"):
        other.unlink()
    shutil.move(WORK / "host.tar", archive)
    shutil.rmtree(WORK)


def _build_database(host: str, image: str, engine: Engine) -> None:
    container = "build-database"
    runtime.podman("rm", "--force", "--volumes", container, check=False)
    script = f"apt-get install --yes --no-install-recommends {engine.package} && apt-get clean && rm -rf {engine.data}"
    run_logged(
        runtime.command(
            "run", *runtime.PRIVILEGES, "--name", container, "--network", "host",
            "--env", "DEBIAN_FRONTEND=noninteractive", host, "sh", "-c", script,
        ),
        "image-database",
        env=runtime.environment(),
        failure="The database image cannot be built.",
        explain=explain,
    )  # fmt: skip
    runtime.podman("commit", "--quiet", container, image)
    runtime.podman("rm", "--force", "--volumes", container)


def require_tools() -> None:
    """Raise a SandboxError when the machine's packages are not there yet."""
    for tool in ("podman", "crun", "mmdebstrap", "ip", "ssh-keygen"):
        if shutil.which(tool) is None:
            raise SandboxError(
                f"{tool} is not installed. Run `make up`, or `python3 -m sandbox setup`, which installs it."
            )
