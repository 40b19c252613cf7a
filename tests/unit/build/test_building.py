# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Real builds of small projects with real npm, from a registry on the loopback."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.build import commands
from ansible_collections.fivepointers.platform.plugins.module_utils.build.builder import Builder
from ansible_collections.fivepointers.platform.plugins.module_utils.build.commands import BuildError
from ansible_collections.fivepointers.platform.plugins.module_utils.build.credentials import keep_out
from ansible_collections.fivepointers.platform.plugins.module_utils.build.entries import check_commands
from ansible_collections.fivepointers.platform.plugins.module_utils.build.runtimes import find_runtime
from ansible_collections.fivepointers.platform.plugins.module_utils.build.signatures import Signer, signed_by
from ansible_collections.fivepointers.platform.plugins.module_utils.build.sources import (
    Spec,
    commit_of,
    source_names,
    spec_of,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.common import platforms

from .conftest import (
    COMPILER,
    DEEP,
    MAJOR,
    NODE_VERSION,
    OF_PROJECT,
    elf,
    node,
    running,
    spec,
    unpacked,
    write,
    write_lock,
)

Make = Callable[..., Builder]


@pytest.fixture
def signer() -> Signer:
    pem = subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True, text=True, check=True)
    return Signer(pem.stdout)


def tree_of(folder: Path) -> dict[str, str]:
    """Every file below a folder with its digest."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_an_api_is_built_once_and_runs(project: Path, builder: Make, tmp_path: Path) -> None:
    before = tree_of(project)
    service = spec(project, command=None, start=("node", "dist/main.js"))
    make = builder(service)
    shutil.rmtree(make.work)
    done = make.build()
    manifest = done["manifest"]
    assert done["built"]
    assert done["changed"]
    assert re.fullmatch(r"[0-9a-f]{16}", manifest["id"])
    assert manifest["node"] == NODE_VERSION
    assert tree_of(project) == before, "the source was touched"

    app = unpacked(make, manifest, tmp_path / "host")
    assert node(app, "dist/main.js") == "deep@1.0.0 needs-old@1.0.0 leaf@1.0.0 needs-new@1.0.0 leaf@2.0.0"
    assert not (app / "node_modules/compiler").exists(), "development dependencies went along"
    assert not (app / "node_modules/compiler-part").exists()
    assert not (app / "src").exists()
    assert os.readlink(app / "node_modules/.bin/framework") == "../framework/cli.js"
    assert not (app / "node_modules/.bin/compile").is_symlink()

    archive = make.store.folder / f"{manifest['id']}.tar.gz"
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == manifest["archive_sha256"]
    assert archive.stat().st_size == manifest["archive_size"]
    files = {name: digest for name, digest in tree_of(app).items() if ".bin/" not in name}
    assert manifest["files"] == files
    assert manifest["files_count"] == len(files)
    assert json.loads((make.store.folder / "latest.json").read_text()) == manifest

    start = time.monotonic()
    again = builder(service).build()
    assert not again["built"]
    assert not again["changed"]
    assert again["manifest"] == manifest
    assert time.monotonic() - start < 1


def test_the_same_input_gives_the_same_bytes_elsewhere(project: Path, builder: Make, tmp_path: Path) -> None:
    make = builder(spec(project))
    manifest = make.build()["manifest"]
    copy = tmp_path / "elsewhere"
    shutil.copytree(project, copy)
    other = Builder(spec(copy), tmp_path / "artifacts2", tmp_path / "cache2")
    assert other.build()["manifest"]["archive_sha256"] == manifest["archive_sha256"]


def test_each_input_changes_the_id(project: Path, builder: Make) -> None:
    base = spec(project)
    ids = {"nothing": builder(base).plan()["id"]}
    for name, change in {
        "command": {"command": "compile && true"},
        "output": {"output": "build"},
        "environment": {"environment": {"API_URL": "https://api.example.com"}},
        "install scripts": {"install_scripts": False},
        "layout": {"layout": "static"},
    }.items():
        ids[name] = builder(spec(project, **change)).plan()["id"]
    (project / "src/main.js").chmod(0o755)
    ids["mode"] = builder(base).plan()["id"]
    (project / "src/main.js").write_text("// another\n")
    ids["content"] = builder(base).plan()["id"]
    (project / "src/main.js").rename(project / "src/index.js")
    ids["name"] = builder(base).plan()["id"]
    lock = project / "package-lock.json"
    lock.write_text(lock.read_text() + "\n")
    ids["lock"] = builder(base).plan()["id"]
    assert len(set(ids.values())) == len(ids), ids


def test_what_does_not_count_changes_nothing(project: Path, builder: Make) -> None:
    before = builder(spec(project)).plan()["id"]
    write(project, {"node_modules/x/index.js": "1", "dist/old.js": "1"})
    assert builder(spec(project)).plan()["id"] == before
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    write(project, {".gitignore": "node_modules\ndist\n*.log\n.env\n"})
    in_git = builder(spec(project)).plan()["id"]
    write(project, {"debug.log": "noise", ".env": "PASSWORD=x", "dist/more.js": "1"})
    assert builder(spec(project)).plan()["id"] == in_git
    write(project, {"src/new.js": "1"})
    assert builder(spec(project)).plan()["id"] != in_git, "a new file that git does not ignore counts"


def test_a_deleted_file_that_git_still_tracks_is_gone(project: Path, builder: Make) -> None:
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    write(project, {"src/old.js": "1"})
    subprocess.run(["git", "-C", str(project), "add", "-A"], check=True)
    (project / "src/old.js").unlink()
    assert "src/old.js" not in [file.path for file in builder(spec(project)).plan()["files"]]


def test_what_looks_like_a_repository_starts_nothing(project: Path, builder: Make, tmp_path: Path) -> None:
    """A bare repository can be committed, and the settings in it name programs."""
    ran = tmp_path / "ran"
    settings = f'[core]\nrepositoryformatversion = 0\nbare = false\nworktree = .\nfsmonitor = "touch {ran}"\n'
    write(project, {"HEAD": "ref: refs/heads/main\n", "config": settings, "objects/a": "", "refs/heads/a": ""})
    subprocess.run(["git", "-C", str(project), "ls-files", "--others"], capture_output=True, check=False)
    assert ran.exists(), "git does not start the program: the test shows nothing"
    ran.unlink()
    for top in (project, project.parent):
        assert "config" in [file.path for file in builder(spec(project)).plan()["files"]]
        subprocess.run(["git", "init", "-q", str(top)], check=True, env={**os.environ, "GIT_DIR": str(top / ".git")})
        (top / ".git/config").write_text(f'[core]\nrepositoryformatversion = 0\nfsmonitor = "touch {ran}"\n')
        assert "config" in [file.path for file in builder(spec(project)).plan()["files"]]
        builder(spec(project)).build()
        shutil.rmtree(top / ".git")
    assert not ran.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_the_repository_of_somebody_else_is_read_as_its_owner() -> None:
    with tempfile.TemporaryDirectory() as name:
        source = Path(name, "source")
        write(source, {"package.json": {"name": "api"}, ".gitattributes": "* filter=who\n", ".gitignore": "kept-out\n"})
        git_add(source)
        subprocess.run(
            ["git", "-C", str(source), "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"], check=True
        )
        write(source, {"package.json": {"name": "API"}, "kept-out": "1"})
        with (source / ".git/config").open("a") as file:
            file.write(f'[filter "who"]\n\tclean = "id -u > {name}/who; cat"\n')
        for path in (Path(name), *Path(name).rglob("*")):
            os.chown(path, 65534, 65534)
        commit = commit_of(spec(source))
        assert commit and commit["dirty"]
        assert Path(name, "who").read_text() == "65534\n"
        assert "kept-out" not in source_names(spec(source))


def test_a_repository_that_git_cannot_read_is_refused(project: Path, builder: Make) -> None:
    """Otherwise all that lies about would be built, what git ignores as well."""
    git_add(project)
    (project / ".git/index").write_text("damaged")
    with pytest.raises(BuildError, match=r"git cannot read .*/project, so what belongs to the source is unknown\."):
        builder(spec(project)).plan()


def test_a_folder_that_git_ignores_is_taken_whole(project: Path, builder: Make) -> None:
    subprocess.run(["git", "init", "-q", str(project.parent)], check=True)
    write(project.parent, {".gitignore": "project\n"})
    assert "src/main.js" in [file.path for file in builder(spec(project)).plan()["files"]]


def test_a_lock_file_that_git_ignores_is_used(project: Path, builder: Make) -> None:
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    write(project, {".gitignore": "package-lock.json\n"})
    assert "package-lock.json" in [file.path for file in builder(spec(project)).plan()["files"]]


def test_settings_of_a_developer_are_not_copied(project: Path, builder: Make) -> None:
    """Those that git tracks are the project's; elsewhere, they may name a variable and hold no token."""

    def copied() -> bool:
        return ".npmrc" in [file.path for file in builder(spec(project)).plan()["files"]]

    for literal in ("//r/:_authToken=abc", '_auth = "abc"', "//r/:_authToken=${A}b", "a\nproxy=http://u:pw@h/"):
        write(project, {".npmrc": f"{literal}\n"})
        with pytest.raises(BuildError, match=r"project/\.npmrc holds a token, .*build\.secrets"):
            builder(spec(project)).plan()
    harmless = "fund=false\n# _auth=abc\n//r/:_authToken=${NPM_TOKEN}\nproxy=http://u:${PW}@h/\nregistry=http://h:80/\n"
    write(project, {".npmrc": harmless})
    assert copied()
    write(project, {".npmrc": "//r/:_authToken=abc\n", ".gitignore": ".npmrc\n"})
    git_add(project)
    assert not copied(), "git ignores it"
    (project / ".gitignore").unlink()
    assert not copied(), "git does not track it"
    git_add(project)
    assert copied()


