#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Manage a set of configuration files as one unit."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: config_tree
short_description: Manage a set of configuration files as one unit
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Renders templates on the controller, sends all files in one call, validates the whole tree, replaces the files,
    removes files that the owner no longer lists, reloads, and proves that the reload took effect.
  - The validation runs in a private mount namespace, with the staged tree mounted over O(root). Absolute includes,
    paths in messages and line numbers are therefore those of the final files. No other process sees the staged files.
  - If any step fails, all files are restored and the old configuration is reloaded.
  - A journal, synced to disk, survives kills and power loss. The next run of any owner on the host completes the
    pending reload or restores the files.
  - If nothing differs, nothing is written, validated or reloaded.
  - A file that existed before its owner took it over is backed up, and restored when the owner no longer lists it.
attributes:
  check_mode:
    description: Reports what would change, and validates the staged tree if the command is installed.
    support: full
  diff_mode:
    description: Contents of sensitive and binary files are not shown.
    support: full
  action:
    description: The controller reads templates and sources.
    support: full
options:
  owner:
    description:
      - Name of the set. Files that an owner no longer lists are removed. No two owners may list the same path.
    type: str
    required: true
  root:
    description:
      - Directory that is staged and validated as a whole. Relative paths are relative to it.
    type: path
    required: true
  templates:
    description:
      - Files to render on the controller.
    type: list
    elements: dict
    default: []
    suboptions:
      src:
        description: Template, searched for like that of M(ansible.builtin.template).
        type: str
        required: true
      dest:
        description: Path on the host, relative to O(root) or absolute.
        type: str
        required: true
      mode:
        description: Permissions, as quoted octal digits. Defaults to V(0644), or V(0600) for sensitive files.
        type: str
      sensitive:
        description: Whether the content is secret and must not appear in diffs or logs.
        type: bool
        default: false
      user:
        description: Owner of the file. Defaults to the user of the connection.
        type: str
      group:
        description: Group of the file. Defaults to the group of the connection's user.
        type: str
  files:
    description:
      - Files to write as they are.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path on the host, relative to O(root) or absolute.
        type: str
        required: true
      content:
        description: The content.
        type: str
      source:
        description: File on the controller to copy. May be encrypted with Ansible Vault.
        type: str
      secret:
        description: Reference to a secret, as P(fivepointers.platform.secrets#lookup) takes it without its name.
        type: dict
      mode:
        description: Permissions, as quoted octal digits. Defaults to V(0644), or V(0600) for sensitive files.
        type: str
      sensitive:
        description: Whether the content is secret and must not appear in diffs or logs.
        type: bool
        default: false
      user:
        description: Owner of the file. Defaults to the user of the connection.
        type: str
      group:
        description: Group of the file. Defaults to the group of the connection's user.
        type: str
  keep:
    description:
      - Paths to leave unchanged if the owner already owns them.
    type: list
    elements: str
    default: []
  validate:
    description:
      - Command that must succeed on the staged tree, as a list of arguments.
    type: list
    elements: str
    default: []
  reload:
    description:
      - Command that makes the new files take effect, as a list of arguments.
    type: list
    elements: str
    default: []
  prove:
    description:
      - How to verify that the reload took effect.
    type: dict
    suboptions:
      workers:
        description: PID file of a process that starts new children when it reloads, such as nginx.
        type: path
      command:
        description: Command that succeeds once the new configuration is in effect.
        type: list
        elements: str
      timeout:
        description: How many seconds to wait for it.
        type: float
        default: 10
  explain:
    description:
      - Command whose output is added to the error message if O(reload) or O(prove) fails.
    type: list
    elements: str
    default: []
  payload:
    description:
      - The rendered files, as the action sends them. Not for use in playbooks.
    type: str
"""

EXAMPLES = r"""
- name: Configure nginx
  fivepointers.platform.config_tree:
    owner: edge
    root: /etc/nginx
    templates:
      - {src: edge.conf.j2, dest: fivepointers/edge.conf}
    files:
      - {path: fivepointers/tls/edge.crt, source: certificates/edge.pem}
      - {path: fivepointers/tls/edge.key, source: certificates/edge.key, sensitive: true}
    validate: [nginx, -t]
    reload: [systemctl, reload-or-restart, nginx]
    prove: {workers: /run/nginx.pid}
"""

RETURN = r"""
written:
  description: Paths that differed and were, or in check mode would be, written.
  returned: success
  type: list
  elements: str
  sample: [/etc/nginx/fivepointers/edge.conf]
removed:
  description: Paths that the owner no longer lists. They were removed, or their original file was restored.
  returned: success
  type: list
  elements: str
validated:
  description: Whether the staged tree was validated.
  returned: success
  type: bool
reloaded:
  description: Whether the reload command was run.
  returned: success
  type: bool
recovered:
  description: What was recovered after an interrupted run, empty if there was none.
  returned: success
  type: str
notes:
  description: Hints for the operator, such as why there was no validation.
  returned: success
  type: list
  elements: str
"""

import base64
import json
import typing as t
import zlib

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fivepointers.platform.plugins.module_utils.common.config_tree import TreeError, apply_tree


def argument_spec() -> dict[str, t.Any]:
    """The module's arguments; the same as in DOCUMENTATION."""
    attributes = {
        "mode": {"type": "str"},
        "sensitive": {"type": "bool", "default": False},
        "user": {"type": "str"},
        "group": {"type": "str"},
    }
    words = {"type": "list", "elements": "str", "default": []}
    return {
        "owner": {"type": "str", "required": True},
        "root": {"type": "path", "required": True},
        "templates": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "src": {"type": "str", "required": True},
                "dest": {"type": "str", "required": True},
                **attributes,
            },
        },
        "files": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "path": {"type": "str", "required": True},
                "content": {"type": "str"},
                "source": {"type": "str"},
                # Where the secret is, not what it is.
                "secret": {"type": "dict", "no_log": False},
                **attributes,
            },
        },
        "keep": words,
        "validate": words,
        "reload": words,
        "prove": {
            "type": "dict",
            "options": {
                "workers": {"type": "path"},
                "command": {"type": "list", "elements": "str"},
                "timeout": {"type": "float", "default": 10},
            },
        },
        "explain": words,
        "payload": {"type": "str", "no_log": True},
    }


def unpack(payload: str) -> list[dict[str, t.Any]]:
    """The files as the action packed them."""
    files: list[dict[str, t.Any]] = json.loads(zlib.decompress(base64.b64decode(payload)))
    for file in files:
        file["content"] = base64.b64decode(file["content"])
    return files


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    if params["payload"] is None:
        module.fail_json(
            msg="config_tree needs its action plugin, which renders the files on the controller; call it "
            "by its full name, fivepointers.platform.config_tree"
        )
    prove = {key: value for key, value in (params["prove"] or {}).items() if value is not None}
    spec = {key: params[key] for key in ("owner", "root", "keep", "validate", "reload", "explain")}
    try:
        result = apply_tree({**spec, "prove": prove, "files": unpack(params["payload"])}, check=module.check_mode)
    except TreeError as error:
        module.fail_json(msg=str(error))
    if not module._diff:
        del result["diff"]
    elif result["notes"]:
        result["diff"].append({"prepared": "\n".join(result["notes"]) + "\n"})
    module.exit_json(**result)


if __name__ == "__main__":
    main()
