# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Verify an environment through its front door, from the controller: no module has to be packed and sent."""

from __future__ import annotations

import json
import os
import time
import typing as t
from importlib import import_module

from ansible.errors import AnsibleActionFail
from ansible.module_utils.basic import missing_required_lib
from ansible.plugins.action import ActionBase
from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import write_file
from ansible_collections.fivepointers.platform.plugins.module_utils.common.http_client import ProbeError
from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import plain
from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify.derive import explanations, summary, table
from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify.run import (
    Walker,
    make_result,
    packages_needed,
)

ARGUMENTS: dict[str, dict[str, t.Any]] = {
    "checks": {"type": "list", "elements": "dict", "required": True},
    "connect_to": {"type": "str"},
    "ca_file": {"type": "path"},
    "timeout": {"type": "float", "default": 5},
    "report": {"type": "path"},
    "strict": {"type": "bool", "default": False},
    "fail": {"type": "bool", "default": True},
}


def require(packages: list[str]) -> None:
    """Fail with the name of the first missing package."""
    for package in packages:
        try:
            import_module(package)
        except ImportError as error:
            raise AnsibleActionFail(missing_required_lib(package)) from error


def verify(params: dict[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Run the checks; return the result of the task."""
    start = time.monotonic()
    if check_mode:
        steps = [step for check in params["checks"] for step in check.get("steps", [check])]
        results = [make_result(step, "skipped", "", "not checked in check mode", 0.0) for step in steps]
    else:
        require(packages_needed(params["checks"]))
        try:
            walker = Walker(params["connect_to"], params["ca_file"], params["timeout"], params["strict"])
        except ProbeError as error:
            raise AnsibleActionFail(str(error)) from error
        results = walker.walk(params["checks"])
    seconds = round(time.monotonic() - start, 2)
    failures = explanations(results)
    answer: dict[str, t.Any] = {
        "changed": False,
        "results": results,
        "failures": failures,
        "summary": summary(results, seconds),
        "table": table(results, seconds),
        "seconds": seconds,
    }
    # Names that share a certificate share its warning.
    warnings = {f"{item['came']}: {item['likely']}": None for item in results if item["level"] == "warning"}
    if warnings:
        answer["warnings"] = list(warnings)
    if params["report"] and not check_mode:
        report = {
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "front_door": params["connect_to"],
            "ok": not failures,
            **{key: answer[key] for key in ("summary", "seconds", "results")},
        }
        try:
            write_file(os.path.abspath(params["report"]), json.dumps(report, indent=2) + "\n", 0o644)
        except OSError as error:
            return {
                **answer,
                "failed": True,
                "msg": "report %s cannot be written: %s" % (params["report"], error.strerror),
            }
    if failures and params["fail"]:
        return {**answer, "failed": True, "msg": "\n\n".join([answer["summary"], *failures])}
    return answer


class ActionModule(ActionBase):
    """All of verify."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Validate the arguments and walk."""
        super().run(tmp, task_vars)
        _validated, params = self.validate_argument_spec(ARGUMENTS)
        return verify(plain(params), self._task.check_mode)
