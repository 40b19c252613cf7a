# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A deployment, on the controller: its measurement and its report."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import typing as t
from collections.abc import Mapping

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import write_file
from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import plain
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy import report as deploy_report
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy.companion import ask, beside, measure
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy.probe import Probe
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy.steps import (
    message_of,
    outcome_of,
    released,
    targets,
    timeline,
)

SETTLE = 10.0


class ActionModule(ActionBase):
    """Begin, measure or end a deployment."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Begin, measure or end."""
        super().run(tmp, task_vars)
        args = plain(self._task.args)
        state = args.get("state")
        if self._task.check_mode:
            return {"changed": False}
        if state == "begun":
            return self._begin(args)
        if state not in ("measured", "ended"):
            raise AnsibleActionFail("deployment: state is %r; write begun, measured or ended" % state)
        begun = args.get("begun") or {}
        if not begun.get("number"):
            # The lock was somebody else's: there is nothing to end.
            return {"changed": False, "skipped": True}
        return self._measure(begun) if state == "measured" else self._end(begun, args.get("failures") or [])

    def _begin(self, args: Mapping[str, t.Any]) -> dict[str, t.Any]:
        environment, lock = args["environment"], args.get("lock") or {}
        if not lock.get("number"):
            raise AnsibleActionFail("deployment: lock is not given; take it first, with the module lock")
        settings = environment["deployment"]
        reports = os.path.abspath(os.path.expanduser(args["reports"]))
        holder = lock["id"]
        os.makedirs(reports, exist_ok=True)
        begun = {
            "id": holder,
            "number": lock["number"],
            "by": lock["by"],
            "started": time.time(),
            "environment": environment["name"],
            "budget": {key: value for key, value in (settings["budget"] or {}).items() if value is not None},
            "watch": settings["watch"],
            "journal": os.path.join(reports, holder + ".steps"),
            "measurement": os.path.join(reports, holder + ".measurement"),
            "report": os.path.join(reports, holder + ".html"),
        }
        open(begun["journal"], "w", encoding="utf-8").close()
        probe = Probe(
            targets(args.get("services") or [], args.get("origin")) if settings["rate"] else [],
            rate=settings["rate"],
            ca_file=args.get("ca_file"),
            connect_to=environment["front_door"] or None,
        )
        begun["process"] = beside(lambda parent: measure(parent, probe, begun["measurement"]))
        return {"changed": False, **begun}

    def _measure(self, begun: Mapping[str, t.Any]) -> dict[str, t.Any]:
        switched = [step["end"] for step in self._steps(begun) if step["name"] == "switch"]
        time.sleep(max(0.0, max(switched, default=0.0) + begun["watch"] - time.time()))
        measured = ask(begun["process"], signal.SIGUSR1, begun["measurement"], SETTLE)
        if measured is None:
            return {"changed": False, "failed": True, "msg": "The process that measures the deployment has ended."}
        over = deploy_report.over_budget(measured, begun["budget"])
        return {"changed": False, "failed": bool(over), "msg": "\n".join(over), "over_budget": over}

    def _steps(self, begun: Mapping[str, t.Any]) -> list[dict[str, t.Any]]:
        with open(begun["journal"], encoding="utf-8") as handle:
            return [json.loads(line) for line in handle]

    def _end(self, begun: Mapping[str, t.Any], failures: list[str]) -> dict[str, t.Any]:
        measured = ask(begun["process"], signal.SIGTERM, begun["measurement"], SETTLE)
        steps = self._steps(begun)
        outcome = outcome_of(steps, failures)
        message = message_of(outcome, steps, failures)
        report = {
            "deployment": begun["id"],
            "environment": begun["environment"],
            "by": begun["by"],
            "started": "%s.%03dZ"
            % (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(begun["started"])), begun["started"] % 1 * 1000),
            "seconds": round(time.time() - begun["started"], 3),
            "outcome": outcome,
            "message": message,
            "services": released(steps),
            "steps": timeline(steps, begun["started"]),
            "probe": measured,
            "budget": begun["budget"],
            "over_budget": deploy_report.over_budget(measured, begun["budget"]) if measured else [],
        }
        write_file(begun["report"].removesuffix(".html") + ".json", json.dumps(report), 0o644)
        write_file(begun["report"], deploy_report.html(report), 0o644)
        for path in (begun["journal"], begun["measurement"]):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        return {
            "changed": False,
            "failed": outcome != "committed",
            "msg": message,
            "services": sorted(report["services"]),
            "outcome": outcome,
            "table": deploy_report.table(report),
            "report": begun["report"],
        }
