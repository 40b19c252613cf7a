# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The tools of the workflow, without the workflow."""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import CHANGED, ROOT, Checkout, catalogue

TOOLS = sorted(path for path in (ROOT / "tools/ci").iterdir() if path.is_file())


# --- which services changed ------------------------------------------------------

WORKSPACES = ("api", "pages", "shared", "theme")
LOCK = {
    "packages": {
        "": {"workspaces": ["packages/*"]},
        "packages/api": {"dependencies": {"shared": "*"}},
        "packages/pages": {"dependencies": {"shared": "*", "theme": "*"}},
        "packages/shared": {},
        "packages/theme": {},
        **{f"node_modules/{name}": {"resolved": f"packages/{name}", "link": True} for name in WORKSPACES},
    }
}
MONOREPO = {"api": "packages/api", "pages": "packages/pages"}


@pytest.fixture
def history(checkout: Checkout) -> Checkout:
    """A monorepo of two services, a service of its own, and one in another repository; one commit."""
    builds: dict[str, Any] = {
        name: {"source": f"../mono/{folder}", "workspace": "../.."} for name, folder in MONOREPO.items()
    }
    builds["relay"] = {"source": "../relay"}
    packages = {f"mono/packages/{name}/index.js": "" for name in WORKSPACES}
    checkout.commit(
        {
            "inventories/services.yml": catalogue(**builds),
            "mono/package-lock.json": LOCK,
            "mono/package.json": {"workspaces": ["packages/*"]},
            "relay/server.js": "",
            "relay-old/server.js": "",
            **packages,
        }
    )
    return checkout


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ({}, []),
        ({"relay/server.js": "1"}, ["relay"]),
        ({"relay/deep/new.js": ""}, ["relay"]),
        ({"relay/server.js": None, "elsewhere.js": ""}, ["relay"]),
        ({"mono/packages/api/index.js": "1"}, ["api"]),
        # What they share concerns both, and a package that one does not use concerns the other alone.
        ({"mono/packages/shared/index.js": "1"}, ["api", "pages"]),
        ({"mono/packages/theme/index.js": "1"}, ["pages"]),
        ({"mono/packages/theme/package.json": {}}, ["api", "pages"]),
        ({"mono/package.json": {"private": True}}, ["api", "pages"]),
        ({"mono/packages/api/a.js": "", "relay/b.js": ""}, ["api", "relay"]),
        ({"docs/a.md": "", "relay-old/server.js": "1", "monolith.js": ""}, []),
        ({"mono/package-lock.json": "not JSON", "mono/packages/theme/index.js": "1"}, ["api", "pages"]),
    ],
)
def test_what_changed_between_two_commits(history: Checkout, files: dict[str, Any], names: list[str]) -> None:
    history.commit(files)
    assert history.changed("HEAD~1") == names


def test_only_the_two_commits_matter(history: Checkout) -> None:
    head = history.commit({"mono/packages/theme/index.js": "1"})
    history.commit({"relay/later.js": "", "mono/package.json": "x"})
    history.write({"relay/dirty.js": "", "inventories/services.yml": "services: {}"})
    assert history.changed("HEAD~2", head) == history.changed(head, "HEAD~2") == ["pages"]


def test_a_file_that_moved_changed_both_places(history: Checkout) -> None:
    history.run("git", "mv", "mono/packages/theme/index.js", "relay/theme.js")
    history.commit({})
    assert history.changed("HEAD~1") == ["pages", "relay"]


def test_the_catalogue_concerns_all_but_for_its_journeys_and_comments(history: Checkout) -> None:
    path = "inventories/services.yml"
    before = (history.path / path).read_text()
    content = yaml.safe_load(before)
    history.commit({path: f"# A comment.\n{before}", "relay/server.js": "1"})
    assert history.changed("HEAD~1") == ["relay"]
    history.commit({path: {**content, "journeys": [{"name": "walk", "steps": []}]}})
    assert history.changed("HEAD~1") == []
    content["services"]["relay"]["drain"] = 3
    history.commit({path: content})
    assert history.changed("HEAD~1") == ["api", "pages", "relay"]


