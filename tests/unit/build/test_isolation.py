# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What the install scripts of packages can reach, tried by packages that reach for it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.build.builder import Builder
from ansible_collections.fivepointers.platform.plugins.module_utils.build.commands import BuildError

from .conftest import MAJOR, NODE, OF_PROJECT, TOKEN, running, spec, write, write_lock

Make = Callable[..., Builder]
MARK = "left-behind-by-a-package"


@pytest.fixture
def with_package(project: Path) -> Callable[[str], Path]:
    """Add a package with an install script to the project."""

    def add(name: str) -> Path:
        about = json.loads((project / "package.json").read_text())
        about["dependencies"][name] = "1.0.0"
        write(project, {"package.json": about})
        write_lock(project, {**OF_PROJECT, f"node_modules/{name}": "1.0.0"})
        return project

    return add


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process of whoever builds, with a secret in its environment."""
    with subprocess.Popen(["sleep", "60"], env={"HELD": "canary"}) as process:
        yield process
        process.kill()


def test_a_hostile_package_gets_nothing_and_harms_nobody(
    with_package: Callable[[str], Path],
    builder: Make,
    npm: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    victim: subprocess.Popen[bytes],
) -> None:
    home = tmp_path / "home"
    write(home, {".aws/credentials": "canary", ".aws/sso/cache/a.json": "{}", ".ssh/id_ed25519": "canary"})
    write(home, {".npmrc": "//registry/:_authToken=canary"})
    write(tmp_path / "repository", {"inventories/services.yml": "services: {}"})
    write(tmp_path / "artifacts", {"other/latest.json": "{}"})
    agent = socket.socket(socket.AF_UNIX)
    agent.bind(str(home / "agent"))
    agent.listen()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(home / "agent"))
    for name in ("GITHUB_TOKEN", "NPM_TOKEN", "AWS_SECRET_ACCESS_KEY", "npm_config__authToken"):
        monkeypatch.setenv(name, "canary")
    project = with_package("hostile")
    other, catalogue = tmp_path / "artifacts/other/latest.json", tmp_path / "repository/inventories/services.yml"
    private = [str(home / name) for name in (".aws/credentials", ".aws/sso/cache/a.json", ".ssh/id_ed25519", ".npmrc")]
    work = tmp_path / "cache/build/api"
    aim = {
        "read": [*private, str(project / "package.json"), str(other), "/etc/shadow"],
        "write": [str(other), str(catalogue), str(work / "installed"), str(project / "src/main.js")],
        # Only asked, never tried: without isolation it would work, on the machine that runs the tests.
        "writable": [str(work / "bin/node"), "/usr/local/bin", "/usr/bin/env", "/etc", "/proc/sys/kernel/core_pattern"],
        "reach": [str(home / "agent"), "/run/docker.sock", "/var/run/docker.sock", "/run/dbus/system_bus_socket"],
        "kill": [victim.pid],
        "mark": MARK,
    }
    make = builder(spec(project, environment={"AIM": json.dumps(aim)}))
    try:
        make.build()
        left = running(MARK)
    finally:
        agent.close()
        for pid in running(MARK):
            os.kill(pid, 9)
    assert json.loads((make.tree / "node_modules/hostile/loot.json").read_text()) == []
    assert not left, "a process of the package outlived the build"
    assert victim.poll() is None
    assert other.read_text() == "{}"
    assert catalogue.read_text() == "services: {}"


#: What a build tries to leave for the next one: more packages, another package, a program at home, a cache.
POISON = """
mkdir -p dist/node_modules/leaf src/node_modules/leaf node_modules/more
for name in dist/node_modules/leaf src/node_modules/leaf node_modules/leaf node_modules/more; do
  echo 'module.exports = ["poison"]' > $name/index.js; done