def test_going_back_makes_the_old_artifact_the_latest(project: Path, builder: Make) -> None:
    first = builder(spec(project)).build()["manifest"]["id"]
    main = project / "src/main.js"
    text = main.read_text()
    main.write_text("console.log(2);\n")
    second = builder(spec(project)).build()
    assert second["reason"] == "source differs from the latest artifact"
    main.write_text(text)
    back = builder(spec(project)).build()
    assert not back["built"]
    assert back["changed"]
    assert back["manifest"]["id"] == first


def test_the_manifest_names_the_commit(project: Path, builder: Make, signer: Signer) -> None:
    def build() -> dict[str, Any]:
        return builder(spec(project), signer=signer).build()

    def commit(message: str, time_: int) -> dict[str, Any]:
        who = {f"GIT_{role}_{what}": "a@b.c" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        environment = {**os.environ, **who, "GIT_COMMITTER_DATE": f"{time_} +0900"}
        git = ["git", "-C", str(project)]
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", message], check=True, env=environment)
        head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
        return {"id": head.stdout.strip(), "time": time_, "dirty": False}

    assert "commit" not in build()["manifest"], "outside a repository"
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    write(project, {".gitignore": "node_modules\ndist\n"})
    assert "commit" not in build()["manifest"], "before the first commit"
    first = commit("one", 1_700_000_001)
    done = build()
    assert (done["built"], done["changed"], done["manifest"]["commit"]) == (False, True, first), "learned afterwards"
    text = (project / "src/main.js").read_text()
    write(project, {"src/main.js": "console.log(2);\n"})
    assert build()["manifest"]["commit"] == {**first, "dirty": True}
    second = commit("two", 1_700_000_002)
    assert build()["manifest"]["commit"] == second

    commit("of another service", 1_700_000_003)
    done = build()
    assert (done["changed"], done["manifest"]["commit"]) == (False, second), "the same content, so the same manifest"

    write(project, {"src/main.js": text})
    revert = commit("revert two", 1_700_000_004)
    done = build()
    assert (done["built"], done["manifest"]["commit"]) == (False, revert), "going back on purpose is not older"
    store = builder(spec(project), signer=signer).store
    assert store.manifest(done["manifest"]["id"]) == store.manifest("latest") == done["manifest"]
    assert signed_by(done["manifest"], [signer.public_key])
    assert not signed_by({**done["manifest"], "commit": first}, [signer.public_key])


def test_installed_packages_stay_between_builds(project: Path, builder: Make) -> None:
    make = builder(spec(project))
    shutil.rmtree(make.work)
    make.build()
    assert "npm ci" in make.log.read_text()
    write(project, {"src/main.js": "console.log(3);\n"})
    make.build()
    assert "npm ci" not in make.log.read_text()


def test_scripts_of_the_project_itself_run_on_each_change(project: Path, builder: Make) -> None:
    about = json.loads((project / "package.json").read_text())
    about["scripts"]["prepare"] = "node -e \"require('fs').copyFileSync('src/main.js', 'src/made.js')\""
    write(project, {"package.json": about})
    make = builder(spec(project))
    make.build()
    write(project, {"src/main.js": "console.log(4);\n"})
    make.build()
    assert "npm ci" in make.log.read_text()
    assert (make.tree / "dist/made.js").read_text() == "console.log(4);\n"


def test_a_damaged_archive_is_built_again(project: Path, builder: Make) -> None:
    make = builder(spec(project))
    manifest = make.build()["manifest"]
    archive = make.store.folder / f"{manifest['id']}.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-20])
    again = make.build()
    assert again["built"]
    assert again["reason"] == "the artifact is missing or damaged"
    assert again["manifest"]["archive_sha256"] == manifest["archive_sha256"]


def test_an_artifact_of_somebody_else_is_built_again(project: Path, builder: Make, signer: Signer) -> None:
    """A script of another service's build writes here: archive and manifest fit each other."""
    ours = signer
    make = builder(spec(project), signer=ours)
    manifest = make.build()["manifest"]
    assert signed_by(manifest, [ours.public_key]) and not make.build()["changed"]
    archive = make.store.folder / f"{manifest['id']}.tar.gz"
    good = archive.read_bytes()
    archive.write_bytes(b"hostile")
    forged = {**manifest, "archive_sha256": hashlib.sha256(b"hostile").hexdigest(), "archive_size": 7}
    for name in (manifest["id"], "latest"):
        write(make.store.folder, {f"{name}.json": forged})
    # Without signatures it would be taken for ours.
    assert not builder(spec(project)).build()["built"]
    again = make.build()
    assert again["built"] and archive.read_bytes() == good
    assert signed_by(make.store.manifest("latest") or {}, [ours.public_key])


def test_old_artifacts_go(project: Path, builder: Make) -> None:
    ids = []
    for number in range(4):
        write(project, {"src/main.js": f"console.log({number});\n"})
        done = builder(spec(project), keep=2).build()
        ids.append(done["manifest"]["id"])
        time.sleep(0.02)
    assert done["removed"] == [ids[1]]
    left = {path.name for path in builder(spec(project)).store.folder.iterdir()}
    assert left == {f"{name}.{end}" for name in ids[2:] for end in ("json", "tar.gz")} | {"latest.json"}


# --- what is refused, and how ----------------------------------------------------


def refused(make: Builder) -> str:
    with pytest.raises(BuildError) as error:
        make.build()
    assert not make.store.folder.exists() or not list(make.store.folder.iterdir()), "something was left"
    return str(error.value)


def test_without_lock_file(project: Path, builder: Make) -> None:
    (project / "package-lock.json").unlink()
    text = refused(builder(spec(project)))
    assert f"Run `npm install --package-lock-only` in {project}" in text
    assert "build.lockfile: optional" in text
    assert builder(spec(project, lockfile="optional")).build()["built"]
    assert not (project / "package-lock.json").exists()


def test_with_a_lock_file_further_up(project: Path, builder: Make) -> None:
    (project / "package-lock.json").rename(project.parent / "package-lock.json")
    assert f"monorepo in {project.parent}, set build.workspace" in refused(builder(spec(project)))


def test_with_a_lock_file_that_does_not_fit(project: Path, builder: Make) -> None:
    about = json.loads((project / "package.json").read_text())
    about["dependencies"]["@scope/tool"] = "1.0.0"
    write(project, {"package.json": about})
    text = refused(builder(spec(project)))
    assert "'npm ci --include=dev' failed with status" in text
    assert f"Likely: run `npm install` in {project} and commit the lock file" in text
    assert "npm error Missing: @scope/tool@1.0.0 from lock file" in text, "npm's usage took the place of its reason"
    assert "--install-strategy" not in text


@pytest.mark.parametrize(
    "change, words",
    [
        ({"source": "elsewhere"}, ["build.source of api is", "does not exist", "relative to the catalogue"]),
        ({"output": "build"}, ["build is missing or empty", "Set build.output of api", "found: dist"]),
        ({"command": "npm run bundle"}, ["'npm run bundle' failed", "has no such script", "build.command"]),
        ({"command": "compiel"}, ["'compiel' failed with status 127", "not installed", "devDependencies"]),
        ({"command": "echo 'a line'; exit 3"}, ["failed with status 3", "a line", "build.log"]),
        (
            {"start": ("node", "dist/src/main.js")},
            ["did not create dist/src/main.js", "It created: dist/main.js", "Correct start"],
        ),
        ({"start": ("node", "--enable-source-maps", "server.js")}, ["did not create server.js"]),
        (
            {"start": ("node", "-r", "./.pnp.cjs", "dist/main.js")},
            ["start of api is", "finds them without .pnp.cjs", "Leave it out of start"],
        ),
        (
            {"start": ("node", "-r", "leaf", "dist/main.js"), "migrations": ("node", "list.js")},
            ["migrations of api is"],
        ),
        ({"migrate": ("node", "dist/migrate")}, ["did not create dist/migrate", "Correct migrate", "build.include"]),
        (
            {"migrate": ("node_modules/.bin/compile", "up")},
            ["does not have node_modules/.bin/compile", "Move the package there from devDependencies"],
        ),
        (
            {"migrate": ("node_modules/.bin/framework", "--config=src/main.js")},
            ["migrate of api is", "does not have src/main.js", "build.include"],
        ),
        ({"node": "3"}, ["No Node.js 3 to build with", "platform_environment.nodejs['3']"]),
        ({"layout": "static"}, ["dist of api does not contain index.html"]),
        ({"layout": "next"}, ["did not create dist/standalone", "output: 'standalone'", "build.standalone: false"]),
        ({"command": "kill -9 $$"}, ["failed with status 137", "OOM killer", "max-old-space-size"]),
        (
            {"command": "node --max-old-space-size=16 -e 'const a = []; for (;;) a.push(new Array(1e5).fill(1))'"},
            ["ran out of memory", "NODE_OPTIONS"],
        ),
        ({"command": "node -e 'require(\"absent\")'"}, ["a dependency is missing"]),
        ({"command": "sleep 60"}, ["did not finish within 1 s", "build.log"]),
    ],
)
def test_failures_name_the_fix(project: Path, builder: Make, change: dict[str, Any], words: list[str]) -> None:
    source = project / change.pop("source", "")
    timeout = 1 if change.get("command") == "sleep 60" else 60
    text = refused(builder(spec(source, **change), timeout=timeout))
    for word in words:
        assert word in text


def test_only_the_end_of_a_long_output_is_shown(project: Path, builder: Make) -> None:
    text = refused(builder(spec(project, command="for n in $(seq 100); do echo line $n; done; exit 1")))
    assert "line 71\n" in text
    assert "line 70\n" not in text
    assert text.endswith("line 100")


def test_a_project_without_build_script(project: Path, builder: Make) -> None:
    about = json.loads((project / "package.json").read_text())
    about["scripts"] = {"start": "node ."}
    write(project, {"package.json": about})
    assert "no script 'build' (available: start)" in refused(builder(spec(project, command=None)))


def test_a_script_that_may_be_missing(project: Path, builder: Make) -> None:
    about = json.loads((project / "package.json").read_text())
    optional = spec(project, command=None, script="bundle", script_required=False, output=".")
    manifest = builder(optional).build()["manifest"]
    assert "src/main.js" in manifest["files"] and "dist/main.js" not in manifest["files"]
    about["scripts"]["bundle"] = "compile"
    write(project, {"package.json": about})
    assert "dist/main.js" in builder(optional).build()["manifest"]["files"]


def test_a_link_out_of_the_project(project: Path, builder: Make) -> None:
    (project / "src/shared").symlink_to("../../elsewhere")
    assert "outside" in refused(builder(spec(project)))


def test_a_dependency_outside_of_the_project(project: Path, builder: Make) -> None:
    about = json.loads((project / "package.json").read_text())
    about["dependencies"]["lib"] = "file:../lib"
    write(project, {"package.json": about, "../lib/package.json": {"name": "lib", "version": "1.0.0"}})
    assert "refers to file:../lib as lib, outside" in refused(builder(spec(project)))


def test_a_workspace_that_is_not_above(project: Path) -> None:
    with pytest.raises(BuildError, match=r"its source .* is not below it"):
        spec_of({"name": "a", "layout": "node", "source": str(project), "workspace": str(project / "src")})


# --- interruptions ----------------------------------------------------------------

RUN = """
import sys
from pathlib import Path
from ansible_collections.fivepointers.platform.plugins.modules import build
from ansible_collections.fivepointers.platform.plugins.module_utils.build.builder import Builder
from ansible_collections.fivepointers.platform.plugins.module_utils.build.sources import (
    Spec,
    commit_of,
    source_names,
    spec_of,
)
import json, signal
signal.signal(signal.SIGTERM, build.stop)
Builder(spec_of(json.loads(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3])).build()
"""


def start_build(project: Path, tmp_path: Path, command: str, **other: Any) -> subprocess.Popen[str]:
    service = {
        "name": "api",
        "layout": "node",
        "source": str(project),
        "command": command,
        "output": "dist",
        "node": MAJOR,
    }
    return subprocess.Popen(
        [sys.executable, "-c", RUN, json.dumps(service), str(tmp_path / "artifacts"), str(tmp_path / "cache")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "collections")},
        text=True,
        **other,
    )


