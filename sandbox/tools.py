"""What only tests and benches need: a browser, a load generator, scanners, and the nginx of Debian's next release.

PyPy is the one Python 3.9 that Debian 12 has, and what hosts run is tried with it.

HAProxy, the stand-in for a load balancer, is fetched in the same way.

All but the packages lies in .cache/tools, each part in a directory of its own.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from sandbox import image
from sandbox.apt import explain
from sandbox.console import run_logged, say
from sandbox.paths import CACHE, REPO, VENV

PACKAGES = ("chromium-headless-shell", "libnss3-tools", "pypy3", "wrk")
DIRECTORY = CACHE / "tools"
DESCRIPTIONS = REPO / "tests" / "tools"
NGINX = DIRECTORY / "nginx" / "nginx"
HAPROXY = DIRECTORY / "haproxy" / "haproxy"
# nginx writes some settings differently since 1.25. It brings its own libraries, and its own loader finds them.
NGINX_SCRIPT = """\
#!/bin/sh
root=$(dirname "$0")/root/usr
exec "$root/lib64/ld-linux-x86-64.so.2" --library-path "$root/lib/x86_64-linux-gnu" "$root/sbin/nginx" "$@"
"""
# Of the machine's own release: it executes itself anew, which that loader does not survive.
HAPROXY_SCRIPT = """\
#!/bin/sh
root=$(dirname "$0")/root/usr
LD_LIBRARY_PATH=$root/lib/x86_64-linux-gnu exec "$root/sbin/haproxy" "$@"
"""


def ensure_servers() -> None:
    """Fetch the servers that are not there yet."""
    _ensure_package("nginx", image.next_sources(image.debian_sources(image.source_files())), NGINX_SCRIPT)
    ensure_haproxy()


def ensure_scanners() -> None:
    """Fetch the scanners that are not there yet, with pip and npm of the virtual environment."""
    _make("sslyze", (DESCRIPTIONS / "sslyze" / "requirements.txt").read_text(), _fetch_sslyze)
    _make("observatory", (DESCRIPTIONS / "observatory" / "package-lock.json").read_text(), _fetch_observatory)


def ensure_haproxy() -> None:
    """Fetch HAProxy unless it is there."""
    _ensure_package("haproxy", image.debian_sources(image.source_files()), HAPROXY_SCRIPT)


def _ensure_package(name: str, sources: list[str], script: str) -> None:
    _make(name, "\n".join([*sources, script]), lambda place: _fetch_package(place, sources, script))


def _make(name: str, made_from: str, fetch: Callable[[Path], None]) -> None:
    """Fetch a part unless it was made from the same. What an interrupted run left does not count."""
    place = DIRECTORY / name
    stamp, wanted = place / ".made-from", hashlib.sha256(made_from.encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    say(f"  {name}")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    fetch(place)
    stamp.write_text(wanted)


def _fetch_package(place: Path, sources: list[str], script: str) -> None:
    """Fetch the package of the place's name, with all that it needs, and a script that runs it."""
    name = place.name
    (place / "lists" / "partial").mkdir(parents=True)
    (place / "archives" / "partial").mkdir(parents=True)
    (place / "sources.list").write_text("\n".join(sources) + "\n")
    # No package is installed there: apt fetches the package with every library that it needs.
    (place / "status").touch()
    settings = {
        "Dir::State::Lists": place / "lists",
        "Dir::State::status": place / "status",
        "Dir::Cache": place,
        "Dir::Etc::SourceList": place / "sources.list",
        "Dir::Etc::SourceParts": "-",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": "2",
    }
    apt = ["apt-get", *(part for key, value in settings.items() for part in ("--option", f"{key}={value}"))]
    unpack = 'for archive in "$0"/archives/*.deb; do dpkg-deb --extract "$archive" "$0/root"; done'
    install = ["install", "--yes", "--no-install-recommends", "--download-only", name]
    for arguments in ([*apt, "update"], [*apt, *install], ["sh", "-ec", unpack, str(place)]):
        run_logged(
            arguments,
            f"tools-{name}",
            failure=f"Debian's {name} cannot be fetched.",
            explain=explain,
        )
    (place / name).write_text(script)
    (place / name).chmod(0o755)
    for leftover in ("lists", "archives"):
        shutil.rmtree(place / leftover)


def _fetch_sslyze(place: Path) -> None:
    run_logged(
        [VENV / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check", "--no-input",
         "--require-hashes", "--no-compile", "--target", place,
         "--requirement", DESCRIPTIONS / "sslyze" / "requirements.txt"],
        "tools-sslyze",
        failure="The packages of tests/tools/sslyze/requirements.txt cannot be installed.",
    )  # fmt: skip


def _fetch_observatory(place: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(DESCRIPTIONS / "observatory" / name, place / name)
    run_logged(
        [VENV / "bin" / "npm", "ci", "--prefix", place, "--ignore-scripts", "--no-audit", "--no-fund"],
        "tools-observatory",
        env={"PATH": f"{VENV / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        failure="The packages of tests/tools/observatory cannot be installed: check the network, then run this again.",
    )
    # The list of names that browsers preload is made at release time and not packed. None of ours stands on it.
    (place / "node_modules/@mdn/mdn-http-observatory/conf/hsts-preload.json").write_text("{}")
