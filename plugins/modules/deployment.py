#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Begin and end a deployment: lock, measurement, report."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: deployment
short_description: Lock an environment, measure a deployment, and report it
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Only one deployment at a time may change an environment. Its lock is a lease, kept in a file on the host where the
    task runs. All deployments must use the same host, so delegate the task to the first host by name.
  - From V(begun) on, a process on the controller renews the lease and probes the services through the front door, a few
    times per second, as users would. It ends with the play, however the play ends; then the lease expires.
  - Each lease has a fencing number. Hosts refuse a deployment whose number is lower than one they have seen, so a
    controller that was given up for dead cannot interfere later.
attributes:
  check_mode:
    description: Does nothing, because a dry run needs no lock.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
  action:
    description: The controller measures and reports.
    support: full
options:
  state:
    description:
      - V(begun) takes the lock and starts the measurement.
      - V(measured) waits until C(deployment.watch) seconds have passed since the last switch, and fails if the
        measurement exceeds the budget.
      - V(ended) stops the measurement, releases the lock, writes the report, and fails if the deployment failed.
      - V(renewed) is used by the process on the controller.
    type: str
    choices: [begun, measured, ended, renewed]
    required: true
  environment:
    description:
      - Environment of the plan, with its name, front door and deployment settings.
    type: dict
    default: {}
  services:
    description:
      - Services to measure, as the plan describes them.
    type: list
    elements: dict
    default: []
  origin:
    description:
      - Value of the header Origin of the WebSockets that measure.
    type: str
  ca_file:
    description:
      - Certificate authorities that the measurement trusts. Defaults to those of the system.
    type: path
  reports:
    description:
      - Directory on the controller for the report, which is written as JSON and as an HTML page.
    type: path
  begun:
    description:
      - What V(begun) returned.
    type: dict
    default: {}
  failures:
    description:
      - Other failures, such as those of the verification.
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
      - Who is deploying. Set by the action.
    type: str
    default: ''
notes:
  - Requires root on the host that keeps the lease.
"""

EXAMPLES = r"""
- name: Lock the environment and start to measure
  fivepointers.platform.deployment:
    state: begun
    environment: "{{ platform.environment }}"
    services: "{{ platform.services.values() }}"
    reports: .artifacts/deployments
  delegate_to: "{{ groups.platform | sort | first }}"
  run_once: true
  register: deployment

- name: Release the lock and report
  fivepointers.platform.deployment:
    state: ended
    begun: "{{ deployment }}"
  delegate_to: "{{ groups.platform | sort | first }}"
  run_once: true
"""

RETURN = r"""
id:
  description: Identifier of the deployment. It starts with the time.
  returned: V(state=begun)
  type: str
  sample: 20260101T120000Z-1a2b
number:
  description: Fencing number of the lease.
  returned: V(state=begun)
  type: int
by:
  description: Who is deploying.
  returned: V(state=begun)
  type: str
journal:
  description: File on the controller to which each phase is logged.
  returned: V(state=begun)
  type: str
watch:
  description: How many seconds the new releases are watched before the commit.
  returned: V(state=begun)
  type: float
outcome:
  description: V(committed), V(taken back) or V(failed).
  returned: V(state=ended)
  type: str
services:
  description: Services that the deployment was to change.
  returned: V(state=ended)
  type: list
  elements: str
table:
  description: The report as text.
  returned: V(state=ended)
  type: str
report:
  description: Path of the HTML report. The JSON report is next to it, under the same name.
  returned: V(state=ended)
  type: str
"""

import json
import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import write_file
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
            lease, now = leases.read_lease(path), time.time()
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