ln -sfn /etc node_modules/compiler-part; echo poison > $HOME/.npmrc
(echo poison > ../packages/_poison) 2> /dev/null || true
"""


def test_a_build_leaves_nothing_for_the_next_one(project: Path, builder: Make, tmp_path: Path) -> None:
    clean = builder(spec(project)).build()["manifest"]
    shutil.rmtree(tmp_path / "artifacts")
    for command in (f"compile; {POISON}", f"compile; {POISON} chmod 000 node_modules/leaf"):
        assert builder(spec(project, command=command)).build()["built"]
        shutil.rmtree(tmp_path / "artifacts")
        make = builder(spec(project))
        again = make.build()["manifest"]
        assert (again["id"], again["archive_sha256"]) == (clean["id"], clean["archive_sha256"])
        assert not [path for path in make.work.glob("[!b]*/**/*") if path.is_file() and b"poison" in path.read_bytes()]
        shutil.rmtree(tmp_path / "artifacts")


def test_tests_leave_nothing_for_a_build(project: Path, builder: Make) -> None:
    """tools/ci runs them in the same work folder."""
    make = builder(spec(project))
    make.try_out(POISON)
    assert "node_modules/more/index.js" not in make.build()["manifest"]["files"]
    assert "poison" not in (make.tree / "node_modules/leaf/index.js").read_text()


def test_folders_in_each_other_without_end_go(project: Path, builder: Make) -> None:
    nested = "for (let i = 0; i < 1500; i++) { fs.mkdirSync('a'.repeat(99)); process.chdir('a'.repeat(99)) }"
    command = f'compile; for folder in tmp home tree; do (cd ../$folder; node -e "{nested}"); done'
    make = builder(spec(project, output=".", command=command))
    try:
        with pytest.raises(BuildError, match="nested too deep"):
            make.build()
        assert builder(spec(project)).build()["built"]
    finally:
        # pytest could not remove them either.
        subprocess.run(["rm", "-rf", str(make.work)], check=True)


def test_a_package_does_not_stand_in_for_what_isolates(
    with_package: Callable[[str], Path], builder: Make, tmp_path: Path
) -> None:
    """Programs of packages come first on a build's PATH; those that confine it are the system's."""
    aim = tmp_path / "cache/build/api/tree/ran-as-root"
    make = builder(spec(with_package("impostor"), environment={"AIM": str(aim)}))
    make.build()
    assert (make.tree / "node_modules/.bin/bwrap").exists()
    assert not aim.exists()


def test_without_isolation_nothing_is_built_unless_that_is_asked_for(
    project: Path, builder: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """However little there seems to be to steal: nobody can list all that may be worth it."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "env", "cp", "mkdir", "uname", "git", "node", "rm", "xargs"):
        (programs / name).symlink_to(NODE if name == "node" else shutil.which(name) or name)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(programs))
        with pytest.raises(BuildError) as error:
            builder(spec(project)).build()
        said = "api cannot be built in isolation, because bubblewrap is not installed (apt-get install bubblewrap util"
        assert str(error.value).startswith(said)
        assert "With -e build_isolation=off, install scripts of packages run with all rights" in str(error.value)
        assert not list((tmp_path / "artifacts").rglob("*.tar.gz"))
        assert builder(spec(project), isolate=False).build()["built"]
    # What was installed by another user is installed again.
    assert builder(spec(project, environment={"A": "1"})).build()["built"]


#: Prints the error numbers of asking for the keyring of the session, and for a user namespace in two ways.
ASK = """
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
def tried(*words):
    ctypes.set_errno(0)
    libc.syscall(*words)
    return ctypes.get_errno()
x86 = platform.machine() == "x86_64"
print(tried(250 if x86 else 219, 0, -3, 0), tried(272 if x86 else 97, 0x10000000), tried(435, 0, 0))
"""


def test_neither_keyrings_nor_user_namespaces_are_open_to_a_build(project: Path, builder: Make, tmp_path: Path) -> None:
    python = shutil.which("python3", path="/usr/bin") or pytest.skip("needs the system's Python")
    write(project, {"src/ask.py": ASK})
    make = builder(spec(project, command=f"compile; {python} src/ask.py > dist/said"))
    make.build()
    said = (make.tree / "dist/said").read_text().split()
    assert said == [str(errno.ENOSYS), str(errno.EPERM), str(errno.ENOSYS)]


