# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Archives: which one, what may be in it, and that a directory is one or is not there."""

from __future__ import annotations

import functools
import http.server
import json
import os
import signal
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.fivepointers.platform.plugins.action import unpack as action
from ansible_collections.fivepointers.platform.plugins.module_utils.common import archive, platforms, runtime_table
from ansible_collections.fivepointers.platform.plugins.modules import unpack as unpack_module

from tests.unit.disk import Disk

from .conftest import link, make_archive

FILE = {"url": "https://example.com/node.tar.gz", "sha256": "a" * 64}
ENTRY = {"version": "24.1.2", **FILE}


# --- the table ------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ["24", 24, "24.1.2"])
@pytest.mark.parametrize("name", ["24", 24])
def test_a_version_is_found_by_name_or_exactly(wanted: Any, name: Any) -> None:
    archive = {"url": ENTRY["url"], "sha256": ENTRY["sha256"], "strip": 1}
    assert runtime_table.choose({name: ENTRY}, wanted, "table") == {"version": "24.1.2", "archives": {"": archive}}


@pytest.mark.parametrize(
    "entry, told",
    [
        (None, "no archive for version '24'. Known versions: 22 (22.9.1)"),
        ("24.1.2", "write '24': {version"),
        ({**ENTRY, "sha256": ""}, "has no sha256"),
        ({**ENTRY, "sha256": "a" * 63}, "64 hex digits"),
        ({**ENTRY, "version": "../../etc"}, "give an exact version"),
        ({**ENTRY, "version": ""}, "has no version"),
        ({**ENTRY, "url": None}, "has no url"),
        ({**ENTRY, "strip": "one"}, "number of leading directories"),
        ({"version": "24.1.2", "linux-x46": FILE}, "has the key 'linux-x46', which is no platform such as linux-x64"),
        ({"version": "24.1.2", "linux-x64": FILE, "linux-arm64": {"url": "x"}}, "['24']['linux-arm64'] has no sha256"),
        ({"linux-x64": {**FILE, "version": "24.1.2"}, "linux-arm64": {**FILE, "version": "24.1.3"}}, "same one"),
    ],
)
def test_a_wrong_entry_is_refused_with_its_place(entry: Any, told: str) -> None:
    table = {"22": {**ENTRY, "version": "22.9.1"}}
    if entry is not None:
        table["24"] = entry
    with pytest.raises(archive.ArchiveError) as error:
        runtime_table.choose(table, "24", "platform_environment.nodejs")
    assert told in str(error.value) and "platform_environment.nodejs" in str(error.value)


# --- what may be in one -----------------------------------------------------------


def named(name: str) -> dict[str, str]:
    return {"url": f"https://nodejs.org/dist/v24.1.2/node-v24.1.2-{name}.tar.xz", "sha256": "a" * 64}


@pytest.mark.parametrize(
    "entry",
    [
        {"version": "24.1.2", "linux-x64": FILE, "linux-arm64": named("linux-arm64")},
        {"linux-x64": {**FILE, "version": "24.1.2"}, "linux-arm64": {**named("linux-arm64"), "version": "24.1.2"}},
        {"version": "24.1.2", **named("linux-arm64")},
        {"version": "24.1.2", **named("linux-arm64"), "linux-x64": FILE, "linux-arm64": named("linux-arm64")},
    ],
)
def test_each_machine_gets_the_archive_of_its_platform(entry: dict[str, Any]) -> None:
    chosen = runtime_table.choose({"24": entry}, "24", "table")
    found = runtime_table.pick(chosen["archives"], "linux-arm64", "table['24']")
    assert chosen["version"] == "24.1.2" and found["url"] == named("linux-arm64")["url"]
    with pytest.raises(archive.ArchiveError) as error:
        runtime_table.pick(chosen["archives"], "linux-x64-musl", "table['24']")
    assert "linux-arm64, and this machine is linux-x64-musl. Write one for each: {version: …, linux-" in str(
        error.value
    )


