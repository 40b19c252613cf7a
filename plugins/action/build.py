# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The part of build that tells what a long build does: the last line of its log, now and then."""

from __future__ import annotations

import os
import threading
import typing as t
from collections.abc import Callable, Iterable

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.fivepointers.platform.plugins.module_utils.common.processes import ESCAPES

#: Seconds between two lines.
EVERY = 30
#: So much of the log's end holds its last line.
END = 4096


def last_line(log: str, secrets: Iterable[str]) -> str:
    """Return the last line of a log, without colours and secrets; empty if there is none."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.path.getsize(log) - END))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    for secret in secrets:
        text = text.replace(secret, "********")
    lines = [line.strip() for line in ESCAPES.sub("", text).replace("\r", "\n").split("\n")]
    # The first one may have lost its beginning, and with it that of a secret.
    complete = lines if len(text) < END // 2 else lines[1:]
    return next((line for line in reversed(complete) if line), "")[:160]


def tell(log: str, secrets: Iterable[str], say: Callable[[str], t.Any], ended: threading.Event, every: float) -> None:
    """Say the last line of a log again and again, if it is another one, until something ended."""
    said = last_line(log, secrets)
    while not ended.wait(every):
        line = last_line(log, secrets)
        if line and line != said:
            say(line)
            said = line


class ActionModule(ActionBase):
    """Runs the module, and tells what its log says meanwhile."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the module."""
        result = super().run(tmp, task_vars)
        arguments = self._task.args
        service = arguments.get("service") or {}
        name, cache = str(service.get("name")), str(arguments.get("cache"))
        log = os.path.join(os.path.expanduser(cache), "build", name, "build.log")
        ended = threading.Event()

        def say(line: str) -> None:
            Display().display(f"{name}: {line}")

        secrets = [str(value) for value in (service.get("secrets") or {}).values()]
        teller = threading.Thread(target=tell, args=(log, secrets, say, ended, EVERY), daemon=True)
        teller.start()
        try:
            result.update(self._execute_module(module_name="fivepointers.platform.build", task_vars=task_vars))
        finally:
            ended.set()
            teller.join()
        return result