def test_a_bubblewrap_that_cannot_work_says_why(
    project: Path, builder: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(tmp_path / "bin", {"bwrap": "#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2; exit 1\n"})
    (tmp_path / "bin/bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(
        BuildError, match=r"does not work here \(bwrap: setting up uid map: Permission denied; on Ubuntu"
    ):
        builder(spec(project)).build()


AS_OTHER = """
import os, sys, encodings.ascii  # nothing can be loaded later where only root can read it
from pathlib import Path
from ansible_collections.fivepointers.platform.plugins.module_utils.build.builder import Builder
from ansible_collections.fivepointers.platform.plugins.module_utils.build.credentials import _detectors
from ansible_collections.fivepointers.platform.plugins.module_utils.build.sources import Spec
_detectors()
os.setgroups([]); os.setgid(65534); os.setuid(65534)
source, folder = Path(sys.argv[1]), Path(sys.argv[2])
command = "mkdir -p dist; (id -u; ls -A $HOME; cat ../../../../private /proc/*/environ) > dist/main.js 2>&1; true"
make = Builder(Spec("api", "node", source, source, command, "dist", node=sys.argv[3]), folder / "a", folder / "c")
make.build()
print((make.tree / "dist/main.js").read_text())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_whoever_is_not_root_is_isolated_as_well() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, {"source/package.json": {"name": "api"}, "source/package-lock.json": {"packages": {}}})
        write(folder, {"private": "canary"})
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 65534, 65534)
        words = [sys.executable, "-c", AS_OTHER, str(folder / "source"), name, MAJOR]
        environment = {
            "PYTHONPATH": str(Path(__file__).parents[3] / "collections"),
            "PATH": f"{NODE.parent}:/usr/bin:/bin",
            "GITHUB_TOKEN": "canary",
        }
        done = subprocess.run(words, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("65534\n") and "canary" not in done.stdout


@pytest.mark.parametrize("link", ["ln -s $AIM dist/b.txt", "rmdir dist; ln -s $(dirname $AIM) dist"])
def test_a_link_out_of_the_work_folder_is_not_followed(project: Path, builder: Make, tmp_path: Path, link: str) -> None:
    write(tmp_path / "home", {"key.txt": "canary"})
    make = builder(spec(project, command=f"mkdir dist; {link}", environment={"AIM": str(tmp_path / "home/key.txt")}))
    with pytest.raises(BuildError, match=r"is a link to .*home(/key\.txt)?, outside"):
        make.build()
    assert not list((tmp_path / "artifacts").rglob("*.tar.gz"))


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ("mkdir dist/a; mkfifo dist/a/pipe; ln -s ../src/pipe dist/b; mkfifo src/pipe", "dist/b is a pipe"),
        ("rm package.json; mkfifo package.json; ln -s ../package.json dist/b", "is a pipe"),
        ("truncate -s 5G dist/large.js", "larger than 1 GiB with dist/large.js"),
        ("ln -s / dist/root", "dist/root is a link to /, outside"),
        ("rm -r dist; ln -s / dist", "dist is a link to /, outside"),
        ('echo \'{"packages": {"../../..": {}}}\' > node_modules/.package-lock.json', ""),
    ],
)
def test_what_a_build_leaves_neither_stops_nor_kills_who_packs_it(
    project: Path, builder: Make, made: str, told: str
) -> None:
    make = builder(spec(project, command=f"compile; {made}"), timeout=60)
    started = time.monotonic()
    if told:
        with pytest.raises(BuildError, match=told):
            make.build()
    else:
        make.build()
    assert time.monotonic() - started < 30
    assert builder(spec(project)).build()["built"]


def test_a_lock_file_that_an_install_script_wrote_leads_nowhere(project: Path, builder: Make) -> None:
    about = json.loads((project / "package.json").read_text())
    write(project, {"package.json": about | {"scripts": {"postinstall": "node forge.js"}}})
    write_lock(project, OF_PROJECT)
    for forged in ('{"packages": {"../../x": {}}}', '{"packages": {"node_modules/leaf": 1}}'):
        write(project, {"forge.js": f"require('fs').writeFileSync('node_modules/.package-lock.json', '{forged}')"})
        with pytest.raises(BuildError, match="was changed by an install script"):
            builder(spec(project)).build()


def test_only_the_build_that_is_given_a_token_can_use_it(
    with_package: Callable[[str], Path], builder: Make, registry: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """.npmrc names the token, the registry asks for it, and nothing keeps it."""
    project = with_package("private")
    monkeypatch.setenv("NPM_TOKEN", TOKEN)
    host = registry["npm_config_registry"].removeprefix("http:")
    write(project, {".npmrc": f"{host}:_authToken=${{NPM_TOKEN}}\n"})
    command = "echo the token is $NPM_TOKEN; mkdir -p dist; echo 1 > dist/main.js"
    with pytest.raises(BuildError, match=r"E401(.|\n)*"):
        builder(spec(project, command=command)).build()
    make = builder(spec(project, command=command), secrets={"NPM_TOKEN": TOKEN})
    manifest = make.build()["manifest"]
    assert "node_modules/private/index.js" in manifest["files"]
    assert "the token is ********" in make.log.read_text()
    assert make.log.stat().st_mode & 0o077 == 0
    kept = [path for path in make.cache.parent.rglob("*") if path.is_file() and not path.is_symlink()]
    assert make.log in kept
    assert not [path for path in kept if TOKEN.encode() in path.read_bytes()]
    with tarfile.open(make.store.folder / f"{manifest['id']}.tar.gz") as archive:
        assert not [it.name for it in archive if it.isfile() and TOKEN.encode() in archive.extractfile(it).read()]
    assert builder(spec(project, command=command), secrets={"NPM_TOKEN": "rotated"}).plan()["id"] == manifest["id"]
