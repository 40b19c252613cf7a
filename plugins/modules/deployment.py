#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Begin and end a deployment: the environment's lock, the measurement, the report."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: deployment
short_description: Hold an environment's lock, measure, and report
version_added: '0.1.0'
author:
  - Five Pointers (@fivepointers)
description:
  - One deployment at a time works on an environment. Its lock is a lease in a file of one of the environment's hosts,
    on which the task runs; all deployments use the same host, so delegate it to the first one by name.
  - From V(begun) on, a process on the controller renews the lease and asks the services through the front door, a few
    times a second, as users do. It ends with the play, however that ends; then the lease ends by itself.
  - The lease has a number. Hosts refuse a deployment whose number is lower than one that they have seen, so that what
    a controller does that was thought dead comes too late.
attributes:
  check_mode:
    description: Nothing is done. A dry run needs no lock.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  action:
    description: Measures and reports on the controller.
    support: full
options:
  state:
    description:
      - V(begun) takes the lock and begins to measure.
      - V(measured) waits until C(deployment.watch) seconds have passed since the last switch, and fails if what was
        measured is over the budget.
      - V(ended) ends the measurement, gives the lock back, writes the report, and fails if the deployment did.
      - V(renewed) is what the process on the controller calls.
    type: str
    choices: [begun, measured, ended, renewed]
    required: true
  environment:
    description:
      - The plan's environment, with its name, front door and deployment settings.
    type: dict
    default: {}
  services:
    description:
      - The services that are measured, as the plan describes them.
    type: list
    elements: dict
    default: []
  origin:
    description:
      - Origin that WebSockets of the measurement come from.
    type: str
  ca_file:
    description:
      - Certificate authorities that the measurement trusts. Those of the system unless given.
    type: path
  reports:
    description:
      - Directory on the controller to which the report is written, as JSON and as an HTML page.
    type: path
  begun:
    description:
      - What V(begun) returned.
    type: dict
    default: {}
  failures:
    description:
      - What else went wrong, such as the texts of a verification.
    type: list
    elements: str
    default: []
  id:
    description:
      - Identifier of the deployment. Set by the action.
    type: str
    default: ''
  by:
    description:
      - Who deploys. Set by the action.
    type: str
    default: ''
notes:
  - Needs root on the host that keeps the lease.
"""

EXAMPLES = r"""
- name: Take the environment's lock, and measure from here on
  fivepointers.platform.deployment:
    state: begun
    environment: "{{ platform.environment }}"
    services: "{{ platform.services.values() }}"
    reports: .artifacts/deployments
  delegate_to: "{{ groups.platform | sort | first }}"
  run_once: true
  register: deployment

- name: Give the lock back and report
  fivepointers.platform.deployment:
    state: ended
    begun: "{{ deployment }}"
  delegate_to: "{{ groups.platform | sort | first }}"
  run_once: true
"""

RETURN = r"""
id:
  description: Identifier of the deployment. It begins with the time.
  returned: V(state=begun)
  type: str
  sample: 20260101T120000Z-1a2b
number:
  description: The lease's number.
  returned: V(state=begun)
  type: int
by:
  description: Who deploys.
  returned: V(state=begun)
  type: str
journal:
  description: File on the controller in which each phase notes what it did.
  returned: V(state=begun)
  type: str
watch:
  description: Seconds for which the new releases are watched before the commit.
  returned: V(state=begun)
  type: float
outcome:
  description: V(committed), V(taken back) or V(failed).
  returned: V(state=ended)
  type: str
services:
  description: The services that were to change.
  returned: V(state=ended)
  type: list
  elements: str
table:
  description: The report as text.
  returned: V(state=ended)
  type: str
report:
  description: Path of the report as an HTML page; the JSON file beside it has the same name.
  returned: V(state=ended)
  type: str
"""

import json
import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import read_record, write_file
from ansible_collections.fivepointers.platform.plugins.module_utils.release import leases


def main() -> None:
    """Change the lease."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["begun", "measured", "ended", "renewed"], "required": True},
            "environment": {"type": "dict", "default": {}},
            "services": {"type": "list", "elements": "dict", "default": []},
            "origin": {"type": "str"},
            "ca_file": {"type": "path"},
            "reports": {"type": "path"},
            "begun": {"type": "dict", "default": {}},
            "failures": {"type": "list", "elements": "str", "default": []},
            "id": {"type": "str", "default": ""},
            "by": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    state, holder = module.params["state"], module.params["id"]
    if module.check_mode or state == "measured":
        module.exit_json(changed=False)
    os.umask(0o022)
    path = os.path.join(leases.STATE, "lease.json")
    try:
        with leases.host_locked():
            lease, now = read_record(path), time.time()
            if state == "begun":
                lease = leases.acquired(lease, holder, module.params["by"], now)
            else:
                lease = (leases.renewed if state == "renewed" else leases.released)(lease, holder, now)
            write_file(path, json.dumps(lease) + "\n", 0o644)
    except leases.LeaseError as error:
        module.fail_json(msg=str(error), lost=True)
    except (leases.HostError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, number=lease["number"])


if __name__ == "__main__":
    main()
