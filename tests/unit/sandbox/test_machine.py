"""What is found out about the machine, and what is said when something is in the way."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from sandbox import apt, image, nodejs, setup, state, tools
from sandbox.errors import SandboxError

DEB822 = """\
Types: deb
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates nodistro
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb-src
URIs: http://mirror.example/debian
Suites: bookworm
Components: main

Enabled: no
Types: deb
URIs: http://mirror.example/off
Suites: bookworm
Components: main
"""
LIST = """\
deb [arch=amd64] https://download.example/linux bookworm stable
deb http://mirror.example/security bookworm-security main # the machine's own
# deb http://mirror.example/commented bookworm main
deb http://apt.example/pgdg bookworm-pgdg main
"""


def test_only_debians_own_sources_go_into_the_image() -> None:
    signed = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
    assert image.debian_sources([("debian.sources", DEB822), ("more.list", LIST)]) == [
        f"deb {signed}http://mirror.example/debian bookworm main",
        f"deb {signed}http://mirror.example/debian bookworm-updates main",
        "deb http://mirror.example/security bookworm-security main",
    ]


@pytest.mark.parametrize("files", [[], [("x.list", "deb http://ubuntu.example jammy main\n")]])
def test_a_machine_without_debian_sources_uses_debians_address(files: list[tuple[str, str]]) -> None:
    assert image.debian_sources(files)[0] == "deb http://deb.debian.org/debian bookworm main"


def test_the_images_name_depends_on_what_goes_into_it() -> None:
    assert image.key(["a"], []) == image.key(["a"], [])
    assert len({image.key(["a"], []), image.key(["b"], []), image.key(["a"], ["x"])}) == 3


@pytest.mark.parametrize(
    ("output", "cure"),
    [
        ("Err:1 Temporary failure resolving 'deb.debian.org'", "no network"),
        ("E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7", "Another apt or dpkg"),
        ("E: You don't have enough... No space left on device", "disk is full"),
        ("E: Failed to fetch x  Hash Sum mismatch", "Run this again in a few minutes"),
        ("E: dpkg was interrupted, you must manually run", "dpkg --configure -a"),
        ("E: Unable to locate package crun", "Use Debian 12"),
    ],
)
def test_apts_output_becomes_one_sentence_with_the_cure(output: str, cure: str) -> None:
    assert cure in (apt.explain(f"Reading package lists...\n{output}\n") or "")


def test_what_is_not_understood_is_not_explained() -> None:
    assert apt.explain("Segmentation fault") is None


def test_only_what_is_missing_is_installed() -> None:
    listing = "\n".join(f"installed {name}" for name in setup.PACKAGES if name not in ("podman", "crun"))
    assert setup.missing_packages(setup.PACKAGES, f"{listing}\nconfig-files crun\n") == ["crun", "podman"]
    assert setup.missing_packages(setup.PACKAGES, "") == list(setup.PACKAGES)


def test_a_small_disk_is_refused_before_anything_is_done() -> None:
    with pytest.raises(SandboxError, match=r"5\.9 GB free, and 6 GB are needed"):
        setup.check_disk(5.9, first=True)
    setup.check_disk(5.9, first=False)
    with pytest.raises(SandboxError, match="1 GB are needed"):
        setup.check_disk(0.5, first=False)


def test_a_runtime_with_another_checksum_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodejs, "DIRECTORY", tmp_path)
    right, wrong = {"version": "1", "sha256": hashlib.sha256(b"one").hexdigest()}, {"version": "2", "sha256": "0" * 64}
    monkeypatch.setattr(nodejs, "VERSIONS", {"1": right, "2": wrong, "3": {"version": "3", "sha256": ""}})
    nodejs.path(right).write_bytes(b"one")
    nodejs.path(wrong).write_bytes(b"two")
    assert [item["version"] for item in nodejs.missing()] == ["2", "3"]


@pytest.mark.parametrize("name", ["", "Sandbox", "-a", "a/b", "..", "tls", "hosts", "a" * 41])
def test_names_that_cannot_be_are_refused(name: str) -> None:
    with pytest.raises(SandboxError, match="--name"):
        state.check_name(name)


def test_secrets_are_made_once_and_for_the_owner_only(tmp_path: Path) -> None:
    first = state.State("mine", tmp_path).secrets()
    assert first == state.State("mine", tmp_path).secrets()
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert len(first["database"]) >= 32 <= len(first["jwt"])
    assert len(set(first.values())) == 4


def test_half_a_key_pair_is_made_anew(tmp_path: Path) -> None:
    keeper = state.State("mine", tmp_path)
    keeper.ensure_keys(["a-1"])
    whole = keeper.ssh_key.read_text()
    keeper.ensure_keys(["a-1"])
    assert keeper.ssh_key.read_text() == whole
    (tmp_path / "ssh_key.pub").write_text("")
    keeper.ensure_keys(["a-1"])
    assert keeper.ssh_key.read_text() != whole
    assert (tmp_path / "hosts/a-1/authorized_keys").read_text() == (tmp_path / "ssh_key.pub").read_text()


def test_writing_a_file_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a" / "f"
    state.write(path, "one", 0o600)
    with pytest.raises(TypeError):
        state.write(path, 3)  # type: ignore[arg-type]
    assert path.read_text() == "one"
    assert [item.name for item in path.parent.iterdir()] == ["f"]


def test_the_next_releases_sources_are_the_machines_own() -> None:
    ours = [
        "deb [signed-by=/k.gpg] http://mirror/debian bookworm main",
        "deb http://mirror/security bookworm-security main",
    ]
    assert image.next_sources([*ours, "deb http://mirror/debian stable main"]) == [
        "deb [signed-by=/k.gpg] http://mirror/debian trixie main",
        "deb http://mirror/security trixie-security main",
    ]


def test_a_tool_is_fetched_once_and_anew_when_its_description_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "DIRECTORY", tmp_path)
    fetched: list[str] = []

    def fetch(place: Path) -> None:
        assert list(place.iterdir()) == [], "what was there is gone"
        (place / "half").touch()
        if not fetched:
            fetched.append("interrupted")
            raise KeyboardInterrupt
        fetched.append("whole")

    with pytest.raises(KeyboardInterrupt):
        tools._make("tool", "one", fetch)
    for description in ("one", "one", "two", "two"):
        tools._make("tool", description, fetch)
    assert fetched == ["interrupted", "whole", "whole"]


def test_an_archive_of_hosts_is_used_for_a_week(tmp_path: Path) -> None:
    archive = tmp_path / "host.tar"
    assert not image.fresh(archive, 0)
    archive.touch()
    made = archive.stat().st_mtime
    assert image.fresh(archive, made + 6 * 86400)
    assert not image.fresh(archive, made + 8 * 86400)