def test_an_archive_whose_name_names_no_platform_serves_all() -> None:
    chosen = runtime_table.choose({"24": ENTRY}, "24", "table")
    assert runtime_table.pick(chosen["archives"], "linux-arm64", "table['24']")["url"] == ENTRY["url"]


@pytest.mark.parametrize(("here", "known"), [("linux-x64", True), ("linux-arm64", True), ("linux-riscv64", False)])
def test_a_host_asks_for_the_archive_of_its_platform(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    here: str,
    known: bool,
) -> None:
    monkeypatch.setattr(platforms, "here", lambda: here)
    entry = {"version": "24.1.2", "linux-arm64": FILE, "linux-x64": FILE}
    request = runtime_table.choose({"24": entry}, "24", "table")
    arguments = {"dest": str(tmp_path / "node"), "wanted": [], "requests": [request]}
    with patch_module_args(arguments), pytest.raises(SystemExit):
        unpack_module.main()
    result = json.loads(capsys.readouterr().out)
    assert result.get("needs" if known else "lacks") == ({"24.1.2": here} if known else here)


def unpacked(tmp_path: Path, members: dict[str, Any], strip: int = 0) -> Path:
    make_archive(tmp_path / "a.tar.gz", members)
    target = tmp_path / "target"
    target.mkdir()
    archive.extract(str(tmp_path / "a.tar.gz"), str(target), strip)
    return target


def test_files_links_and_modes_arrive(tmp_path: Path) -> None:
    program = tarfile.TarInfo()
    program.mode = 0o4775
    target = unpacked(
        tmp_path,
        {
            "./package/lib/a.txt": "text",
            "package/bin/program": program,
            "package/bin/again": link(tarfile.SYMTYPE, "../bin/program"),
            "package/hard": link(tarfile.LNKTYPE, "package/lib/a.txt"),
            "package/dangling": link(tarfile.SYMTYPE, "nowhere"),
            "stripped-away": "x",
        },
        strip=1,
    )
    assert (target / "lib/a.txt").read_text() == (target / "hard").read_text() == "text"
    assert (target / "lib/a.txt").stat().st_mode & 0o7777 == 0o644
    assert (target / "lib/a.txt").stat().st_mtime == 1_000_000_000
    assert (target / "bin/again").stat().st_mode & 0o7777 == 0o755
    assert sorted(os.listdir(target)) == ["bin", "dangling", "hard", "lib"]


@pytest.mark.parametrize(
    "members",
    [
        {"../evil": "x"},
        {"a/../../evil": "x"},
        {"/evil": "x"},
        {"link": link(tarfile.SYMTYPE, "../outside")},
        {"link": link(tarfile.SYMTYPE, "/outside")},
        {"a/link": link(tarfile.SYMTYPE, "../../outside")},
        {"here": link(tarfile.SYMTYPE, "."), "link": link(tarfile.SYMTYPE, "here/../outside")},
        {"link": link(tarfile.SYMTYPE, "../outside"), "link/evil": "x"},
        {"link": link(tarfile.SYMTYPE, "/"), "link/evil": link(tarfile.SYMTYPE, "x")},
        {"hard": link(tarfile.LNKTYPE, "../outside/secret")},
        {"hard": link(tarfile.LNKTYPE, "/etc/passwd")},
        {"device": link(tarfile.CHRTYPE, "")},
        {"pipe": link(tarfile.FIFOTYPE, "")},
        {"a": "x", "a/b": "y"},
    ],
)
def test_what_leads_out_is_refused_and_writes_nothing_outside(tmp_path: Path, members: dict[str, Any]) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    with pytest.raises((archive.ArchiveError, OSError)):
        unpacked(tmp_path, members)
    assert os.listdir(tmp_path / "outside") == ["secret"]
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    "members",
    [
        {"a": "x" * 3000, "b": "x" * 1001},
        {"a": "", "b": "", "c": ""},
        {"a": "", "b": link(tarfile.LNKTYPE, "a"), "c": ""},
    ],
    ids=["bytes", "files", "hard links"],
)
def test_more_than_the_manifest_says_is_refused(tmp_path: Path, members: dict[str, Any]) -> None:
    path, target = tmp_path / "a.tar.gz", tmp_path / "target"
    make_archive(path, members)
    target.mkdir()
    with pytest.raises(archive.ArchiveError, match="holds more than its manifest says, which is 4000 bytes in 2 files"):
        archive.extract(str(path), str(target), limit=(4000, 2))


