#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Versions of one thing side by side, each a directory that is exactly an archive."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: unpack
short_description: Keep versions of something side by side, each exactly what its archive holds
version_added: '0.1.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Makes a directory below O(dest) for each version that is wanted, exactly what its archive holds.
  - Hosts need no way to the archives. The controller fetches what a host lacks, once for all hosts, verifies its
    checksum, and sends it. The host verifies it again.
  - A directory appears under its name only when it is complete and proved. One that was changed is made anew.
  - Where everything is there, this is one call, and neither the cache nor the network is looked at.
  - Other versions that are there stay.
attributes:
  check_mode:
    description: Says which versions would be sent. Nothing is fetched.
    support: full
  diff_mode:
    description: Names the versions.
    support: full
  action:
    description: Archives are fetched on the controller.
    support: full
options:
  dest:
    description:
      - Directory in which each version has its own.
    type: path
    required: true
  wanted:
    description:
      - Names of entries of O(archives), or exact versions that one of them has.
    type: list
    elements: str
    required: true
  archives:
    description:
      - What is known, by name. Each entry has C(version) (exact), C(url) (http, https or file), C(sha256), and
        C(strip), the number of leading directories to leave out (1 unless given).
    type: dict
    default: {}
  cache:
    description:
      - Directory on the controller in which fetched archives are kept, as C(NAME-VERSION.tar.gz) with the name of
        O(dest). Archives with a C(file) address are used where they are.
    type: path
  proof:
    description:
      - How to know that what was unpacked works on this host, before it appears.
    type: dict
    suboptions:
      command:
        description: Program relative to the directory, and its arguments.
        type: list
        elements: str
        required: true
      says:
        description: What it has to print. C({version}) stands for the version.
        type: str
        required: true
  table:
    description:
      - Name of the variable in which archives are added, for messages.
    type: str
    default: archives
  requests:
    description:
      - What the action made of O(wanted). Not for playbooks.
    type: list
    elements: dict
    default: []
  sent:
    description:
      - Archives that the action has sent, by version. Not for playbooks.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Put two versions of Node.js side by side
  fivepointers.platform.unpack:
    dest: /opt/fivepointers/node
    wanted: ['22', '24']
    archives: "{{ nodejs_archives }}"
    cache: ~/.cache/fivepointers/node
    proof:
      command: [bin/node, --version]
      says: v{version}
"""

RETURN = r"""
versions:
  description: Exact version of each name that was wanted.
  returned: always
  type: dict
  sample: {'24': 24.21.0}
needs:
  description: Versions that the host lacks. The action then sends them.
  returned: when something is missing
  type: list
  elements: str
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fivepointers.platform.plugins.module_utils.common import archive


def missing(dest: str, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the requests whose directory is not what it has to be."""
    return [
        request
        for request in requests
        if not archive.is_complete(os.path.join(dest, request["version"]), request["sha256"], request["strip"])
    ]


def main() -> None:
    """Look, ask for what is missing, unpack what came."""
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "required": True},
            "wanted": {"type": "list", "elements": "str", "required": True},
            "archives": {"type": "dict", "default": {}},
            "cache": {"type": "path"},
            "proof": {
                "type": "dict",
                "options": {
                    "command": {"type": "list", "elements": "str", "required": True},
                    "says": {"type": "str", "required": True},
                },
            },
            "table": {"type": "str", "default": "archives"},
            "requests": {"type": "list", "elements": "dict", "default": []},
            "sent": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    dest, sent = module.params["dest"], module.params["sent"]
    lacking = missing(dest, module.params["requests"])
    needs = [request["version"] for request in lacking]
    diff = [{"prepared": "".join("+ %s\n" % os.path.join(dest, version) for version in needs)}] if needs else []
    if module.check_mode or not lacking:
        module.exit_json(changed=bool(needs), diff=diff)
    if not set(needs) <= set(sent):
        module.exit_json(changed=False, needs=[version for version in needs if version not in sent])
    try:
        os.makedirs(dest, 0o755, exist_ok=True)
        archive.remove_incomplete(dest)
        for request in lacking:
            version = request["version"]
            proof = module.params["proof"]
            if proof:
                proof = {**proof, "says": proof["says"].replace("{version}", version)}
            archive.install(
                sent[version], os.path.join(dest, version), request["sha256"], request["strip"], proof=proof
            )
    except (archive.ArchiveError, OSError) as error:
        module.fail_json(msg="%s, version %s: %s" % (dest, version, error))
    module.exit_json(changed=True, diff=diff)


if __name__ == "__main__":
    main()