def test_without_a_commit_to_compare_with_all_count_as_changed(history: Checkout) -> None:
    for base in ("", "0" * 40, "no-such-branch", "HEAD~99", "--all"):
        assert history.changed(base) == ["api", "pages", "relay"]
    done = history.run("tools/ci/changed_services", "")
    assert done.stdout == "api\npages\nrelay\n"
    assert "there is no commit to compare with" in done.stderr


def test_a_base_without_a_catalogue_that_can_be_read_counts_as_all(history: Checkout) -> None:
    good = (history.path / "inventories/services.yml").read_text()
    for bad in (None, "services: [", "just text"):
        history.commit({"inventories/services.yml": bad})
        history.commit({"inventories/services.yml": good})
        assert history.changed("HEAD~1") == ["api", "pages", "relay"]


def test_what_is_in_another_repository_cannot_be_told(checkout: Checkout) -> None:
    away = catalogue(away={"source": "../../away"}, here={"source": "../here"}, none={})
    checkout.commit({"inventories/services.yml": away})
    checkout.commit({})
    assert checkout.changed("HEAD~1") == ["away"]


def test_a_submodule_counts_as_its_service(checkout: Checkout, tmp_path: Path) -> None:
    other = Checkout(tmp_path / "other")
    other.path.mkdir()
    other.run("git", "init", "--quiet")
    other.commit({"server.js": ""})
    checkout.run("git", "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other.path), "app")
    checkout.commit({"inventories/services.yml": catalogue(app={"source": "../app"}, none={"source": "../none"})})
    commit = other.commit({"server.js": "1"})
    checkout.run("git", "-C", "app", "pull", "--quiet")
    checkout.commit({})
    assert commit in checkout.run("git", "submodule", "status").stdout
    assert checkout.changed("HEAD~1") == ["app"]


def test_services_may_be_named(history: Checkout) -> None:
    assert history.run("tools/ci/changed_services", "--only", "relay, api,relay").stdout == "relay\napi\n"
    assert history.run("tools/ci/changed_services", "--only", " ", "HEAD").stdout == ""
    done = history.run("tools/ci/changed_services", "--only", "api,x release=y", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "x release=y: no such service is built. Those are: api, pages, relay." in done.stderr


def test_a_broken_catalogue_is_named_with_its_line(checkout: Checkout) -> None:
    checkout.commit({"inventories/services.yml": "services:\n  a: {}\n  a: {}\n"})
    done = checkout.run("tools/ci/changed_services", "HEAD", check=False)
    assert done.returncode == 1
    assert "inventories/services.yml is not valid YAML" in done.stderr and "line 3" in done.stderr


# --- what is handed on -----------------------------------------------------------


@pytest.mark.parametrize("name", ["../../else/0123456789abcdef", "0123456789ABCDEF", None])
def test_an_artifact_is_handed_on_by_what_can_be_its_id_only(tmp_path: Path, name: str | None) -> None:
    """Whatever else is complete, and would be copied."""
    store = tmp_path / ".artifacts/api"
    store.mkdir(parents=True)
    archive = (store / f"{name}.tar.gz").resolve()
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.write_bytes(b"x")
    manifest = json.dumps({"id": name, "archive_sha256": hashlib.sha256(b"x").hexdigest(), "archive_size": 1})
    archive.with_name(archive.name.replace(".tar.gz", ".json")).write_text(manifest)
    (store / "latest.json").write_text(manifest)
    command = [str(ROOT / "tools/ci/newest_artifacts"), ".artifacts", "newest"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and f"artifact '{name}' is missing or damaged. Build it again." in done.stderr
    assert not (tmp_path / "newest").exists()


# --- tests of applications -------------------------------------------------------


def package(test: str | None) -> dict[str, Any]:
    return {"name": "x", "version": "1.0.0", "private": True, "scripts": {"test": test} if test else {}}


def test_each_application_s_own_tests_run(checkout: Checkout) -> None:
    folders = {name: {"source": f"../{name}"} for name in ("good", "bad", "none", "plain", "last")}
    checkout.commit(
        {
            "inventories/services.yml": catalogue(**folders),
            "good/package.json": package("readlink $(command -v node) > program && env > seen && ls -A ../.. > around"),
            "bad/package.json": package("exit 3"),
            "none/package.json": package(None),
            "plain/server.js": "",
            "last/package.json": package("echo the last one ran"),
        }
    )
    # A runtime that a build has fetched goes before the one on PATH.
    runtime = checkout.path / ".cache/node/24.99.0/bin/node"
    runtime.parent.mkdir(parents=True)
    runtime.symlink_to(checkout.run("node", "-p", "process.execPath").stdout.strip())
    done = checkout.run(
        "tools/ci/test_services", *folders, check=False, AWS_SECRET_ACCESS_KEY="x", GITHUB_PATH="x", PATH_KEPT="x"
    )
    assert done.returncode == 1
    assert "bad: 'npm test' failed with status 3 in " in done.stderr.splitlines()[-1]
    assert "none: its package.json has no test" in done.stdout and "plain: its package.json" in done.stdout
    assert "the last one ran" in done.stdout, "a failure does not stop the others"
    copy = checkout.path / ".cache/build/good/tree"
    assert (copy / "program").read_text().strip() == str(runtime.resolve())
    seen = (copy / "seen").read_text()
    assert "CI=true" in seen and "AWS_" not in seen and "GITHUB_" not in seen and "PATH_KEPT" not in seen
    around = (copy / "around").read_text().split()
    assert around == ["good"], "tests see more of this machine than their project"
    assert checkout.run("tools/ci/test_services", "good", "none").returncode == 0
    assert checkout.run("tools/ci/test_services").returncode == 0


def test_packages_are_installed_before_the_tests(checkout: Checkout) -> None:
    """A monorepo is installed at its root; npm says so by the links that it makes there."""
    lock = {"name": "mono", "lockfileVersion": 3, "requires": True, **LOCK}
    files = {f"mono/packages/{name}/package.json": package(None) | {"name": name} for name in WORKSPACES}
    files |= {"mono/package.json": {"name": "mono", "workspaces": ["packages/*"]}, "mono/package-lock.json": lock}
    for name in MONOREPO:
        files[f"mono/packages/{name}/package.json"] = {
            **package("node -e \"require.resolve('shared/package.json')\""),
            "name": name,
            "dependencies": lock["packages"][f"packages/{name}"]["dependencies"],
        }
    for name in WORKSPACES:
        lock["packages"][f"packages/{name}"] = {"version": "1.0.0", **lock["packages"][f"packages/{name}"]}
    builds = {name: {"source": f"../mono/{folder}", "workspace": "../.."} for name, folder in MONOREPO.items()}
    checkout.commit({"inventories/services.yml": catalogue(**builds), **files})
    done = checkout.run("tools/ci/test_services", *MONOREPO)
    assert done.stdout.count("$ 'npm ci") == len(MONOREPO) and done.stdout.count("$ 'npm test'") == len(MONOREPO)


def test_a_runtime_that_is_not_here_is_named(checkout: Checkout) -> None:
    content = catalogue(old={"source": "../old"})
    content["services"]["old"]["node"] = "16"
    checkout.commit({"inventories/services.yml": content, "old/package.json": package("exit 0")})
    done = checkout.run("tools/ci/test_services", "old", check=False)
    assert done.returncode == 1 and "old: No Node.js 16" in done.stderr


# --- reports -----------------------------------------------------------------------


def report(outcome: str, started: str, **changes: Any) -> dict[str, Any]:
    return {
        "deployment": f"d-{started}",
        "environment": "staging",
        "by": "ci",
        "started": started,
        "seconds": 12.5,
        "outcome": outcome,
        "message": "",
        "services": {"api": {"from": "1111", "to": "2222", "hosts": ["api-1"]}},
        "steps": [],
        "probe": None,
        "budget": {},
        "over_budget": [],
        **changes,
    }


def test_reports_are_shown_oldest_first(tmp_path: Path) -> None:
    def run(*words: str) -> str:
        command = [str(ROOT / "tools/ci/report"), *words, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert run("--outcome") == "none\n"
    assert "Nothing was deployed" in run()
    (tmp_path / "z.json").write_text(json.dumps(report("committed", "2026-01-01T10:00:00Z")))
    assert run("--outcome") == "committed\n"
    message = "api on api-1: </pre><script>&\n```"
    (tmp_path / "a.json").write_text(json.dumps(report("taken back", "2026-01-01T11:00:00Z", message=message)))
    (tmp_path / "a.html").write_text("")
    assert run("--outcome") == "taken back\n"
    text = run()
    assert text.index("COMMITTED") < text.index("TAKEN BACK")
    assert text.count("<pre>") == text.count("</pre>") == 2 and "<script>" not in text and "&amp;" in text
    assert "api-1" in text and "2222" in text


# --- the connection ----------------------------------------------------------------


def connect(home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "tools/ci/connect")],
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_ssh_gets_a_key_of_the_run_and_what_the_environment_states(tmp_path: Path) -> None:
    config = "Host *\n  ProxyCommand sh -c 'exec aws --target %h \"a b\"'\n  IdentityFile ~/.ssh/deployment"
    for _time in range(2):
        done = connect(tmp_path, SSH_CONFIG=config, SSH_KNOWN_HOSTS="10.0.0.1 ssh-ed25519 AAAA")
        assert done.returncode == 0 and done.stdout == "", done.stderr
    folder = tmp_path / ".ssh"
    assert (folder / "config").read_text() == f"{config}\n"
    assert "10.0.0.1" in (folder / "known_hosts").read_text()
    assert (folder / "deployment.pub").read_text().startswith("ssh-ed25519 ")
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in (folder, folder / "deployment")} == {0}


def test_a_runner_that_reaches_the_hosts_by_itself_needs_nothing(tmp_path: Path) -> None:
    assert connect(tmp_path).returncode == 0
    assert not (tmp_path / ".ssh/config").exists()


def test_a_mistake_in_the_configuration_is_told(tmp_path: Path) -> None:
    done = connect(tmp_path, SSH_CONFIG="Hots *")
    assert done.returncode != 0 and "hots" in done.stderr.lower()


# --- as files --------------------------------------------------------------------------


@pytest.mark.parametrize("tool", TOOLS, ids=lambda path: path.name)
def test_tools_are_valid_and_can_be_run(tool: Path) -> None:
    first = tool.read_text().splitlines()[0]
    assert (tool.stat().st_mode & stat.S_IXUSR > 0) == first.startswith("#!")
    if "python" in first or tool.suffix == ".py":
        for words in (["check"], ["format", "--check"]):
            done = subprocess.run(["ruff", *words, str(tool)], cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
    else:
        assert subprocess.run([first[2:].split()[-1], "-n", str(tool)], check=False).returncode == 0


def test_files_that_look_like_a_repository_start_nothing(history: Checkout) -> None:
    """The catalogue's folder may hold a bare repository, whose settings name programs."""
    ran = history.path / "ran"
    settings = f'[core]\nrepositoryformatversion = 0\nbare = false\nworktree = .\nfsmonitor = "touch {ran}"\n'
    names = {"HEAD": "ref: refs/heads/main\n", "config": settings, "objects/a": "", "refs/heads/a": ""}
    history.write({f"inventories/{name}": text for name, text in names.items()})
    with pytest.raises(CHANGED.CatalogueError, match="bare repository"):
        history.changed("HEAD")
    assert not ran.exists()
