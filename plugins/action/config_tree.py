# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Renders the files of a tree on the controller, and sends them in one module call."""

from __future__ import annotations

import base64
import json
import os
import typing as t
import zlib

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import lookup_loader
from ansible.template import trust_as_template

ATTRIBUTES = ("mode", "sensitive", "user", "group")
ORIGINS = ("content", "source", "secret")
FILE_KEYS = {"path", *ORIGINS, *ATTRIBUTES}
TEMPLATE_KEYS = {"src", "dest", *ATTRIBUTES}


def pack(files: list[dict[str, t.Any]]) -> str:
    """Pack all files into one string: small on the wire, and a single argument that no log shows."""
    ready = [{**file, "content": base64.b64encode(file["content"]).decode()} for file in files]
    return base64.b64encode(zlib.compress(json.dumps(ready).encode())).decode()


class ActionModule(ActionBase):
    """The controller's half of config_tree."""

    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Render, send, report."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        args = dict(self._task.args)
        files = [self._rendered(entry, variables) for entry in args.pop("templates", None) or []]
        files += [self._plain(entry, variables) for entry in args.pop("files", None) or []]
        result: dict[str, t.Any] = self._execute_module(
            module_name="fivepointers.platform.config_tree",
            module_args={**args, "payload": pack(files)},
            task_vars=variables,
        )
        # The arguments are the packed files, which do not help an operator.
        result.pop("invocation", None)
        for note in result.get("notes") or []:
            self._display.v(f"{variables.get('inventory_hostname')}: {note}")
        return result

    def _rendered(self, entry: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        self._check(entry, TEMPLATE_KEYS, required=("src", "dest"))
        try:
            source = self._find_needle("templates", entry["src"])
        except AnsibleError as error:
            raise AnsibleActionFail(f"config_tree: there is no template {entry['src']!r}: {error}") from error
        search = []
        for path in [*variables.get("ansible_search_path", []), self._loader.get_basedir(), os.path.dirname(source)]:
            search += [os.path.join(path, "templates"), path]
        templar = self._templar.copy_with_new_env(searchpath=search, available_variables=variables)
        text = templar.template(
            trust_as_template(self._loader.get_text_file_contents(source)),
            escape_backslashes=False,
            overrides={"trim_blocks": True, "lstrip_blocks": True},
        )
        return {
            "path": entry["dest"],
            "content": str(text).encode(),
            "template": entry["src"],
            **{key: entry[key] for key in ATTRIBUTES if entry.get(key) is not None},
        }

    def _plain(self, entry: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        self._check(entry, FILE_KEYS, required=("path",))
        if sum(entry.get(key) is not None for key in ORIGINS) != 1:
            raise AnsibleActionFail(
                f"config_tree: {entry['path']} needs either content, source (a file on the controller) or secret"
            )
        if entry.get("content") is not None:
            content = str(entry["content"]).encode()
        elif entry.get("secret") is not None:
            lookup = lookup_loader.get("fivepointers.platform.secrets", loader=self._loader, templar=self._templar)
            (found,) = lookup.run([{**entry["secret"], "name": entry["path"]}], variables)
            content = found[entry["path"]].encode()
        else:
            try:
                real = self._loader.get_real_file(self._find_needle("files", entry["source"]))
                with open(real, "rb") as handle:
                    content = handle.read()
                self._loader.cleanup_tmp_file(real)
            except (AnsibleError, OSError) as error:
                raise AnsibleActionFail(
                    f"config_tree: the source {entry['source']!r} of {entry['path']} cannot be read on the controller: "
                    f"{error}"
                ) from error
        return {
            "path": entry["path"],
            "content": content,
            **{key: entry[key] for key in ATTRIBUTES if entry.get(key) is not None},
        }

    @staticmethod
    def _check(entry: t.Any, known: set[str], required: tuple[str, ...]) -> None:
        keys = ", ".join(sorted(known))
        if not isinstance(entry, dict):
            raise AnsibleActionFail(f"config_tree: {entry!r} is not a file; give a mapping with {keys}")
        for key in entry:
            if key not in known:
                raise AnsibleActionFail(f"config_tree: unknown key {key!r} in a file; known keys: {keys}")
        for key in required:
            if not isinstance(entry.get(key), str) or not entry[key]:
                raise AnsibleActionFail(f"config_tree: {key} of a file is missing or not a string: {entry.get(key)!r}")
