#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Walk through the front door as a user's browser would, and say whether it is as described."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: verify
short_description: Verify an environment through its front door
version_added: '0.1.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Carries out the checks that P(fivepointers.platform.verification#filter) derives, through the address that users
    reach, with the names, TLS and headers that a browser would send.
  - Independent checks run at the same time. The steps of a journey follow each other, and stop at the first failure.
  - Journeys write what a user would write, under names that no other run uses.
  - Passwords, tokens and cookies appear in no result.
  - Runs on the controller.
requirements:
  - The Python package C(websockets), where a service speaks WebSocket.
  - The Python package C(pycrdt), where a journey edits a Y.js document.
options:
  checks:
    description:
      - The checks, from P(fivepointers.platform.verification#filter).
    type: list
    elements: dict
    required: true
  connect_to:
    description:
      - The front door's address, where the public names do not (yet) point to it. Without it, DNS decides.
    type: str
  ca_file:
    description:
      - PEM file of the certificate authorities to trust. Without it, those that the system trusts.
    type: path
  timeout:
    description:
      - Seconds that one answer may take, and that an edit may take to arrive.
    type: float
    default: 5
  report:
    description:
      - JSON file to write the results to. Its folder is made where it is missing.
    type: path
  fail:
    description:
      - Whether a failed check fails the task. Otherwise look at RV(failures).
    type: bool
    default: true
attributes:
  check_mode:
    description: Asks nothing and writes nothing. All checks come back as skipped.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
"""

EXAMPLES = r"""
- name: Walk through the front door
  fivepointers.platform.verify:
    checks: "{{ platform | fivepointers.platform.verification(catalogue) }}"
    connect_to: 10.0.0.10
    ca_file: /etc/ssl/private-ca.pem
    report: verification.json
"""

RETURN = r"""
results:
  description: Every check with what was asked, expected and seen.
  returned: always
  type: list
  elements: dict
  contains:
    check: {description: What was checked., type: str}
    service: {description: The service., type: str}
    journey: {description: The journey that the step belongs to., type: str, returned: for steps}
    asked: {description: The question., type: str}
    expected: {description: What should have come., type: str}
    came: {description: What came., type: str}
    ok: {description: Whether it was as expected., type: bool}
    level: {description: ok; warning; failed; skipped., type: str}
    seconds: {description: How long it took., type: float}
    likely: {description: What usually lies behind such a failure., type: str}
    look: {description: Where to look, type: str}
table:
  description: The results as aligned text.
  returned: always
  type: str
failures:
  description: For each failure a text with what was asked, expected and seen, and where to look.
  returned: always
  type: list
  elements: str
summary:
  description: One line with the counts.
  returned: always
  type: str
  sample: '38 checks: 38 ok, in 1.9 s'
seconds:
  description: How long the whole verification took.
  returned: always
  type: float
"""

import json
import os
import tempfile
import time
import traceback
from importlib import import_module
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.fivepointers.platform.plugins.module_utils.probing import ProbeError
from ansible_collections.fivepointers.platform.plugins.module_utils.verification import explanations, summary, table
from ansible_collections.fivepointers.platform.plugins.module_utils.walking import (
    Walker,
    make_result,
    packages_needed,
)


def require(module: AnsibleModule, packages: list[str]) -> None:
    """Fail with the name of a package that is missing."""
    for package in packages:
        try:
            import_module(package)
        except ImportError:
            module.fail_json(msg=missing_required_lib(package), exception=traceback.format_exc())


def write_report(path: str, report: dict[str, Any]) -> None:
    """Put the report in place as a whole."""
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".verification-")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(report, file, indent=2)
            file.write("\n")
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "checks": {"type": "list", "elements": "dict", "required": True},
            "connect_to": {"type": "str"},
            "ca_file": {"type": "path"},
            "timeout": {"type": "float", "default": 5},
            "report": {"type": "path"},
            "fail": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    start = time.monotonic()
    if module.check_mode:
        steps = [step for check in params["checks"] for step in check.get("steps", [check])]
        results = [make_result(step, "skipped", "", "not asked in check mode", 0.0) for step in steps]
    else:
        require(module, packages_needed(params["checks"]))
        try:
            walker = Walker(params["connect_to"], params["ca_file"], params["timeout"])
        except ProbeError as error:
            module.fail_json(msg=str(error))
        results = walker.walk(params["checks"])
    seconds = round(time.monotonic() - start, 2)
    failures = explanations(results)
    answer: dict[str, Any] = {
        "results": results,
        "failures": failures,
        "summary": summary(results, seconds),
        "table": table(results, seconds),
        "seconds": seconds,
    }
    if params["report"] and not module.check_mode:
        report = {
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "front_door": params["connect_to"],
            "ok": not failures,
            **{key: answer[key] for key in ("summary", "seconds", "results")},
        }
        try:
            write_report(params["report"], report)
        except OSError as error:
            module.fail_json(msg=f"report {params['report']} cannot be written: {error.strerror}", **answer)
    if failures and params["fail"]:
        module.fail_json(msg="\n\n".join([answer["summary"], *failures]), changed=False, **answer)
    module.exit_json(changed=False, **answer)


if __name__ == "__main__":
    main()