@pytest.mark.parametrize(
    "members",
    [
        {"a": "x" * (40 << 20)},
        {str(number): "" for number in range(600)},
        {str(number): link(tarfile.DIRTYPE, "") for number in range(600)},
        {str(number): link(tarfile.SYMTYPE, "x") for number in range(600)},
    ],
    ids=["one file", "files", "folders", "links"],
)
def test_an_archive_does_not_fill_the_disk_whatever_is_said_of_it(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, members: dict[str, Any]
) -> None:
    monkeypatch.setattr(archive, "RESERVE", 4 << 20)
    monkeypatch.setattr(archive, "RESERVED_INODES", 260)
    sha256 = make_archive(tmp_path / "a.tar.gz", members)
    with pytest.raises(archive.ArchiveError, match="The archive would fill the disk, of which 4 MB and 260 inodes"):
        archive.install(str(tmp_path / "a.tar.gz"), str(disk.path / "target"), sha256, 0)
    assert sorted(os.listdir(disk.path)) == ["lost+found"], "what was unpacked was removed"


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    make_archive(tmp_path / "a.tar.gz", {"a": "x" * 100_000})
    (tmp_path / "a.tar.gz").write_bytes((tmp_path / "a.tar.gz").read_bytes()[:-60])
    (tmp_path / "target").mkdir()
    with pytest.raises(archive.ArchiveError, match="cannot be read"):
        archive.extract(str(tmp_path / "a.tar.gz"), str(tmp_path / "target"))


# --- whole or not at all ----------------------------------------------------------


def install(tmp_path: Path, members: dict[str, Any], **options: Any) -> str:
    sha256 = make_archive(tmp_path / "a.tar.gz", members)
    archive.install(str(tmp_path / "a.tar.gz"), str(tmp_path / "to/1.0"), **{"sha256": sha256, "strip": 0, **options})
    return sha256


def test_a_directory_is_known_to_be_its_archive_until_it_changes(tmp_path: Path) -> None:
    directory = tmp_path / "to/1.0"
    sha256 = install(tmp_path, {"a/b": "text", "c": link(tarfile.SYMTYPE, "a/b")})
    assert archive.is_complete(str(directory), sha256, 0)
    assert not archive.is_complete(str(directory), "0" * 64, 0)
    assert not archive.is_complete(str(directory), sha256, 1)

    def changed() -> bool:
        return not archive.is_complete(str(directory), sha256, 0)

    (directory / "new").write_text("")
    assert changed()
    (directory / "new").unlink()
    assert not changed()
    os.chmod(directory / "a/b", 0o600)
    assert changed()
    os.chmod(directory / "a/b", 0o644)
    (directory / "a/b").write_text("tex!")
    assert changed()
    install(tmp_path, {"a/b": "text", "c": link(tarfile.SYMTYPE, "a/b")})
    assert not changed()
    (directory / "c").unlink()
    (directory / "c").symlink_to("a")
    assert changed()


