#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Measure and report a deployment."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: deployment
short_description: Measure a deployment, and report it
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - From V(begun) on, a process on the controller probes the services through the front door, a few times per second, as
    users would. It ends with the play, however the play ends.
  - Runs on the controller, whatever host the task has.
attributes:
  check_mode:
    description: Does nothing.
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
      - V(begun) starts the measurement.
      - V(measured) waits until C(deployment.watch) seconds have passed since the last switch, and fails if the
        measurement exceeds the budget.
      - V(ended) stops the measurement, writes the report, and fails if the deployment failed.
    type: str
    choices: [begun, measured, ended]
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
  lock:
    description:
      - What M(fivepointers.platform.lock) returned. Required with V(begun).
    type: dict
    default: {}
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
"""

EXAMPLES = r"""
- name: Start to measure
  fivepointers.platform.deployment:
    state: begun
    lock: "{{ lock }}"
    environment: "{{ platform.environment }}"
    services: "{{ platform.services.values() }}"
    reports: .artifacts/deployments
  run_once: true
  register: deployment

- name: Report
  fivepointers.platform.deployment:
    state: ended
    begun: "{{ deployment }}"
  run_once: true
"""

RETURN = r"""
id:
  description: Identifier of the deployment. It starts with the time.
  returned: V(state=begun)
  type: str
  sample: 20260101T120000Z-1a2b
number:
  description: Fencing number of the lock.
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

# The action plugin of the same name does it, on the controller.
