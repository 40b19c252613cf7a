#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Hold the lock of an environment while a playbook changes it."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: lock
short_description: Hold the lock of an environment while a playbook changes it
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Each host of an environment has a register. Whoever has claimed all that answer, and a majority, has the lock,
    whatever names an inventory gives the hosts, and whatever time their clocks show.
  - From V(claimed) on, a process on the controller renews the claim of each host every few seconds. It gives the claim
    back when the playbook ends, however it ends. If the controller itself is lost, the claim lapses after a minute of
    silence, which each host measures by its own monotonic clock.
  - The lock comes with a fencing number, higher than any before. Hosts refuse a deployment whose number is lower than
    one they have seen at work, so that a controller that was given up for dead cannot interfere later.
attributes:
  check_mode:
    description: Does nothing, because a dry run needs no lock.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
  action:
    description: The controller renews, and counts the claims.
    support: full
options:
  state:
    description:
      - V(claimed) claims the register of this host. It waits a few seconds for a run that is just ending, and returns
        who else has it.
      - V(held), once for all hosts, fails unless all hosts that answer were claimed, and these are a majority. It also
        fails if the inventory lacks a host that the last run had.
      - V(released), once for all hosts, gives the claims back.
      - V(renewed) is used by the process on the controller.
    type: str
    choices: [claimed, held, renewed, released]
    required: true
  claims:
    description:
      - With V(held) and V(released), what V(claimed) returned, by name of the host.
    type: dict
    default: {}
  gone:
    description:
      - With V(held), names of hosts that will not come back, separated by commas.
    type: str
    default: ''
  intended:
    description:
      - With V(held), how many hosts the environment is described to have. V(0) if that is not described, and V(-1) if
        those that are there are enough.
    type: int
    default: 0
  directory:
    description:
      - Directory on the controller in which the processes that renew learn what was agreed.
    type: path
  id:
    description:
      - Identifier of the run. Set by the action.
    type: str
    default: ''
  by:
    description:
      - Who runs the playbook. Set by the action.
    type: str
    default: ''
  since:
    description:
      - When the run began, as text. Set by the action.
    type: str
    default: ''
  number:
    description:
      - Fencing number that was agreed. Set by the action.
    type: int
    default: 0
  members:
    description:
      - Hosts of the environment, by identity. Set by the action.
    type: dict
    default: {}
notes:
  - Requires root on the host.
"""

EXAMPLES = r"""
- name: Claim the lock on each host
  fivepointers.platform.lock:
    state: claimed
    directory: .artifacts/deployments
  register: claim

- name: Require a majority
  fivepointers.platform.lock:
    state: held
    claims: "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'claim'))) }}"
    directory: .artifacts/deployments
  run_once: true
  register: lock
"""

RETURN = r"""
id:
  description: Identifier of the run. It starts with the time.
  returned: always
  type: str
  sample: 20260101T120000Z-1a2b
by:
  description: Who runs the playbook.
  returned: always
  type: str
number:
  description: Fencing number.
  returned: with V(state=claimed) and V(state=held)
  type: int
mine:
  description: Whether this run has the host's register.
  returned: V(state=claimed)
  type: bool
member:
  description: Identity of the host.
  returned: V(state=claimed)
  type: str
members:
  description: Hosts that the last run had, by identity.
  returned: V(state=claimed)
  type: dict
problem:
  description: Who else has the register.
  returned: V(state=claimed)
  type: str
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fivepointers.platform.plugins.module_utils.common import register
from ansible_collections.fivepointers.platform.plugins.module_utils.release import leases


def claim(store: leases.HostStore, parameters: dict) -> dict:
    """Claim the register of this host; return what V(claimed) returns."""
    answer: dict = {"mine": True, "problem": "", "member": leases.member()}
    record: register.Record
    try:
        record = register.claim(
            store, parameters["id"], parameters["by"], parameters["since"], leases.read_fence(store.state)
        )
    except register.HeldError as error:
        record = error.record
        answer.update(mine=False, problem=str(error))
    members = record.get("members") or {}
    return {
        **answer,
        "number": int(record.get("number", 0)),
        "members": {str(key): str(name) for key, name in members.items()},
    }


def main() -> None:
    """Change the register."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["claimed", "held", "renewed", "released"], "required": True},
            "claims": {"type": "dict", "default": {}},
            "gone": {"type": "str", "default": ""},
            "intended": {"type": "int", "default": 0},
            "directory": {"type": "path"},
            "id": {"type": "str", "default": ""},
            "by": {"type": "str", "default": ""},
            "since": {"type": "str", "default": ""},
            "number": {"type": "int", "default": 0},
            "members": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    state, holder = parameters["state"], parameters["id"]
    if module.check_mode or state == "held":
        module.exit_json(changed=False)
    os.umask(0o022)
    store = leases.HostStore()
    try:
        if state == "claimed":
            module.exit_json(changed=False, **claim(store, parameters))
        change = register.renewed if state == "renewed" else register.released
        store.update(lambda record, _age: change(record, holder, parameters["number"], parameters["members"]))
    except register.LostError as error:
        module.fail_json(msg=str(error), lost=True)
    except (leases.HostError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