@pytest.mark.parametrize(
    "options, told",
    [
        ({"sha256": "0" * 64}, "checksum"),
        ({"strip": 5}, "Nothing is left"),
        ({"proof": {"command": ["missing"], "says": "1"}}, "does not run here"),
        ({"proof": {"command": ["program"], "says": "1"}}, "prints '2'"),
    ],
)
def test_what_is_not_right_never_appears_and_leaves_what_was(
    tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    install(tmp_path, {"old": "x"})
    program = tarfile.TarInfo()
    program.mode = 0o755
    make_archive(tmp_path / "a.tar.gz", {})
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as made:
        (tmp_path / "program").write_text("#!/bin/sh\necho 2\n")
        os.chmod(tmp_path / "program", 0o755)
        made.add(tmp_path / "program", "program")
    arguments = {"sha256": archive.sha256_of(str(tmp_path / "b.tar.gz")), "strip": 0, **options}
    with pytest.raises(archive.ArchiveError, match=told):
        archive.install(str(tmp_path / "b.tar.gz"), str(tmp_path / "to/1.0"), **arguments)
    assert (tmp_path / "to/1.0/old").read_text() == "x"
    assert os.listdir(tmp_path / "to") == ["1.0"]


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_directory_whole_or_absent(tmp_path: Path) -> None:
    members = {f"{number}.txt": "x" * 20_000 for number in range(300)}
    sha256 = make_archive(tmp_path / "a.tar.gz", members)
    directory = tmp_path / "to/1.0"
    outcomes, seconds = [], 0.001
    while True not in outcomes:
        child = os.fork()
        if not child:
            archive.install(str(tmp_path / "a.tar.gz"), str(directory), sha256, 0)
            os._exit(0)
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert not directory.exists() or archive.is_complete(str(directory), sha256, 0)
        outcomes.append(directory.exists())
        seconds *= 1.5
        archive.remove_incomplete(str(tmp_path / "to"))
        if not directory.exists():
            assert not (tmp_path / "to").exists() or os.listdir(tmp_path / "to") == []
    assert outcomes.count(False) >= 3, "the kills came too late to show anything"


# --- fetched by the controller ------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server of one directory."""
    (tmp_path / "www").mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "www"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", tmp_path / "www"
    server.shutdown()
    server.server_close()


def test_an_archive_is_fetched_once(served: tuple[str, Path], tmp_path: Path) -> None:
    url, www = served
    entry = {**ENTRY, "url": url + "/a.tar.gz", "sha256": make_archive(www / "a.tar.gz", {"a": "x"})}
    path = str(tmp_path / "cache/node-24.1.2.tar.gz")
    action.fetch(entry, path, "table")
    (www / "a.tar.gz").unlink()
    action.fetch(entry, path, "table")
    assert archive.sha256_of(path) == entry["sha256"]


def test_another_archive_than_stated_is_not_kept(served: tuple[str, Path], tmp_path: Path) -> None:
    url, www = served
    make_archive(www / "a.tar.gz", {"a": "x"})
    with pytest.raises(archive.ArchiveError, match="otherwise do not use it"):
        action.fetch({**ENTRY, "url": url + "/a.tar.gz"}, str(tmp_path / "cache/a"), "table")
    with pytest.raises(archive.ArchiveError, match=r"404.*put the file at"):
        action.fetch({**ENTRY, "url": url + "/b.tar.gz"}, str(tmp_path / "cache/a"), "table")
    assert os.listdir(tmp_path / "cache") == ["a.lock"]


def test_a_file_is_used_where_it_is(tmp_path: Path) -> None:
    sha256 = make_archive(tmp_path / "a b.tar.gz", {"a": "x"})
    entry = {**ENTRY, "url": f"file://{tmp_path}/a%20b.tar.gz", "sha256": sha256}
    assert action.local(entry, "table") == str(tmp_path / "a b.tar.gz")
    with pytest.raises(archive.ArchiveError, match="One of them is wrong"):
        action.local({**entry, "sha256": "0" * 64}, "table")
    with pytest.raises(archive.ArchiveError, match="cannot be read on the controller"):
        action.local({**entry, "url": "file:///nowhere.tar.gz"}, "table")
