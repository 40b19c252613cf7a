# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What is kept of modules in archives is what Python would have compiled."""

from __future__ import annotations

import importlib
import marshal
import sys
import zipfile
import zipimport
from pathlib import Path
from types import CodeType, ModuleType

import pytest

from sandbox.files.python import kept_bytecode

PROGRAM = "import sys\n\n\ndef line():\n    return sys._getframe().f_code.co_filename, {value}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bytecode"
    folder.mkdir()
    # As Python has it where no file .pth has changed it.
    monkeypatch.setattr(zipimport, "_compile_source", lambda path, source: compile(source, path, "exec"))
    kept_bytecode.install(str(folder))
    return folder


def load(archive: Path, value: int, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("kept_trial.py", PROGRAM.format(value=value))
    monkeypatch.syspath_prepend(str(archive))
    sys.modules.pop("kept_trial", None)
    return importlib.import_module("kept_trial")


def test_the_same_source_is_compiled_once_and_another_one_again(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value, files in (("one.zip", 1, 1), ("two.zip", 1, 1), ("three.zip", 2, 2)):
        module = load(tmp_path / name, value, monkeypatch)
        # Tracebacks name the archive of now.
        assert module.line() == (str(tmp_path / name / "kept_trial.py"), value)
        assert len(list(folder.iterdir())) == files


def test_a_damaged_file_is_compiled_again(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(tmp_path / "one.zip", 1, monkeypatch)
    (kept,) = folder.iterdir()
    kept.write_bytes(kept.read_bytes()[:20])
    assert load(tmp_path / "two.zip", 1, monkeypatch).line()[1] == 1
    assert isinstance(marshal.loads(kept.read_bytes()), CodeType)


def test_without_its_folder_all_is_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = zipimport._compile_source
    kept_bytecode.install(str(tmp_path / "none"))
    assert zipimport._compile_source is before
