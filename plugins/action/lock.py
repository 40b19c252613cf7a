# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The controller's half of the lock: who runs, the processes that renew, and the count of the claims."""

from __future__ import annotations

import json
import os
import time
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import write_file
from ansible_collections.fivepointers.platform.plugins.module_utils.common.register import agreement
from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import plain
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy import companion

#: Seconds that giving a claim back may take.
PATIENCE = 20.0


class ActionModule(ActionBase):
    """The controller's half of lock."""

    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Claim, count or give back."""
        super().run(tmp, task_vars)
        self._variables = task_vars or {}
        if self._task.check_mode:
            return {"changed": False}
        args = plain(self._task.args)
        state = args.get("state")
        if state == "claimed":
            return self._claim(args)
        if state == "held":
            return self._hold(args)
        if state == "released":
            return self._release(args.get("claims") or {})
        raise AnsibleActionFail("lock: state is %r; write claimed, held or released" % state)

    def _call(self, state: str, **arguments: t.Any) -> dict[str, t.Any]:
        # As the release: a rollback needs the lock on a full disk, too.
        self._task.environment = [*(self._task.environment or []), {"TMPDIR": "/run"}]
        result: dict[str, t.Any] = self._execute_module(
            module_name="fivepointers.platform.lock",
            module_args={"state": state, **arguments},
            task_vars=self._variables,
        )
        result.pop("invocation", None)
        return result

    def _claim(self, args: dict[str, t.Any]) -> dict[str, t.Any]:
        holder, by = args["id"], companion.who()
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        result = self._call("claimed", id=holder, by=by, since=since)
        if not result.get("mine"):
            return result
        agreed = self._agreed(args)

        def change(state: str, **news: t.Any) -> bool | None:
            """Change the register; say whether it is ours, None where that cannot be told."""
            try:
                answer = self._call(state, id=holder, **news)
            except Exception:
                return None
            if answer.get("failed"):
                return False if "lost" in answer else None
            return True

        process = companion.beside(lambda parent: companion.keep(parent, change, agreed))
        return {**result, "id": holder, "by": by, "process": process}

    @staticmethod
    def _agreed(args: dict[str, t.Any]) -> str:
        return os.path.join(os.path.abspath(os.path.expanduser(args["directory"])), args["id"] + ".lock")

    def _hold(self, args: dict[str, t.Any]) -> dict[str, t.Any]:
        claims = args.get("claims") or {}
        answers = {name: item for name, item in claims.items() if "mine" in item}
        damaged = [
            "%s: %s" % (name, item.get("msg"))
            for name, item in claims.items()
            if name not in answers and not item.get("unreachable")
        ]
        gone = [name for name in (part.strip() for part in str(args.get("gone") or "").split(",")) if name]
        number, members, problems = agreement(answers, sorted(claims), gone, int(args.get("intended") or 0))
        if damaged or problems:
            return {"changed": False, "failed": True, "msg": "\n".join([*damaged, *problems])}
        path = self._agreed(args)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_file(path, json.dumps({"number": number, "members": members}), 0o644)
        return {"changed": False, "id": args["id"], "by": companion.who(), "number": number}

    def _release(self, claims: dict[str, t.Any]) -> dict[str, t.Any]:
        processes = [int(claim["process"]) for claim in claims.values() if claim.get("process")]
        if not companion.end(processes, PATIENCE):
            return {"changed": False, "warnings": ["The lock of the environment ends by itself within a minute."]}
        return {"changed": False}
