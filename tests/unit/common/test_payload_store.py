# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What the store of payloads gives to a run, and what it leaves alone."""

from __future__ import annotations

import base64
import io
import os
import pickle
import zipfile
from pathlib import Path
from types import SimpleNamespace

import ansible
import pytest
from ansible_collections.fivepointers.platform.plugins.callback import payload_cache

TOOLS = "ansible_collections/acme/tools"
UTILS = f"{TOOLS}/plugins/module_utils"
NAME = "ansible_collections.acme.tools.plugins.modules.say-ZIP_DEFLATED-none"
BASIC = "ansible/module_utils/basic.py"


class Project:
    """A collection, the folder of a run, and a store of payloads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = 0
        self.stores = folder / "stores"
        self.write(f"{TOOLS}/plugins/modules/say.py", "say")
        self.write(f"{UTILS}/words.py", "words")
        self.write(f"{UTILS}/more/__init__.py", "more")

    def write(self, name: str, content: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def store(self) -> payload_cache.Store:
        """The store, as a new run takes it."""
        self.runs += 1
        return payload_cache.Store(self.stores, self.folder / f"run{self.runs}")

    def keep(self, **written: str) -> None:
        """Keep a payload of all files, and of those that Ansible writes."""
        store = self.store()
        store.give()
        handle = io.BytesIO()
        with zipfile.ZipFile(handle, "w") as archive:
            for path in sorted((self.folder / "ansible_collections").rglob("*.py")):
                archive.write(path, path.relative_to(self.folder))
            archive.write(Path(ansible.__file__).parents[1] / BASIC, BASIC)
            for name in ("ansible/__init__.py", "ansible/modules/__init__.py", f"{TOOLS}/plugins/modules/__init__.py"):
                archive.writestr(name, "written by Ansible")
            for name, content in written.items():
                archive.writestr(f"{UTILS}/{name}/__init__.py", content)
        made = SimpleNamespace(zip_data=base64.b64encode(handle.getvalue()))
        (store.run / NAME).write_bytes(pickle.dumps(made))
        store.keep()

    def given(self) -> bool:
        """Whether the next run is given the payload."""
        store = self.store()
        store.give()
        return (store.run / NAME).exists()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr(payload_cache, "AnsibleCollectionConfig", SimpleNamespace(collection_paths=[str(tmp_path)]))
    return Project(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        f"{UTILS}/words.py",
        f"{UTILS}/more/__init__.py",
        f"{TOOLS}/meta/runtime.yml",
        f"{UTILS}/words/__init__.py",
        f"{UTILS}/optional.py",
        "ansible_collections/acme/other/plugins/module_utils/optional.py",
    ],
)
def test_a_payload_is_made_anew_once_a_file_changed_or_came_that_ansible_looks_at(project: Project, name: str) -> None:
    project.keep()
    assert project.given()
    project.write(name, "other")
    assert not project.given()


@pytest.mark.parametrize("name", [f"{UTILS}/words.py", f"{UTILS}/more/__init__.py"])
def test_what_changed_while_a_run_went_on_is_not_taken_for_what_it_sent(
    project: Project, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    keep = payload_cache.Store.keep

    def later(store: payload_cache.Store) -> None:
        project.write(name, "WORDS")
        keep(store)

    with monkeypatch.context() as patch:
        patch.setattr(payload_cache.Store, "keep", later)
        project.keep()
    assert not project.given()


def test_a_redirection_which_is_in_no_file_is_made_anew(project: Project) -> None:
    project.keep(old="import ansible_collections.acme.tools.plugins.module_utils.words as mod")
    assert not project.given()


def test_a_payload_that_another_run_removes_is_still_there_for_a_run_that_was_given_it(project: Project) -> None:
    project.keep()
    store = project.store()
    store.give()
    content = (store.run / NAME).read_bytes()
    project.write(f"{UTILS}/words.py", "other")
    project.keep()
    assert (store.run / NAME).read_bytes() == content
    assert store.run.joinpath(NAME).is_file() and not store.run.joinpath(NAME).is_symlink()


def test_what_others_put_beside_the_stores_is_not_removed(project: Project) -> None:
    project.stores.mkdir(mode=0o700)
    letters = project.write("stores/letters/old.txt", "dear")
    (project.stores / "gone").symlink_to("nowhere")
    os.utime(letters.parent, (0, 0))
    project.keep()
    assert letters.exists()


def test_a_store_that_somebody_else_can_replace_is_not_used(project: Project) -> None:
    shared = project.folder / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    project.stores = shared / "stores"
    with pytest.raises(PermissionError, match="shared"):
        project.store()
    shared.chmod(0o1777)
    project.store()


@pytest.mark.parametrize("index", ["null", "[1]", '{"%s": 1}' % NAME, '{"%s": {}}' % NAME])
def test_an_index_of_another_kind_does_not_end_a_run(
    project: Project, monkeypatch: pytest.MonkeyPatch, index: str
) -> None:
    project.keep()
    next(project.stores.glob("*/index.json")).write_text(index)
    monkeypatch.setattr(payload_cache.constants, "DEFAULT_LOCAL_TMP", str(project.folder / "tmp"))
    plugin = payload_cache.CallbackModule()
    monkeypatch.setattr(plugin, "get_option", lambda _name: str(project.stores))
    plugin.v2_playbook_on_start(None)
    project.keep()
    plugin.v2_playbook_on_stats(None)
