# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The steps of a deployment: what each did on a host, and the outcome of all of them."""

from __future__ import annotations

import json
import time
import typing as t
from collections.abc import Mapping, Sequence

from ansible_collections.fivepointers.platform.plugins.module_utils.common.processes import readable
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy.report import ENDINGS


def record_step(
    args: Mapping[str, t.Any], host: str, specs: list[dict[str, t.Any]], started: float, result: Mapping[str, t.Any]
) -> None:
    """Record what a phase did on a host in the deployment's journal on the controller, if there is one.

    One line each, written in a single call, since the phases of all hosts write at the same time.
    """
    journal = (args.get("deployment") or {}).get("journal")
    if not journal or not (result.get("services") or result.get("failed")):
        return
    step = {
        "name": args.get("phase", "all").replace("_", " "),
        "host": host,
        "services": [spec["name"] for spec in specs],
        "start": started,
        "end": time.time(),
        "changed": bool(result.get("changed")),
        "failed": bool(result.get("failed")),
        "message": str(result.get("msg", "")) if result.get("failed") else "",
        "releases": {
            name: {
                "from": item["serving"],
                "to": item["release"],
                **({"of": item["of"]} if item.get("of") else {}),
            }
            for name, item in (result.get("services") or {}).items()
            if "serving" in item
        },
    }
    with open(journal, "a", encoding="utf-8") as handle:
        handle.write(json.dumps(step) + "\n")


# The label used for a wildcard address, and the name of the document that is edited.
PROBE = "deployment-probe"

# Statuses that come from the application; the errors of a gateway start at 500.
ANSWERED = list(range(200, 500))


def targets(services: Sequence[Mapping[str, t.Any]], origin: str | None = None) -> list[dict[str, t.Any]]:
    """Return what is requested during a deployment: each public service once, as users reach it."""
    found: list[dict[str, t.Any]] = []
    for service in services:
        if not service["public"]:
            continue
        url = service["url"].replace("*", PROBE, 1).rstrip("/")
        if url.startswith("wss:"):
            if service["yjs"]:
                target = {"service": service["name"], "kind": "websocket", "url": "%s/%s" % (url, PROBE)}
                found.append({**target, "origin": origin})
            continue
        path = service["health"].get("path") or "/"
        found.append({"service": service["name"], "kind": "http", "url": url + path, "status": ANSWERED})
    return found


def outcome_of(steps: Sequence[Mapping[str, t.Any]], failures: Sequence[str]) -> str:
    """Return the outcome of a deployment with these steps."""
    back = {step["host"]: not step["failed"] for step in steps if step["name"] == "take back"}
    if _ending_failed(steps):
        return "failed"
    if not back and not failures and not any(step["failed"] for step in steps):
        return "committed"
    switched = {step["host"] for step in steps if step["name"] == "switch"}
    return "taken back" if all(back.values()) and switched <= set(back) else "failed"


def _ending_failed(steps: Sequence[Mapping[str, t.Any]]) -> bool:
    """Whether services could not be retired or purged, which is never reverted."""
    return any(step["name"] in ENDINGS and step["failed"] for step in steps)


def released(steps: Sequence[Mapping[str, t.Any]]) -> dict[str, dict[str, t.Any]]:
    """Return, for each service that was to change, its releases before and after, and its hosts."""
    found: dict[str, dict[str, t.Any]] = {}
    for step in steps:
        if step["name"] not in ("prepare", "switch"):
            continue
        for name, change in step["releases"].items():
            if change["from"] == change["to"]:
                continue
            entry = found.setdefault(name, {**change, "hosts": []})
            if step["host"] not in entry["hosts"]:
                entry["hosts"].append(step["host"])
    return found


def timeline(steps: Sequence[Mapping[str, t.Any]], started: float) -> list[dict[str, t.Any]]:
    """Return the phases as the report draws them, in seconds since the start; the gap between is the verification."""
    drawn = [
        {
            "name": step["name"],
            "services": step["services"],
            "host": step["host"],
            "start": round(step["start"] - started, 3),
            "end": round(step["end"] - started, 3),
        }
        for step in steps
    ]
    switched = [step["end"] for step in drawn if step["name"] == "switch"]
    after = [step["start"] for step in drawn if step["name"] in ("commit", "take back")]
    if switched and after and min(after) > max(switched):
        drawn.append({"name": "verify", "services": [], "host": "", "start": max(switched), "end": min(after)})
    return sorted(drawn, key=lambda step: step["start"])


def message_of(outcome: str, steps: Sequence[Mapping[str, t.Any]], failures: Sequence[str]) -> str:
    """Return everything an operator needs to know about a failed deployment."""
    if outcome == "committed":
        return ""
    texts = ["%s: %s" % (step["host"], step["message"]) for step in steps if step["failed"]]
    if _ending_failed(steps):
        end = "Fix that, then run the same again: it continues from the current state."
    elif any(step["name"] == "commit" for step in steps):
        end = (
            "The new releases are live. Only the commit is incomplete (see above): fix that, then run deploy.yml again "
            "to complete it."
        )
    elif outcome == "taken back":
        end = "The deployment was reverted: the previous releases are live again."
    else:
        end = (
            "The deployment could not be reverted everywhere (see above), so hosts may serve different releases. A "
            "host that is running takes its own switch back within a minute. Fix the errors above, then run deploy.yml "
            "again: it continues from the current state. releases.yml shows what is live."
        )
    return readable("\n\n".join([*texts, *failures, end]))
