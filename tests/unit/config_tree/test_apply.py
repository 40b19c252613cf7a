# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Trees on a real file system: swapped, validated where they will be used, put back, and killed at every step."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.common import config_tree
from ansible_collections.fivepointers.platform.plugins.module_utils.common.config_tree import (
    Found,
    TreeError,
    apply_tree,
)

Spec = Callable[..., dict[str, Any]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with one file that was there before."""
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "main.conf").write_text("from the package\n")
    (folder / "main.conf").chmod(0o640)
    return folder


@pytest.fixture
def spec(root: Path, tmp_path: Path) -> Spec:
    """A spec for files given as path=content; each reload adds a line to a file."""

    def build(files: dict[str, Any], owner: str = "web", **more: Any) -> dict[str, Any]:
        entries = [
            {"path": path, **(content if isinstance(content, dict) else {"content": content})}
            for path, content in files.items()
        ]
        return {
            "root": str(root),
            "owner": owner,
            "files": entries,
            "reload": ["sh", "-c", f"cat {root}/*.conf > {tmp_path}/live; echo reload >> {tmp_path}/reloads"],
            "state_dir": str(tmp_path / "state"),
            **more,
        }

    return build


def tree(folder: Path) -> dict[str, tuple[str, int]]:
    """Return path -> (content, mode) of every file below a directory."""
    return {
        str(path.relative_to(folder)): (path.read_text(), path.stat().st_mode & 0o7777)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def reloads(tmp_path: Path) -> int:
    done = tmp_path / "reloads"
    return len(done.read_text().splitlines()) if done.exists() else 0


BEFORE = {"main.conf": ("from the package\n", 0o640)}
FILES = {"main.conf": "ours\n", "sites/a.conf": "a\n", "tls/key.pem": {"content": "secret\n", "sensitive": True}}
AFTER = {"main.conf": ("ours\n", 0o644), "sites/a.conf": ("a\n", 0o644), "tls/key.pem": ("secret\n", 0o600)}


def test_files_become_what_the_spec_says(root: Path, spec: Spec, tmp_path: Path) -> None:
    result = apply_tree(spec(FILES))
    assert tree(root) == AFTER
    assert result["changed"] and result["reloaded"]
    assert result["written"] == [str(root / name) for name in sorted(AFTER)]
    assert reloads(tmp_path) == 1
    assert (root / "sites").stat().st_mode & 0o7777 == 0o755
    assert sorted(os.listdir(tmp_path / "state")) == [".lock", "originals", "web.json"]
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_a_second_run_does_nothing(root: Path, spec: Spec, tmp_path: Path) -> None:
    apply_tree(spec(FILES, validate=["true"]))
    before = {path: path.stat() for path in tmp_path.rglob("*")}
    result = apply_tree(spec(FILES, validate=["false"]))
    assert not result["changed"] and not result["validated"] and not result["reloaded"] and result["diff"] == []
    assert reloads(tmp_path) == 1
    after = {path: path.stat() for path in tmp_path.rglob("*")}
    assert {path: (info.st_mtime_ns, info.st_ino) for path, info in before.items() if path.name != ".lock"} == {
        path: (info.st_mtime_ns, info.st_ino) for path, info in after.items() if path.name != ".lock"
    }


def test_what_an_owner_gives_up_is_removed_and_what_was_there_comes_back(root: Path, spec: Spec) -> None:
    apply_tree(spec(FILES))
    (root / "sites" / "of-another.conf").write_text("not ours\n")
    result = apply_tree(spec({}))
    assert tree(root) == {**BEFORE, "sites/of-another.conf": ("not ours\n", 0o644)}
    assert result["removed"] == [str(root / name) for name in sorted(AFTER)]
    assert not apply_tree(spec({}))["changed"]


def test_what_is_changed_by_hand_is_put_right(root: Path, spec: Spec) -> None:
    apply_tree(spec(FILES))
    (root / "main.conf").write_text("by hand\n")
    (root / "sites" / "a.conf").unlink()
    (root / "tls" / "key.pem").chmod(0o644)
    assert len(apply_tree(spec(FILES))["written"]) == 3
    assert tree(root) == AFTER


def test_a_kept_file_stays_and_a_given_up_one_goes(root: Path, spec: Spec) -> None:
    apply_tree(spec({"a.conf": "a\n", "b.conf": "b\n"}))
    assert not apply_tree(spec({"a.conf": "a\n"}, keep=["b.conf"]))["changed"]
    apply_tree(spec({"a.conf": "a\n"}))
    assert not (root / "b.conf").exists()


def test_several_owners_change_under_one_reload(root: Path, spec: Spec, tmp_path: Path) -> None:
    several = spec({})
    del several["owner"], several["files"]
    several["trees"] = {name: [{"path": f"{name}.conf", "content": f"{name}\n"}] for name in ("api", "sites")}
    apply_tree(several)
    assert reloads(tmp_path) == 1
    apply_tree({**several, "trees": {"api": []}})
    assert sorted(tree(root)) == ["main.conf", "sites.conf"]


def test_an_owner_cannot_take_what_is_anothers(root: Path, spec: Spec) -> None:
    apply_tree(spec({"a.conf": "a\n"}, owner="first"))
    with pytest.raises(TreeError, match=r"a\.conf belongs to the tree 'first', and 'second' wants it too"):
        apply_tree(spec({"a.conf": "b\n"}, owner="second"))
    assert (root / "a.conf").read_text() == "a\n"


def test_a_link_is_replaced_and_comes_back(root: Path, spec: Spec, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("elsewhere\n")
    (root / "link.conf").symlink_to(tmp_path / "elsewhere")
    apply_tree(spec({"link.conf": "ours\n"}))
    assert not (root / "link.conf").is_symlink() and (tmp_path / "elsewhere").read_text() == "elsewhere\n"
    apply_tree(spec({}))
    assert (root / "link.conf").is_symlink()


def test_a_directory_in_the_way_is_named(root: Path, spec: Spec) -> None:
    (root / "a.conf").mkdir()
    with pytest.raises(TreeError, match=r"a\.conf is a directory on the host, not a file; move it away"):
        apply_tree(spec({"a.conf": "a\n"}))


def test_files_outside_the_root_belong_to_the_unit(root: Path, spec: Spec, tmp_path: Path) -> None:
    outside = tmp_path / "systemd" / "unit.d" / "x.conf"
    apply_tree(spec({"a.conf": "a\n", str(outside): "unit\n"}))
    assert outside.read_text() == "unit\n"
    apply_tree(spec({"a.conf": "a\n"}))
    assert not outside.exists()


# --- check and diff ---


def test_check_mode_tells_and_touches_nothing(root: Path, spec: Spec, tmp_path: Path) -> None:
    result = apply_tree(spec(FILES), check=True)
    assert result["changed"] and result["written"]
    assert result["notes"][0].startswith("Would run `sh -c")
    assert tree(root) == BEFORE and reloads(tmp_path) == 0 and not (tmp_path / "state").exists()
    apply_tree(spec(FILES))
    assert not apply_tree(spec(FILES), check=True)["changed"]


def test_check_mode_passes_where_the_program_is_not_installed_yet(root: Path, spec: Spec) -> None:
    result = apply_tree(spec(FILES, validate=["no-such-program", "-t"]), check=True)
    assert result["notes"][0] == "Not validated: no-such-program is not installed yet."
    with pytest.raises(TreeError, match="no-such-program is not installed"):
        apply_tree(spec(FILES, validate=["no-such-program", "-t"]))
    assert tree(root) == BEFORE


def test_diff_shows_what_changes_and_no_secret(root: Path, spec: Spec) -> None:
    (root / "old-secret").write_text("hidden before\n")
    (root / "old-secret").chmod(0o600)
    files = {**FILES, "old-secret": "now open\n", "binary": {"content": b"\x00\xff"}}
    diff = {entry["after_header"].split()[0]: entry for entry in apply_tree(spec(files), check=True)["diff"]}
    assert diff[str(root / "main.conf")] == {
        "before_header": f"{root}/main.conf (0640)",
        "after_header": f"{root}/main.conf (0644)",
        "before": "from the package\n",
        "after": "ours\n",
    }
    assert "secret\n" not in str(diff) and "hidden before" not in str(diff)
    assert diff[str(root / "tls/key.pem")]["after"] == "(content is not shown)\n"
    assert diff[str(root / "old-secret")]["after"] == "(content is not shown)\n(it differs)\n"
    assert diff[str(root / "binary")]["after"].startswith("(2 bytes, sha256 ")


# --- validation ---

mounts = pytest.mark.skipif(
    subprocess.run(
        ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "true"],
        capture_output=True,
        check=False,
    ).returncode
    != 0,
    reason="no mount namespaces for this user",
)


@mounts
def test_validation_sees_the_new_files_in_their_place_and_nobody_else_does(
    root: Path, spec: Spec, tmp_path: Path
) -> None:
    marker, seen = tmp_path / "validating", []

    def look() -> None:
        while not marker.exists():
            time.sleep(0.01)
        seen.append(tree(root))

    watcher = threading.Thread(target=look)
    watcher.start()
    inside = f"cat {root}/main.conf {root}/sites/a.conf {root}/tls/key.pem | tr '\\n' ' '"
    with pytest.raises(TreeError, match="ours a secret"):
        apply_tree(spec(FILES, validate=["sh", "-c", f"{inside}; touch {marker}; sleep 0.3; exit 1"]))
    watcher.join()
    assert seen == [BEFORE]
    assert tree(root) == BEFORE


@mounts
def test_a_refusal_changes_nothing_and_names_file_line_and_template(root: Path, spec: Spec, tmp_path: Path) -> None:
    apply_tree(spec({"a.conf": "fine\n"}))
    state = tree(tmp_path / "state")
    broken = {"a.conf": {"content": "fine\nbroken here;\n", "template": "a.conf.j2"}}
    say = f"echo 'nginx: [emerg] unknown directive \"broken\" in {root}/a.conf:2' >&2; exit 1"
    with pytest.raises(TreeError) as caught:
        apply_tree(spec(broken, validate=["sh", "-c", say]))
    assert "The new configuration is invalid, and nothing was changed." in str(caught.value)
    assert f'unknown directive "broken" in {root}/a.conf:2' in str(caught.value)
    assert f"{root}/a.conf:2 (from a.conf.j2): broken here;" in str(caught.value)
    assert tree(root) == {**BEFORE, "a.conf": ("fine\n", 0o644)} and reloads(tmp_path) == 1
    assert tree(tmp_path / "state") == state


@mounts
def test_a_line_of_a_secret_is_not_shown(root: Path, spec: Spec) -> None:
    secret = {"key.pem": {"content": "very secret\n", "sensitive": True}}
    with pytest.raises(TreeError) as caught:
        apply_tree(spec(secret, validate=["sh", "-c", f"echo 'bad key in {root}/key.pem:1'; exit 1"]))
    assert "key.pem:1" in str(caught.value) and "very secret" not in str(caught.value)


@mounts
def test_removals_are_validated_too(root: Path, spec: Spec) -> None:
    needs = ["sh", "-c", f"test -e {root}/a.conf"]
    apply_tree(spec({"a.conf": "a\n"}, validate=needs))
    with pytest.raises(TreeError, match="is invalid"):
        apply_tree(spec({}, validate=needs))
    assert (root / "a.conf").exists()


@mounts
def test_what_a_killed_run_had_staged_goes(spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = tmp_path / "run"
    for name in ("config-tree-4194304999-abcdefgh", f"config-tree-{os.getppid()}-abcdefgh", "of-another"):
        (parent / name).mkdir(parents=True)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != "/run" and access(path, mode))
    monkeypatch.setattr(config_tree.tempfile, "gettempdir", lambda: str(parent))
    apply_tree(spec(FILES, validate=["true"]))
    assert sorted(os.listdir(parent)) == [f"config-tree-{os.getppid()}-abcdefgh", "of-another"]


# --- reload and proof ---


def test_a_failed_reload_brings_the_old_files_back_and_reloads_them(root: Path, spec: Spec, tmp_path: Path) -> None:
    apply_tree(spec({"a.conf": "old\n"}))
    state = tree(tmp_path / "state")
    fails_on_new = ["sh", "-c", f"echo x >> {tmp_path}/tries; ! grep -q new {root}/a.conf"]
    with pytest.raises(TreeError) as caught:
        apply_tree(
            spec({"a.conf": "new\n", "b/c.conf": "c\n"}, reload=fails_on_new, explain=["echo", "because of", "this"])
        )
    assert "the old files were restored" in str(caught.value) and "because of this" in str(caught.value)
    assert tree(root) == {**BEFORE, "a.conf": ("old\n", 0o644)} and not (root / "b").exists()
    assert tree(tmp_path / "state") == state
    assert (tmp_path / "tries").read_text() == "x\nx\n"


def test_a_reload_that_is_not_proved_is_taken_back(root: Path, spec: Spec) -> None:
    with pytest.raises(TreeError, match="`false` ended with status 1"):
        apply_tree(spec({"a.conf": "new\n"}, prove={"command": ["false"], "timeout": 0.2}))
    assert tree(root) == BEFORE


def test_a_proof_may_take_a_while(root: Path, spec: Spec, tmp_path: Path) -> None:
    later = f"cd {tmp_path}; test -e two || {{ test -e one && touch two; touch one; false; }}"
    apply_tree(spec({"a.conf": "new\n"}, prove={"command": ["sh", "-c", later], "timeout": 5}))
    assert (root / "a.conf").exists()


def test_new_workers_are_a_proof(spec: Spec, tmp_path: Path) -> None:
    """A parent that starts a child on SIGHUP, as nginx does, and one that does not."""
    parent = textwrap.dedent(
        """
        import signal, subprocess, sys
        start = lambda *_: subprocess.Popen(["sleep", "30"])
        signal.signal(signal.SIGHUP, start if sys.argv[1] == "good" else signal.SIG_IGN)
        start()
        print("ready", flush=True)
        while True:
            signal.pause()
        """
    )
    pid_file = tmp_path / "pid"
    for kind in ("good", "bad"):
        process = subprocess.Popen([sys.executable, "-c", parent, kind], stdout=subprocess.PIPE, start_new_session=True)
        try:
            assert process.stdout and process.stdout.readline() == b"ready\n"
            pid_file.write_text(f"{process.pid}\n")
            wanted = spec(
                {"a.conf": kind + "\n"},
                reload=["sh", "-c", f"kill -HUP {process.pid}"],
                prove={"workers": str(pid_file), "timeout": 3 if kind == "good" else 0.3},
            )
            if kind == "good":
                assert apply_tree(wanted)["reloaded"]
            else:
                with pytest.raises(TreeError, match="no new worker process appeared"):
                    apply_tree(wanted)
        finally:
            os.killpg(process.pid, 9)
            process.communicate()


# --- a full disk ---


@pytest.mark.parametrize("room", range(7))
def test_a_full_disk_changes_nothing(
    root: Path, spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """Room for so many new files, and not one more, until files are removed."""
    apply_tree(spec(FILES))
    state, writes = tree(tmp_path / "state"), [0]
    real = config_tree._write_new

    def limited(path: str, found: Found) -> None:
        if os.path.dirname(path) != str(tmp_path / "state"):
            writes[0] += 1
            if writes[0] > room:
                raise OSError(28, "No space left on device", path)
        real(path, found)

    monkeypatch.setattr(config_tree, "_write_new", limited)
    with pytest.raises(TreeError, match=r"the old ones were restored: .*No space left on device"):
        apply_tree(spec(NEW))
    assert tree(root) == AFTER
    assert not (root / "b").exists()
    monkeypatch.setattr(config_tree, "_write_new", real)
    apply_tree(spec(FILES))
    assert tree(tmp_path / "state") == state


# --- killed at every step ---

STEPS = ("open", "rename", "unlink", "mkdir", "rmdir", "fsync", "symlink", "chmod")


class Counter:
    """Ends the process, as kill -9 would, before a given step."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def step(self) -> None:
        if self.limit == 0:
            os._exit(137)
        self.limit -= 1

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.step()
            return function(*args, **kwargs)

        return counted


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the disk: killing a process loses nothing that was written, synced or not."""
    monkeypatch.setattr(os, "fsync", lambda _handle: None)


def killed_before_step(wanted: dict[str, Any], limit: int) -> bool:
    """Apply a spec in a process that dies before its nth step. Returns whether it died."""
    child = os.fork()
    if child == 0:
        counter = Counter(limit)
        for name in STEPS:
            setattr(config_tree.os, name, counter.wrap(getattr(os, name)))
        config_tree._run = counter.wrap(config_tree._run)
        try:
            apply_tree(wanted)
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 137), f"the run failed before step {limit}"
    return status == 137


NEW = {"main.conf": "newer\n", "b/c.conf": "c\n", "tls/key.pem": {"content": "other\n", "sensitive": True}}
NEWER = {"main.conf": ("newer\n", 0o644), "b/c.conf": ("c\n", 0o644), "tls/key.pem": ("other\n", 0o600)}


@pytest.mark.slow
@pytest.mark.parametrize("next_run", ["the same", "the one before", "another owner"])
@pytest.mark.usefixtures("quick")
def test_a_run_killed_at_any_step_is_finished_or_taken_back(
    tmp_path_factory: pytest.TempPathFactory, next_run: str
) -> None:
    limit, died = 0, True
    while died:
        tmp_path = tmp_path_factory.mktemp("kill")
        root = tmp_path / "etc"
        root.mkdir()
        (root / "main.conf").write_text("from the package\n")
        common = {
            "root": str(root),
            "state_dir": str(tmp_path / "state"),
            "reload": ["cp", f"{root}/main.conf", f"{tmp_path}/live"],
        }

        def files(entries: dict[str, Any]) -> list[dict[str, Any]]:
            return [
                {"path": path, **(content if isinstance(content, dict) else {"content": content})}
                for path, content in entries.items()
            ]

        old = {**common, "owner": "web", "files": files(FILES)}
        new = {**common, "owner": "web", "files": files(NEW)}
        apply_tree(old)
        died = killed_before_step(new, limit)
        if next_run == "the same":
            apply_tree(new)
            assert tree(root) == NEWER, limit
        elif next_run == "the one before":
            apply_tree(old)
            assert tree(root) == AFTER, limit
        else:
            apply_tree({**common, "owner": "other", "files": files({"x/other.conf": "x\n"})})
            seen = tree(root)
            assert seen.pop("x/other.conf") == ("x\n", 0o644)
            assert seen in (AFTER, NEWER), limit
        assert (tmp_path / "live").read_text() == (root / "main.conf").read_text(), f"not loaded after step {limit}"
        assert sorted(os.listdir(tmp_path / "state"))[:1] == [".lock"]
        assert not (tmp_path / "state" / "journal.json").exists() and not (tmp_path / "state" / "backup").exists()
        # What the first of the three proves for every step, the others prove for every third.
        limit += 1 if next_run == "the same" else 3
    assert limit > 40, "the steps were not counted"


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_run_killed_while_it_puts_back_is_taken_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    limit, died = 0, True
    while died:
        tmp_path = tmp_path_factory.mktemp("back")
        root = tmp_path / "etc"
        root.mkdir()
        common = {"root": str(root), "state_dir": str(tmp_path / "state"), "owner": "web"}
        good = ["sh", "-c", f"! grep -q newer {root}/main.conf && cat {root}/main.conf > {tmp_path}/live"]
        old = {**common, "reload": good, "files": [{"path": "main.conf", "content": "old\n"}]}
        new = {**common, "reload": good, "files": [{"path": "main.conf", "content": "newer\n"}]}
        apply_tree(old)
        child = os.fork()
        if child == 0:
            counter = Counter(limit)
            for name in STEPS:
                setattr(config_tree.os, name, counter.wrap(getattr(os, name)))
            config_tree._run = counter.wrap(config_tree._run)
            try:
                apply_tree(new)
            except TreeError:
                os._exit(3)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (3, 137)
        died = status == 137
        # Where it died before the reload that fails, that is made up for, fails, and is taken back now.
        with contextlib.suppress(TreeError):
            apply_tree(old)
        assert not apply_tree(old)["changed"]
        assert tree(root) == {"main.conf": ("old\n", 0o644)}, limit
        assert (tmp_path / "live").read_text() == "old\n"
        limit += 1
    assert limit > 40


def test_check_mode_tells_of_a_run_that_died(root: Path, spec: Spec, tmp_path: Path) -> None:
    wanted = spec(FILES)
    limit = 0
    while not (tmp_path / "state" / "journal.json").exists():
        killed_before_step(wanted, limit)
        limit += 1
    before = tree(tmp_path)
    result = apply_tree(wanted, check=True)
    assert result["changed"] and "An earlier run died" in result["recovered"]
    assert tree(tmp_path) == before


# --- wrong specs ---

WRONG = [
    ({"root": "etc"}, "root is 'etc'"),
    ({"root": "/"}, "root is '/'"),
    ({"root": "/etc/../x"}, "give an absolute directory"),
    ({"owner": "Web"}, "owner is 'Web'"),
    ({"owner": ""}, "owner is ''"),
    ({"owner": "../x"}, "owner is '../x'"),
    ({"files": [{"path": "../x", "content": ""}]}, "path is '../x'"),
    ({"files": [{"path": "", "content": ""}]}, "path is ''"),
    ({"files": [{"path": "a"}]}, "a has no content"),
    ({"files": [{"path": "a", "content": "", "mode": "rw"}]}, "mode of /etc/x/a is 'rw'"),
    ({"files": [{"path": "a", "content": "", "mode": "99"}]}, "octal digits in quotes"),
    ({"files": [{"path": "a", "content": "", "mode": "0644", "sensitive": True}]}, "use '0600' or stricter"),
    ({"files": [{"path": "a", "content": "", "user": "no-such-user"}]}, "the user or group 'no-such-user' of"),
    ({"files": [{"path": "a", "content": ""}, {"path": "/etc/x/a", "content": ""}]}, "/etc/x/a is given twice"),
    ({"files": [{"path": "a", "content": ""}], "keep": ["a"]}, "in both files and keep"),
    ({"validate": "nginx -t"}, "validate is 'nginx -t'; give the command as a list"),
    ({"prove": {"worker": "x"}}, "prove is {'worker': 'x'}"),
    ({"prove": {"workers": "x", "command": ["y"]}}, "give workers"),
    ({"reloads": []}, "unknown key 'reloads'"),
    ({"trees": {}}, "either trees, or owner with files"),
]


@pytest.mark.parametrize(("wrong", "said"), WRONG)
def test_a_wrong_spec_is_refused_with_field_value_and_fix(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(TreeError) as caught:
        apply_tree({"root": "/etc/x", "owner": "web", "files": [], "state_dir": "/nonexistent/never", **wrong})
    assert said in str(caught.value)
