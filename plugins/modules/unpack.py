#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Install versions of something side by side, each in a directory that is exactly its archive."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: unpack
short_description: Install versions of something side by side from archives
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Ensures that each version in O(wanted) has a directory below O(dest) with exactly the content of its archive.
  - Hosts need no access to the archives. The controller downloads what is missing, once for all hosts, verifies its
    checksum, and sends it. The host verifies it again.
  - A directory appears under its name only when it is complete and verified. One that was modified is replaced.
  - If nothing is missing, this takes one call, and neither the cache nor the network is used.
  - Other installed versions are left alone.
attributes:
  check_mode:
    description: Reports which versions would be sent. Nothing is downloaded.
    support: full
  diff_mode:
    description: Lists the versions.
    support: full
  action:
    description: The controller downloads the archives.
    support: full
options:
  dest:
    description:
      - Directory that holds one subdirectory per version.
    type: path
    required: true
  wanted:
    description:
      - Names of entries of O(archives), or the exact version of one of them.
    type: list
    elements: str
    required: true
  archives:
    description:
      - Known archives by name. Each has C(version) (exact), and for each platform (C(linux-x64), C(linux-arm64)) an
        archive with C(url) (http, https or file), C(sha256), and C(strip), the number of leading directories to strip
        (default 1). A host gets the one for its platform.
      - With one archive only, these keys may stand beside C(version). The name in the URL then says for which platform
        it is; if it does not say, all hosts get it.
    type: dict
    default: {}
  cache:
    description:
      - Directory on the controller that caches downloaded archives as C(NAME-VERSION-PLATFORM.tar.gz), where C(NAME)
        is the last part of O(dest). Archives with a C(file) URL are not copied.
    type: path
  proof:
    description:
      - How to verify, before the directory appears, that what was unpacked works on this host.
    type: dict
    suboptions:
      command:
        description: Program, relative to the directory, and its arguments.
        type: list
        elements: str
        required: true
      says:
        description: Expected output. C({version}) is replaced by the version.
        type: str
        required: true
  table:
    description:
      - Name of the variable that holds O(archives), for messages.
    type: str
    default: archives
  requests:
    description:
      - O(wanted) as the action resolved it. Not for use in playbooks.
    type: list
    elements: dict
    default: []
  sent:
    description:
      - Archives that the action has sent, by version. Not for use in playbooks.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Install two versions of Node.js side by side
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
  description: Exact version of each name in O(wanted).
  returned: always
  type: dict
  sample: {'24': 24.21.0}
needs:
  description: Versions that the host does not have, with the platform of the archive. The action then sends them.
  returned: when something is missing
  type: dict
  sample: {24.21.0: linux-arm64}
lacks:
  description: The host's platform, if a version has no archive for it. The action then fails.
  returned: when an archive is missing
  type: str
  sample: linux-riscv64
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fivepointers.platform.plugins.module_utils.common import archive, platforms


def of_this_machine(request: dict[str, Any], platform: str) -> dict[str, Any]:
    """Return version, platform, sha256 and strip of the archive for this machine; empty if there is none."""
    archives = request["archives"]
    # One without the name of a platform is for all.
    found = next((name for name in (platform, "") if name in archives), None)
    return {} if found is None else {"version": request["version"], "platform": found, **archives[found]}


def missing(dest: str, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the requests whose directory is missing or was modified."""
    return [
        request
        for request in requests
        if not archive.is_complete(os.path.join(dest, request["version"]), request["sha256"], request["strip"])
    ]


def main() -> None:
    """Check what is missing, ask for it, unpack it."""
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
    platform = platforms.here()
    requests = [of_this_machine(request, platform) for request in module.params["requests"]]
    if not all(requests):
        module.exit_json(changed=False, lacks=platform)
    lacking = missing(dest, requests)
    needs = {request["version"]: request["platform"] for request in lacking}
    diff = [{"prepared": "".join("+ %s\n" % os.path.join(dest, version) for version in needs)}] if needs else []
    if module.check_mode or not lacking:
        module.exit_json(changed=bool(needs), diff=diff)
    if not set(needs) <= set(sent):
        module.exit_json(changed=False, needs={key: needs[key] for key in needs if key not in sent})
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