def wait_for(path: Path, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.05)


def ends(mark: str) -> bool:
    """Whether no process with a mark in its command line is left, after a moment."""
    deadline = time.monotonic() + 5
    while running(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not running(mark)


@pytest.mark.parametrize("how", ["signal", "kill", "reader"])
def test_an_interrupted_build_leaves_nothing(project: Path, tmp_path: Path, builder: Make, how: str) -> None:
    """A signal, kill -9, or Ansible gone: no artifact, no process, and the next build works."""
    mark = f"300.{os.getpid()}"
    command = f"setsid sleep {mark} & sleep {mark} & touch marker; wait"
    pipes = {"stdout": subprocess.PIPE} if how == "reader" else {}
    process = start_build(project, tmp_path, command, **pipes)
    wait_for(tmp_path / "cache/build/api/tree/marker")
    assert running(mark)
    if how == "signal":
        process.terminate()
    elif how == "kill":
        process.kill()
    else:
        assert process.stdout
        process.stdout.close()
    assert process.wait(15) != 0
    assert ends(mark), "the command outlived the build"
    artifacts = tmp_path / "artifacts" / "api"
    assert not artifacts.exists() or not list(artifacts.iterdir())
    assert builder(spec(project)).build()["built"]


def test_what_a_build_leaves_in_the_background_ends(project: Path, builder: Make) -> None:
    mark = f"301.{os.getpid()}"
    builder(spec(project, command=f"compile; setsid sleep {mark} & sleep {mark} &")).build()
    assert not running(mark)


def test_an_archive_half_written_is_no_artifact(project: Path, builder: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.fivepointers.platform.plugins.module_utils.build import store as artifacts

    make = builder(spec(project))
    real = artifacts.time_of
    count = iter(range(1000))

    def stop_at_the_fifth(digest: str) -> int:
        if next(count) == 5:
            raise KeyboardInterrupt
        return real(digest)

    monkeypatch.setattr(artifacts, "time_of", stop_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        make.build()
    assert list(make.store.folder.iterdir()) == []
    # What a power cut would leave goes with the next build.
    (make.store.folder / ".x.tmp").write_text("half")
    monkeypatch.setattr(artifacts, "time_of", real)
    make.build()
    assert not (make.store.folder / ".x.tmp").exists()


def test_two_builds_at_once_build_once(project: Path, builder: Make) -> None:
    done: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: done.append(builder(spec(project)).build())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(item["built"] for item in done) == [False, True]


def test_a_lock_that_stays_names_its_holder(tmp_path: Path) -> None:
    with (
        commands.locked(tmp_path / "lock", "first"),
        pytest.raises(BuildError, match=f"pid {os.getpid()}"),
        commands.locked(tmp_path / "lock", "second", 0.3),
    ):
        pass


# --- surroundings -----------------------------------------------------------------


def test_builds_see_the_catalogue_and_not_the_controller(
    project: Path, builder: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("NODE_ENV", "production")
    command = "mkdir -p dist && env > dist/env && node --version >> dist/env && npm --version >> dist/env"
    make = builder(spec(project, command=command, environment={"API_URL": "https://api.example.com", "A": "$x y"}))
    make.build()
    seen = (make.tree / "dist/env").read_text().splitlines()
    assert "API_URL=https://api.example.com" in seen
    assert "A=$x y" in seen
    assert f"v{NODE_VERSION}" in seen
    assert not [line for line in seen if line.startswith(("AWS_", "NODE_ENV="))]


def test_a_build_for_production_has_its_tools(project: Path, builder: Make) -> None:
    about = json.loads((project / "package.json").read_text())
    about["devDependencies"]["scripted"] = "1.0.0"
    write(project, {"package.json": about})
    write_lock(project, {**OF_PROJECT, "node_modules/scripted": "1.0.0"})
    make = builder(spec(project, environment={"NODE_ENV": "production"}))
    manifest = make.build()["manifest"]
    assert (make.tree / "node_modules/scripted").exists(), "NODE_ENV kept development dependencies out"
    assert "node_modules/scripted/index.js" not in manifest["files"]


def test_install_scripts_run_or_do_not(project: Path, builder: Make, tmp_path: Path) -> None:
    about = json.loads((project / "package.json").read_text())
    about["dependencies"].update({"scripted": "1.0.0", "generates": "1.0.0"})
    write(project, {"package.json": about})
    write_lock(project, {**OF_PROJECT, "node_modules/scripted": "1.0.0", "node_modules/generates": "1.0.0"})
    make = builder(spec(project))
    app = unpacked(make, make.build()["manifest"], tmp_path / "with")
    assert (app / "node_modules/scripted/made-at-install.txt").read_text() == f"v{NODE_VERSION}"
    assert node(app, "-p", "require('./node_modules/.client')") == "42"
    make = builder(spec(project, install_scripts=False))
    app = unpacked(make, make.build()["manifest"], tmp_path / "without")
    assert not (app / "node_modules/scripted/made-at-install.txt").exists()


def test_a_runtime_is_fetched_by_its_checksum(project: Path, tmp_path: Path, builder: Make) -> None:
    archive = tmp_path / "node.tar.gz"
    program = b'#!/bin/sh\n[ "$1" = --version ] && echo v99.1.2 && exit\nexec node "$@"\n'
    with tarfile.open(archive, "w:gz") as packed:
        info = tarfile.TarInfo("package/bin/node")
        info.size, info.mode = len(program), 0o755
        packed.addfile(info, io.BytesIO(program))
    entry = {"version": "99.1.2", "url": archive.as_uri(), "sha256": "0" * 64, "strip": 1}
    wanted = spec(project, node="99", command="mkdir dist; node --version > dist/v", lockfile="optional")
    text = refused(builder(wanted, archives={"99": entry}))
    assert "has the checksum" in text
    entry["sha256"] = hashlib.sha256(archive.read_bytes()).hexdigest()
    text = refused(builder(wanted, archives={"99": {**entry, "version": "99.0.0"}}))
    assert "contains Node.js 99.1.2 instead of 99.0.0" in text
    text = refused(builder(wanted, archives={"99": {**entry, "strip": 3}}))
    assert "Correct strip" in text
    shutil.rmtree(tmp_path / "cache")
    plan = builder(wanted, archives={"99": entry}).plan()
    assert plan["inputs"]["node"] == "99.1.2"
    assert not (tmp_path / "cache").exists(), "planning fetched"
    (project / "package.json").unlink()
    make = builder(wanted, archives={"99": entry})
    assert make.build()["manifest"]["node"] == "99.1.2"
    assert (make.tree / "dist/v").read_text() == "v99.1.2\n"
    assert not list((tmp_path / "cache/node").glob(".unpack*"))
    # Now that it is here, the major version alone finds it.
    assert builder(wanted).plan()["inputs"]["node"] == "99.1.2"


def test_the_runtime_is_that_of_the_machine_that_builds(tmp_path: Path) -> None:
    here, other = platforms.here(), "linux-riscv64"
    archives = {name: {"url": f"https://example.com/{name}.tar.gz", "sha256": "a" * 64} for name in (here, other)}
    found = find_runtime("99", tmp_path, {"99": {"version": "99.1.2", **archives}})
    assert (found.version, found.program) == ("99.1.2", None) and found.archive["url"] == archives[here]["url"]
    elsewhere = {"99": {"version": "99.1.2", other: archives[other]}}
    with pytest.raises(BuildError) as error:
        find_runtime("99", tmp_path, elsewhere)
    assert f"nodejs['99'] has an archive for {other}, and this machine is {here}. Write one for each" in str(
        error.value
    )
    assert str(error.value).endswith("or install Node.js 99.1.2.")
    installed = tmp_path / "node/99.1.2/bin/node"
    write(installed.parent, {"node": ""})
    assert find_runtime("99", tmp_path, elsewhere).program == installed
    # Hosts are others, and this one has the version.
    assert find_runtime("1", tmp_path / "empty", {"1": {"version": NODE_VERSION, other: archives[other]}}).program


def test_a_runtime_for_another_machine_is_told(project: Path, tmp_path: Path, builder: Make) -> None:
    program = elf(183 if platforms.machine() == "x64" else 62, [], kind=2)
    write(tmp_path / "package/bin", {"node": ""})
    (tmp_path / "package/bin/node").write_bytes(program)
    (tmp_path / "package/bin/node").chmod(0o755)
    with tarfile.open(tmp_path / "node.tar.gz", "w:gz") as packed:
        packed.add(tmp_path / "package", "package")
    url, digest = (tmp_path / "node.tar.gz").as_uri(), hashlib.sha256((tmp_path / "node.tar.gz").read_bytes())
    entry = {"version": "99.1.2", "url": url, "sha256": digest.hexdigest()}
    text = refused(builder(spec(project, node="99"), archives={"99": entry}))
    assert f"Node.js of {url} does not run on this machine: Exec format error. Write its archive for" in text


# --- kinds --------------------------------------------------------------------------


def test_a_static_site(tmp_path: Path, builder: Make) -> None:
    source = tmp_path / "site"
    page = "<h1>hello</h1>" * 200
    write(source, {"public/index.html": page, "public/small.css": "a{}", "public/x/photo.png": "p" * 5000, "notes": ""})
    make = builder(spec(source, name="site", layout="static", command="", output="public"))
    manifest = make.build()["manifest"]
    assert set(manifest["files"]) == {"index.html", "index.html.br", "index.html.gz", "small.css", "x/photo.png"}
    app = unpacked(make, manifest, tmp_path / "host")
    assert gzip.decompress((app / "index.html.gz").read_bytes()).decode() == page
    show = "process.stdout.write(zlib.brotliDecompressSync(fs.readFileSync('index.html.br')))"
    assert node(app, "-e", show) == page
    assert (app / "index.html.br").stat().st_size < (app / "index.html.gz").stat().st_size


def test_what_the_project_compressed_itself_is_kept(tmp_path: Path, builder: Make) -> None:
    source = tmp_path / "site"
    write(source, {"public/index.html": "<h1>hello</h1>" * 200, "public/index.html.br": "its own"})
    make = builder(spec(source, name="site", layout="static", command="", output="public"))
    app = unpacked(make, make.build()["manifest"], tmp_path / "host")
    assert (app / "index.html.br").read_text() == "its own" and (app / "index.html.gz").exists()


def test_compressing_twice_gives_the_same_bytes(tmp_path: Path, builder: Make) -> None:
    source = tmp_path / "site"
    write(source, {"public/index.html": "<h1>hello</h1>" * 200, "public/a.js": "let a = 1;\n" * 900})
    make = builder(spec(source, name="site", layout="static", command="", output="public"))
    first = make.build()["manifest"]
    shutil.rmtree(make.store.folder)
    second = make.build()["manifest"]
    assert "a.js.br" in first["files"]
    assert (first["id"], first["archive_sha256"]) == (second["id"], second["archive_sha256"])


def test_times_follow_from_content(tmp_path: Path, builder: Make) -> None:
    """nginx makes ETags of time and size: other content must get another time, the same content the same."""
    source = tmp_path / "site"
    times = []
    for number in (1, 2, 1):
        write(source, {"public/index.html": f"page {number}", "public/same.html": "same"})
        make = builder(spec(source, name="site", layout="static", command="", output="public"))
        app = unpacked(make, make.build()["manifest"], tmp_path / f"host{len(times)}")
        times.append(((app / "index.html").stat().st_mtime, (app / "same.html").stat().st_mtime))
    assert times[0] == times[2]
    assert times[0][0] != times[1][0]
    assert times[0][1] == times[1][1]


def test_a_relay_that_is_one_script(tmp_path: Path, builder: Make) -> None:
    source = tmp_path / "relay"
    write(
        source,
        {
            "package.json": {"name": "relay", "version": "1.0.0", "dependencies": {"needs-old": "1.0.0"}},
            "server.js": "console.log(require('needs-old').join(' '));\n",
            ".npmrc": "fund=false\n",
            "data/.env.local": "SECRET=1",
        },
    )
    write_lock(source, {"node_modules/needs-old": "1.0.0", "node_modules/leaf": "1.0.0"})
    make = builder(spec(source, command=None, script_required=False, output=".", start=("node", "server.js")))
    manifest = make.build()["manifest"]
    assert not [name for name in manifest["files"] if "npmrc" in name or "env" in name], "credentials went along"
    app = unpacked(make, manifest, tmp_path / "host")
    assert node(app, "server.js") == "needs-old@1.0.0 leaf@1.0.0"


KEY = "-----BEGIN {}PRIVATE KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n" * 3


def relay(source: Path, **other: Any) -> Spec:
    """A project of which everything is packed, with files of all sorts."""
    about = {"name": "relay", "version": "1.0.0"}
    write(source, {"package.json": about, "server.js": "1;\n"})
    write_lock(source, {})
    return spec(source, command=None, script_required=False, output=".", start=("node", "server.js"), **other)


@pytest.mark.parametrize(
    "name, content",
    [
        ("id_rsa", "x"), ("keys/id_ed25519", "x"), ("tls/server.pem", KEY.format("")), ("a/b.txt", KEY.format("RSA ")),
        ("config.json", json.dumps({"key": KEY.format("EC ")})), (".aws/credentials", "x"), (".netrc", "x"),
        ("infra/terraform.tfstate", "{}"), ("infra/prod.tfvars", "x"), ("release.keystore", "x"), ("c.p12", "x"),
        (".docker/config.json", "{}"), (".git-credentials", "x"),
    ],
)  # fmt: skip
def test_what_looks_like_a_credential_is_refused_by_its_path(
    tmp_path: Path, builder: Make, name: str, content: str
) -> None:
    source = tmp_path / "relay"
    write(source, {name: content})
    with pytest.raises(BuildError) as error:
        builder(relay(source)).build()
    said = str(error.value)
    assert name in said and f"build.exclude: [{name}]" in said
    assert "MIIE" not in said and not list((tmp_path / "artifacts").rglob("*.tar.gz"))
    folder = name.partition("/")[0]
    assert name not in builder(relay(source, exclude=(folder,))).build()["manifest"]["files"]
    assert name in builder(relay(source, include=(name,))).build()["manifest"]["files"]


LETTERS = "ZQ7X2M9K4T8B5N3C6V1W" * 3


@pytest.mark.parametrize(
    "kind, text",
    [
        ("AWS Access Key", "key: 'AKIA" + LETTERS[:16] + "'"),
        ("AWS Access Key", f"AWS_SECRET_ACCESS_KEY = '{LETTERS[:40]}'"),
        ("GitHub Token", "ghp_" + LETTERS[:36]),
        ("GitLab Token", "glpat-" + LETTERS[:20]),
        ("NPM tokens", "//registry.example.com/:_authToken=npm_" + LETTERS[:36]),
        ("Slack Token", f"xoxb-123456789012-{LETTERS[:24].lower()}"),
        ("Stripe Access Key", "sk_live_" + LETTERS[:24]),
        ("SendGrid API Key", f"SG.{LETTERS[:22]}.{LETTERS[:43]}"),
        ("OpenAI Token", f"sk-{LETTERS[:20]}T3BlbkFJ{LETTERS[:20]}"),
        ("Twilio API Key", "AC" + LETTERS[:32].lower()),
        ("Azure Storage Account access key", f"AccountKey={LETTERS * 2}"[:97] + "=="),
    ],
)
def test_what_has_the_form_of_a_token_is_refused(kind: str, text: str) -> None:
    files: dict[str, Path | bytes] = {
        "dist/main.js": f"a = 1;{text}\n".encode(),
        "node_modules/a/test.js": text.encode(),
    }
    assert keep_out(files, [], []) == ([], {"dist/main.js": kind})


@pytest.mark.parametrize(
    "text",
    [
        "AKIA" + "IOSFODNN7EXAMPLE",
        f"data:application/wasm;base64,AGFzbQ{LETTERS}ABIA{LETTERS}AC{LETTERS.lower()}Af==",
        "const password = 'changeme', apiKey = process.env.API_KEY;",
        "https://user:password@example.com",
        "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiJ9.c2lnbmF0dXJl",
        "0123456789abcdef" * 8,
    ],
)
def test_what_only_resembles_a_token_is_packed(text: str) -> None:
    assert keep_out(
        {"dist/main.js": text.encode(), "dist/logo.png": b"\x89PNG\0AKIA" + LETTERS[:16].encode()}, [], []
    ) == (
        [],
        {},
    )


def test_packages_are_searched_by_name() -> None:
    files: dict[str, Path | bytes] = {"node_modules/a/id_rsa": b"x", "node_modules/a/.env": b"A=1"}
    assert keep_out(files, [], []) == ([], {"node_modules/a/id_rsa": "its name"})


def test_a_secret_of_the_build_is_in_no_artifact(project: Path, builder: Make) -> None:
    command = "mkdir -p dist/a; echo x$TOKEN > dist/a/config.js"
    make = builder(spec(project, command=command, include=("dist",)), secrets={"TOKEN": "s3cret-of-the-build"})
    with pytest.raises(BuildError, match=r"dist/a/config\.js \(a secret of build\.secrets\)") as error:
        make.build()
    assert "s3cret" not in str(error.value)


def git_add(folder: Path) -> None:
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    subprocess.run(["git", "-C", str(folder), "add", "-A"], check=True)


def test_of_a_whole_source_only_what_git_tracks_is_packed(tmp_path: Path, builder: Make) -> None:
    source = tmp_path / "relay"
    of = relay(source, include=("made",))
    write(source, {"lib/a.js": "1;\n", ".gitignore": "made\nscratch\n"})
    git_add(source)
    write(source, {"notes.txt": "a password", "dump/users.sql": "x", "lib/b.js": "2;\n"})
    command = "mkdir made scratch; echo 1 > made/a.js; echo 1 > scratch/b.js"
    make = builder(dataclasses.replace(of, command=command))
    manifest = make.build()["manifest"]
    assert set(manifest["files"]) == {
        "package.json", "package-lock.json", "server.js", "lib/a.js", ".gitignore", "made/a.js",
    }  # fmt: skip
    assert manifest["left_out"] == ["dump", "lib/b.js", "notes.txt", "scratch"]
    git_add(source)
    again = make.build()["manifest"]
    assert {"notes.txt", "lib/b.js"} <= again["files"].keys(), "a file that git tracks now is missing"
    subprocess.run(["git", "-C", str(source), "rm", "-q", "--cached", "server.js"], check=True)
    with pytest.raises(BuildError, match=r"git does not track server\.js, .* build\.include"):
        make.build()


def test_what_only_resembles_one_is_packed(tmp_path: Path, builder: Make) -> None:
    source = tmp_path / "relay"
    harmless = {
        "rds-bundle.pem": "-----BEGIN CERTIFICATE-----\nMIIE\n",
        "id_rsa.pub": "ssh-rsa AAAA",
        "read.js": f"if (pem.startsWith('{KEY.format('').splitlines()[0]}\\n')) parse(pem);\n",
        ".env.example": "PASSWORD=\n",
        "environment.ts": "1;",
    }
    write(source, harmless)
    assert harmless.keys() <= builder(relay(source)).build()["manifest"]["files"].keys()


def test_environment_files_are_left_out_and_named(tmp_path: Path, builder: Make) -> None:
    source = tmp_path / "relay"
    write(source, {".env": "A=1", ".env.production": "A=2", "app/.env.local": "A=3"})
    manifest = builder(relay(source)).build()["manifest"]
    assert manifest["left_out"] == [".env", ".env.production", "app/.env.local"]
    assert not [name for name in manifest["files"] if "env" in name]
    manifest = builder(relay(source, include=(".env.production",))).build()["manifest"]
    assert ".env.production" in manifest["files"] and ".env" not in manifest["files"]


def test_what_is_to_be_included_must_be_there(project: Path, builder: Make) -> None:
    write(project, {"mails/welcome.html": "<p>", "mails/node_modules/x.js": "1;"})
    manifest = builder(spec(project, include=("mails",))).build()["manifest"]
    assert "mails/welcome.html" in manifest["files"] and "mails/node_modules/x.js" not in manifest["files"]
    with pytest.raises(BuildError, match=r"build\.include names nothing, which is not in"):
        builder(spec(project, include=("nothing",))).build()


def test_migrations_have_their_files(project: Path, builder: Make, tmp_path: Path) -> None:
    write(project, {"schema/tables.sql": "select 1;"})
    migrate = ("node_modules/.bin/framework", "up", "--from", "schema/tables.sql")
    wrong = spec(project, migrate=migrate)
    assert "schema/tables.sql" in refused(builder(wrong))
    make = builder(dataclasses.replace(wrong, include=("schema",)))
    app = unpacked(make, make.build()["manifest"], tmp_path / "host")
    assert (app / "schema/tables.sql").is_file()
    assert node(app, *migrate) == "framework"

    # An artifact that is built already is checked as well.
    with pytest.raises(BuildError, match=r"migrations of api is 'node schema/list\.js', but the build did not create"):
        builder(dataclasses.replace(make.spec, migrations=("node", "schema/list.js"))).build()


PACKED = {"package.json", "dist/main.js", "node_modules/.bin/prisma", "node_modules/.bin/knex"}


@pytest.mark.parametrize(
    ("migrate", "files", "packed", "told"),
    [
        ("npx prisma migrate deploy", {"prisma/schema.prisma": ""}, (), "which reads prisma/schema.prisma, but"),
        (
            "node node_modules/prisma/build/index.js migrate deploy",
            {"prisma.config.ts": "", "prisma/schema.prisma": ""},
            ("node_modules/prisma/build/index.js", "prisma/schema.prisma"),
            "which reads prisma.config.ts",
        ),
        (
            "node_modules/.bin/prisma migrate deploy",
            {"package.json": '{"prisma": {"schema": "db/a.prisma"}}', "db/a.prisma": ""},
            (),
            "which reads db/a.prisma",
        ),
        (
            "node_modules/.bin/prisma migrate deploy",
            {"prisma/migrations/1_a/migration.sql": ""},
            (),
            "1_a/migration.sql",
        ),
        ("node_modules/.bin/knex migrate:latest", {"knexfile.js": ""}, (), "which reads knexfile.js"),
        # Named by the command, whatever the source has.
        ("node_modules/.bin/knex migrate:latest --cwd dist", {"knexfile.ts": ""}, (), ""),
        ("npx --no prisma migrate deploy --schema=dist/a.prisma", {"schema.prisma": ""}, ("dist/a.prisma",), ""),
        ("npx prisma migrate deploy", {"prisma/schema.prisma": ""}, ("prisma/schema.prisma",), ""),
        ("npx drizzle-kit migrate", {}, (), "does not have node_modules/.bin/drizzle-kit"),
        ("pnpm prisma migrate deploy", {}, (), "hosts have no pnpm. Write what it starts"),
        ("npm run migrate", {}, (), ""),
    ],
)
def test_what_a_tool_for_migrations_reads_is_in_the_artifact(
    tmp_path: Path, migrate: str, files: dict[str, Any], packed: tuple[str, ...], told: str
) -> None:
    write(tmp_path, files)
    of = spec(tmp_path, migrate=tuple(migrate.split()))
    if told:
        with pytest.raises(BuildError) as error:
            check_commands(of, {*PACKED, *packed}, (), (tmp_path,))
        assert f"migrate of api is '{migrate}', " in str(error.value) and told in str(error.value)
    else:
        check_commands(of, {*PACKED, *packed}, (), (tmp_path,))


FAKE_NEXT = """
const fs = require("fs");
const write = (name, text) => {
  fs.mkdirSync(require("path").dirname(name), { recursive: true });
  fs.writeFileSync(name, text);
};
const inner = process.argv[2] ? process.argv[2] + "/" : "";
const out = ".next/standalone/" + inner;
write(out + "server.js", 'console.log(require("leaf")[0], require("deep").join(" "));');
write(out + "package.json", "{}");
write(out + ".next/server/page.js", 'module.exports = require("leaf-0123");');
write(".next/static/chunks/a.js", "x".repeat(3000));
write(".next/cache/big", "cache");
write("public/robots.txt", "User-agent: *");
const root = inner ? "../../node_modules" : "node_modules";
for (const name of ["leaf", "deep", "needs-old", "needs-new"]) {
  fs.cpSync(root + "/" + name, ".next/standalone/node_modules/" + name, { recursive: true });
  if (inner && fs.existsSync("node_modules/" + name)) {
    fs.cpSync("node_modules/" + name, out + "node_modules/" + name, { recursive: true });
  }
}
fs.mkdirSync(out + ".next/node_modules", { recursive: true });
const up = inner ? "../../../../node_modules/leaf" : "../../node_modules/leaf";
fs.symlinkSync(up, out + ".next/node_modules/leaf-0123");
"""

NEXT = {
    "name": "site",
    "version": "1.0.0",
    "scripts": {"build": "node build.js"},
    "dependencies": {"deep": "1.0.0", "leaf": "2.0.0"},
}


@pytest.mark.parametrize(
    "config, exports",
    [
        ("module.exports = {output: 'export'};", "out"), ('export default {\n  "output": "export",\n}', "out"),
        ("module.exports = {output: 'export', distDir: './site'};", "site"),
        ("module.exports = {\n  // output: 'export',\n}", ""), ("module.exports = {output: 'standalone'}", ""),
    ],
)  # fmt: skip
def test_a_nextjs_project_that_becomes_files_is_told_its_kind(
    tmp_path: Path, builder: Make, config: str, exports: str
) -> None:
    source, command = tmp_path / "site", "mkdir -p out .next; echo 1 > out/index.html; echo 1 > .next/BUILD_ID"
    write(source, {"next.config.js": config, "package.json": {"name": "site", "version": "1.0.0"}})
    for standalone in (True, False):
        how = {"lockfile": "optional", "standalone": standalone, "exported": "build: {output: out}"}
        make = builder(spec(source, layout="next", command=command, output=".next", **how))
        if exports:
            assert "next.config.js says output: 'export'" in (text := refused(make))
            assert f"build: {{output: {exports}}}" in text
        elif standalone:
            assert "Add output: 'standalone'" in refused(make)
        else:
            make.build()


def test_nextjs_standalone(tmp_path: Path, builder: Make) -> None:
    source = tmp_path / "site"
    write(source, {"package.json": NEXT, "build.js": FAKE_NEXT})
    write_lock(source, DEEP)
    make = builder(spec(source, layout="next", command="node build.js", output=".next", start=("node", "server.js")))
    manifest = make.build()["manifest"]
    app = unpacked(make, manifest, tmp_path / "host")
    assert node(app, "server.js").startswith("leaf@2.0.0 deep@1.0.0 needs-old@1.0.0 leaf@1.0.0")
    assert node(app, "-p", "require('./.next/server/page.js')[0]") == "leaf@2.0.0"
    chunk = ".next/static/chunks/a.js"
    assert {"public/robots.txt", chunk, f"{chunk}.gz", f"{chunk}.br"} <= set(manifest["files"])
    assert not [name for name in manifest["files"] if "cache" in name or "standalone" in name]


def test_nextjs_standalone_in_a_monorepo(tmp_path: Path, builder: Make) -> None:
    """The output nests, and the application has another version of a package than the others."""
    root = tmp_path / "mono"
    write(
        root,
        {
            "package.json": {
                "name": "mono",
                "private": True,
                "workspaces": ["apps/*"],
                "dependencies": {"leaf": "1.0.0"},
            },
            "apps/site/package.json": {**NEXT, "scripts": {"build": "node build.js apps/site"}},
            "apps/site/build.js": FAKE_NEXT,
        },
    )
    nested = {f"apps/site/{key}" if key.endswith("/leaf") else key: version for key, version in DEEP.items()}
    del nested["apps/site/node_modules/needs-old/node_modules/leaf"]
    nested.update({"node_modules/leaf": "1.0.0", "node_modules/needs-new/node_modules/leaf": "2.0.0"})
    write_lock(root, nested, ("apps/site",))
    make = builder(
        spec(
            root / "apps/site",
            root=root,
            layout="next",
            command="node build.js apps/site",
            output=".next",
            start=("node", "server.js"),
        )
    )
    app = unpacked(make, make.build()["manifest"], tmp_path / "host")
    expected = "leaf@2.0.0 deep@1.0.0 needs-old@1.0.0 leaf@1.0.0 needs-new@1.0.0 leaf@2.0.0"
    assert node(app, "server.js") == expected
    # The link that the build made leads to the package at the root, which has moved.
    assert node(app, "-p", "require('./.next/server/page.js')[0]") == "leaf@1.0.0"
    assert (app / "public/robots.txt").exists()
    assert (app / ".next/static/chunks/a.js").exists()
    assert not (app / "apps").exists()


def test_nextjs_without_standalone_output(tmp_path: Path, builder: Make) -> None:
    source = tmp_path / "site"
    write(source, {"package.json": NEXT, "build.js": FAKE_NEXT, "next.config.mjs": "export default {};\n"})
    write_lock(source, DEEP)
    make = builder(spec(source, layout="next", command="node build.js", output=".next", standalone=False))
    files = set(make.build()["manifest"]["files"])
    wanted = {"next.config.mjs", "package.json", "public/robots.txt", "node_modules/leaf/index.js"}
    assert wanted | {".next/static/chunks/a.js"} <= files
    assert not [name for name in files if "/cache/" in name or "standalone" in name]


MONOREPO = {
    "package.json": {"name": "mono", "private": True, "workspaces": ["packages/*"]},
    "tsconfig.base.json": {},
    "packages/api/package.json": {
        "name": "@mono/api",
        "version": "1.0.0",
        "scripts": {"build": "compile"},
        "dependencies": {"@mono/lib": "1.0.0", "leaf": "2.0.0"},
        "devDependencies": {"compiler": "1.0.0"},
    },
    "packages/api/src/main.js": 'console.log(require("leaf")[0], require("@mono/lib").join(" "));\n',
    "packages/lib/package.json": {
        "name": "@mono/lib",
        "version": "1.0.0",
        "main": "index.js",
        "dependencies": {"needs-old": "1.0.0", "leaf": "1.0.0"},
    },
    "packages/lib/index.js": 'module.exports = ["lib", ...require("leaf"), ...require("needs-old")];\n',
    "packages/web/package.json": {"name": "@mono/web", "version": "1.0.0", "dependencies": {"@scope/tool": "1.0.0"}},
    "packages/web/index.js": "1",
}


@pytest.fixture
def monorepo(tmp_path: Path) -> Path:
    root = tmp_path / "mono"
    write(root, MONOREPO)
    packages = {
        **COMPILER,
        "node_modules/leaf": "1.0.0",
        "node_modules/needs-old": "1.0.0",
        "packages/api/node_modules/leaf": "2.0.0",
        "node_modules/@scope/tool": "1.0.0",
        "node_modules/@scope/tool/node_modules/leaf": "2.0.0",
    }
    write_lock(root, packages, ("packages/api", "packages/lib", "packages/web"))
    return root


def test_a_package_of_a_monorepo(monorepo: Path, builder: Make, tmp_path: Path) -> None:
    api = spec(monorepo / "packages/api", root=monorepo, start=("node", "dist/main.js"))
    make = builder(api)
    before = tree_of(monorepo)
    manifest = make.build()["manifest"]
    assert tree_of(monorepo) == before
    app = unpacked(make, manifest, tmp_path / "host")
    assert node(app, "dist/main.js") == "leaf@2.0.0 lib leaf@1.0.0 needs-old@1.0.0 leaf@1.0.0"
    assert not (app / "node_modules/@mono/lib").is_symlink(), "links to workspaces must become files"
    assert not (app / "node_modules/@scope").exists(), "packages of another workspace went along"
    assert not manifest["links"] or all(".bin/" in name for name in manifest["links"])

    write(monorepo, {"packages/web/index.js": "2"})
    assert builder(api).plan()["id"] == manifest["id"], "another package changed the id"
    write(monorepo, {"packages/lib/index.js": 'module.exports = ["new"];\n'})
    assert builder(api).plan()["id"] != manifest["id"]


def test_what_a_task_runner_builds_first_goes_along(monorepo: Path, builder: Make) -> None:
    command = "compile && cd ../lib && mkdir dist .turbo && echo 1 > dist/made.js && date > .turbo/turbo-build.log"
    manifest = builder(spec(monorepo / "packages/api", root=monorepo, command=command)).build()["manifest"]
    of_lib = {name for name in manifest["files"] if name.startswith("node_modules/@mono/lib/")}
    assert "node_modules/@mono/lib/dist/made.js" in of_lib and not [name for name in of_lib if ".turbo" in name]


def test_a_folder_that_is_no_workspace(monorepo: Path, builder: Make) -> None:
    write(monorepo, {"tools/x/package.json": {"name": "x", "scripts": {"build": "true"}}})
    text = refused(builder(spec(monorepo / "tools/x", root=monorepo)))
    assert "tools/x is not a workspace of" in text
