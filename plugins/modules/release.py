#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Release the services of a host: one call for each phase."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release
short_description: Release services on a host through two slots and a flag file
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Starts the newest artifact of each service in its idle slot, waits until it is healthy, and switches the host's
    nginx to it by creating or removing one file. The old release keeps serving until then, and drains afterwards.
  - A release is code, environment, unit, front configuration and Node.js version under one identifier, which is
    derived from their contents. If that release is live already, nothing happens, at the cost of one call.
  - The archive is sent only to hosts that do not have it. They verify its checksum before they unpack it.
  - A candidate that does not become healthy is stopped and never receives a request.
attributes:
  check_mode:
    description: Lists everything that would be done, even on a host where nothing is installed yet.
    support: full
  diff_mode:
    description: Shows the unit and the front configuration. Of environment variables it shows the names only.
    support: full
  action:
    description: The controller reads the artifacts and renders all files.
    support: full
options:
  services:
    description:
      - Services of this host, as the plan describes them.
    type: list
    elements: dict
    required: true
  artifacts:
    description:
      - Directory on the controller that holds the artifacts, in one subdirectory per service.
    type: path
  artifact_ids:
    description:
      - Artifacts to release instead of the newest ones, by service.
    type: dict
    default: {}
  artifact_keys:
    description:
      - Public keys, one of which has to have signed an artifact, as C(platform_environment.artifact_signing.keys).
      - Nobody has to sign artifacts if there are none.
    type: list
    elements: str
    default: []
  environment_digests:
    description:
      - RV(environment_digests) of an earlier phase with the same services and secrets. It is expensive to compute.
    type: dict
    default: {}
  secrets:
    description:
      - Values of the secrets that the services' environment refers to, by name.
      - With O(targets), values of the secrets that the kept releases refer to.
    type: dict
    default: {}
  nodejs_archives:
    description:
      - Table of Node.js versions, as the role nodejs takes it. It resolves V(24) to an exact version.
    type: dict
    default: {}
  targets:
    description:
      - Releases to roll back to, by service. They must still be kept on the host, and come back as they were, with
        their code, environment, unit, front and runtime. Replaces artifacts.
    type: dict
    default: {}
  target_secrets:
    description:
      - For those of O(targets) that take O(secrets), by service, the names of the secrets that they refer to.
      - The others come back with the values that they had. A release that differs only in its secrets gets an
        identifier of its own.
    type: dict
    default: {}
  lacking:
    description:
      - Services whose archive is sent right away instead of when the host asks for it. Saves a call.
      - RV(lacking) of V(plan).
    type: list
    elements: str
    default: []
  phase:
    description:
      - V(plan) only reports the drift.
      - V(prepare) starts each release that differs in its idle slot and waits until it is healthy. Migrations of a
        service that nothing serves yet run before.
      - V(migrate) runs the migrations of prepared releases, on the first of a service's hosts only.
      - V(switch) sends new requests to the prepared releases. The old ones keep running.
      - V(confirm) ends the watch over the switch. Until then, a host takes the switch back by itself if the controller
        is lost, that is if it has ended or was silent for a minute.
      - V(commit) stops the old releases, after their drain or their hold time, and prunes.
      - V(take_back) reverts switches that are not committed, and stops candidates.
      - V(all) is prepare, migrate, switch and commit. If it fails before the commit, it takes back its switches.
      - V(give_back) removes the fronts, stops the slots, and restarts what O(adopt) stopped. It needs no artifacts, and
        does nothing for services that were not adopted.
      - V(look) returns which releases are live and which are kept. It needs no artifacts.
      - V(retire) stops services that are not described for this host, and removes their fronts, units, boot links,
        environment files and flags. It needs their names only. Their releases, users and data stay. With
        V(prepare), V(switch), V(commit) and O(targets), they come back.
      - V(purge) removes what V(retire) leaves. There is no way back.
    type: str
    choices: [plan, look, prepare, migrate, switch, confirm, commit, take_back, give_back, all, retire, purge]
    default: all
  deployment:
    description:
      - What M(fivepointers.platform.deployment) returned. A host refuses a deployment if a later one has been there.
      - It also names the file on the controller to which the action logs each phase and its duration.
    type: dict
    default: {}
  allow_contract_migrations:
    description:
      - Whether migrations may remove or narrow what the live release still uses.
    type: bool
    default: false
  allow_older:
    description:
      - Services whose code may be replaced by code of an older git commit. V(all) for every service.
    type: list
    elements: str
    default: []
  adopt:
    description:
      - Whether to take the front's port over from another process, such as the same application run by pm2 or nohup.
        That process is recorded first, so that it can be restarted later, and stopped just before the front takes its
        place.
      - If false, the release is refused while another process holds the port.
    type: bool
    default: false
  described:
    description:
      - Names of all services that this host is to run, and C(edge) if it is one. With it, V(plan) and V(look) report
        what else is on the host, and no release takes the port of such a service.
    type: list
    elements: str
  catalogue:
    description:
      - Names of the services of all hosts, which an edge may have closed for maintenance.
    type: list
    elements: str
    default: []
  here:
    description:
      - Services that run by a schedule, and do so on this host. Set by the action.
    type: list
    elements: str
    default: []
  compared:
    description:
      - What V(plan) returned on each host of the environment. Whether a migration runs before the start, and whether it
        may take something away, then depends on what serves on any host, not on this one alone. V(plan) ignores it.
    type: list
    elements: dict
    default: []
  anywhere:
    description:
      - What O(compared) says of each service. Set by the action.
    type: dict
    default: {}
  requests:
    description:
      - O(services) as the action prepared them. Not for use in playbooks.
    type: list
    elements: dict
    default: []
  sent:
    description:
      - Archives that the action has sent, by service. Not for use in playbooks.
    type: dict
    default: {}
  host:
    description:
      - Name of the host in messages. Set by the action.
    type: str
    default: this host
notes:
  - Requires root on the host, systemd, and nginx as the role nginx sets it up.
  - Secrets are written to files that only root can read. They never appear in messages, diffs or identifiers, nor do
    those of the releases that the host keeps. Values of fewer than six characters are not masked.
"""

EXAMPLES = r"""
- name: Release the services of this host
  fivepointers.platform.release:
    services: "{{ services_of_this_host }}"
    artifacts: "{{ platform_artifacts }}"
    secrets: "{{ service_secrets }}"
    nodejs_archives: "{{ platform_environment.nodejs }}"

- name: Report what a release would do
  fivepointers.platform.release:
    services: "{{ services_of_this_host }}"
    artifacts: "{{ platform_artifacts }}"
    secrets: "{{ service_secrets }}"
    nodejs_archives: "{{ platform_environment.nodejs }}"
    phase: plan
"""

RETURN = r"""
services:
  description: What each service has, and what was or would be done.
  returned: always
  type: dict
  contains:
    release:
      description: Identifier of the desired release.
      type: str
    serving:
      description: Identifier of the release that was live before. Empty if there was none.
      type: str
    live:
      description: Slot that was live before.
      type: str
    slot:
      description: Slot of the desired release.
      type: str
    changed:
      description: Whether the host differed from the desired state.
      type: bool
    older:
      description: Why its code is older than what is live. Empty if it is not, or if that is unknown.
      type: str
    ready:
      description: Whether the desired release is prepared and only the switch is missing.
      type: bool
    of:
      description: Identifier of the kept release that the desired one is, except that its secrets are those of now.
      returned: if a release of O(targets) has other secrets now
      type: str
    contracts:
      description: Contract migrations that its database has, as far as this host recorded them.
      returned: with O(phase=plan)
      type: list
      elements: str
    reasons:
      description: What differed.
      type: list
      elements: str
    steps:
      description: What had to be done.
      type: list
      elements: str
  sample:
    api: {release: 3f2a9c01b7de, serving: 91c04d55e2aa, live: blue, slot: green, changed: true, older: '', ready: false,
          reasons: ['its code differs (5f0c, was 8b1e)'],
          steps: ['switch api from slot blue (release 91c04d55e2aa) to slot green (release 3f2a9c01b7de)']}
undescribed:
  description: Services that are on the host and not in O(described).
  returned: with O(phase=plan) or O(phase=look), when O(described) is given
  type: dict
  contains:
    has:
      description: What there is of it.
      type: list
      elements: str
    runs:
      description: Whether any of that serves, starts at boot, or holds secrets outside of its releases.
      type: bool
    release:
      description: Identifier of its live release.
      type: str
    since:
      description: When that was switched to.
      type: str
    retired:
      description: Which release was retired, when and by whom. Empty if it was not.
      type: dict
    contracts:
      description: Contract migrations that its database has, as far as this host recorded them.
      type: list
      elements: str
  sample:
    tenants: {has: [unit, boot link, front, environment file, releases, state, user], runs: true,
              release: 3f2a9c01b7de, since: '2026-01-01T12:00:00Z', retired: {},
              contracts: []}
upstreams:
  description: To which servers the nginx of this host sends requests, by upstream.
  returned: with O(phase=look)
  type: dict
differing:
  description: Services that differ, or differed before, from the desired state.
  returned: always
  type: list
  elements: str
artifacts:
  description: Identifiers of the artifacts by service. Pass them to the next phases as O(artifact_ids).
  returned: when artifacts are released
  type: dict
environment_digests:
  description: Digests of the services' environment variables. Pass them to the next phases as O(environment_digests).
  returned: when artifacts are released
  type: dict
lacking:
  description: With O(phase=plan), services whose archive the host does not have, if it fits on its disk.
  returned: always
  type: list
  elements: str
adopted:
  description: Ports that were taken over or returned, by service.
  returned: always
  type: dict
  contains:
    was:
      description: Process that held the port before.
      type: str
    outage_ms:
      description: Milliseconds from the moment the port was released to the first answer of the new holder.
      type: float
    given_back:
      description: Whether the port was returned.
      type: bool
  sample:
    api: {was: "pm2's process api (0) of user ubuntu", outage_ms: 41.5, given_back: false}
needs:
  description: Services whose archive the host does not have. The action then sends them.
  returned: when an archive is missing
  type: list
  elements: str
"""

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import listed
from ansible_collections.fivepointers.platform.plugins.module_utils.common.masks import forms, longest_first
from ansible_collections.fivepointers.platform.plugins.module_utils.release import (
    adoption,
    confirm,
    environments,
    leases,
    leftovers,
    phases,
    releases,
    retirement,
    schedules,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.release import files as release_files


def read(path: str) -> str:
    """Return the text of a file, empty if there is none."""
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read()
    except OSError:
        return ""


def environment_names(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return the names of environment variables, and mark those that differ."""
    lines = []
    for name in sorted(set(before) | set(after)):
        state = "new" if name not in before else "removed" if name not in after else ""
        if not state and before[name] != after[name]:
            state = "differs"
        lines.append(name + (" (%s)" % state if state else ""))
    return lines


def difference(
    wanted: releases.Wanted, todo: releases.Plan, secrets: dict[str, str], done: bool
) -> list[dict[str, str]]:
    """Return the diff of one service: steps, then unit, front and names of variables."""
    title = "%s: release %s" % (wanted.name, wanted.release)
    steps = "".join("%s %s\n" % ("+" if done else "+ would", step) for step in todo.steps)
    why = "".join("  because %s\n" % reason for reason in todo.reasons)
    shown = [{"prepared": "%s\n%s%s" % (title, why, steps)}]
    if not todo.candidate:
        return shown
    old = releases.release_path(wanted.name, todo.serving) if todo.serving else ""
    pairs = [("front", read(os.path.join(old, "front.conf")) if old else "", wanted.front)]
    if wanted.process:
        # The identifier of the release in it is no difference.
        unit = read(os.path.join(old, "unit")).replace(todo.serving, wanted.release) if old else ""
        pairs.append(("unit", unit, wanted.unit))
        before = json.loads(read(os.path.join(old, "environment")) or "{}") if old else {}
        # A kept release comes with its values, and another one with its templates.
        kept = read(os.path.join(releases.release_path(wanted.name, wanted.release), environments.VALUES))
        after = json.loads(kept) if kept else releases.fill_secrets(wanted.environment, secrets)
        names = "\n".join(environment_names(before, after)) + "\n"
        pairs.append(("names of environment variables", "\n".join(sorted(before)) + "\n" if before else "", names))
    for what, before_text, after_text in pairs:
        if before_text != after_text:
            header = "%s: %s" % (wanted.name, what)
            shown.append({"before_header": header, "after_header": header, "before": before_text, "after": after_text})
    return shown


def would_change(job: phases.Job, phase: str) -> bool:
    """Return whether a phase would change the host."""
    candidates = job.candidates()
    if phase == "prepare":
        lost = any(seen.lost and seen.live for seen in job.seen.values())
        if confirm.inherited(job):
            return True
        return lost or any(not step.ready for _item, step in candidates) or bool(phases.abandoned(job))
    if phase == "migrate":
        return any(step.migrate and not step.migrates_first for _item, step in candidates)
    if phase == "take_back":
        pending = any(seen.pending for seen in job.seen.values())
        return pending or bool(candidates) or bool(phases.timers_to_resume(job))
    if phase == "give_back":
        return any(adoption.recorded(item.name) for item in job.wanted)
    if phase == "switch":
        fronts = any(step.changed and step.front for step in job.plans.values())
        return bool(candidates) or fronts or bool(phases.timers_to_stop(job))
    return any(step.changed for step in job.plans.values())


PHASES = {
    "prepare": phases.prepare,
    "migrate": phases.migrate,
    "switch": phases.switch,
    "confirm": confirm.confirm,
    "commit": phases.commit,
    "take_back": phases.take_back,
    "give_back": phases.give_back,
}


def perform(job: phases.Job, phase: str) -> bool:
    """Run a phase; return whether it changed the host."""
    inherited = phase == "prepare" and confirm.inherit(job)
    if inherited:
        job.refresh()
    if job.author and (job.candidates() or phases.timers_to_stop(job)):
        if phase == "prepare":
            confirm.install()
        if phase == "switch":
            confirm.watch()
        if phase == "commit":
            confirm.require_switched(job)
    if phase != "all":
        return PHASES[phase](job) or inherited
    before = {name: seen.pending for name, seen in job.seen.items()}
    try:
        done = [advance(job, step) for step in ("prepare", "migrate", "switch")]
    except phases.ERRORS as error:
        raise releases.ReleaseError(phases.explain(error) + undo(job, before)) from error
    # No way back from here on: the next run commits what this one does not.
    return advance(job, "commit") or any(done)


def advance(job: phases.Job, phase: str) -> bool:
    """Run a phase, and look again if it changed the host; return whether it did."""
    changed = PHASES[phase](job)
    if changed:
        job.refresh()
    return changed


def undo(job: phases.Job, before: Mapping[str, Mapping[str, Any]]) -> str:
    """Take back what a failed run has switched, and stop its candidates; return what was taken back, in words.

    before: the switches that were not committed when it began, by service. Another run made them, which may have
    confirmed them, so that other hosts commit the same ones: they stay.
    """
    try:
        job.refresh()
        mine = [
            item for item in job.wanted if not before[item.name] or job.seen[item.name].pending != before[item.name]
        ]
        switched = [item.name for item in mine if job.seen[item.name].pending]
        phases.take_back(dataclasses.replace(job, wanted=mine))
    except phases.ERRORS as error:
        return "\nThe way back failed as well, so that both releases may serve: %s" % phases.explain(error)
    told = ["What was switched to before that was taken back: %s." % ", ".join(switched)] if switched else []
    return "".join("\n" + text for text in [*told, *job.warnings])


def adoptions(job: phases.Job, phase: str) -> dict[str, str]:
    """Describe which ports were taken over or returned, or would be returned."""
    told = {
        name: "%s %s, and nobody answered for %g ms"
        % ("started again" if item["given_back"] else "took over from", item["was"], item["outage_ms"])
        for name, item in job.adopted.items()
    }
    if phase == "give_back" and not told:
        records = {item.name: adoption.recorded(item.name) for item in job.wanted}
        told = {name: "would start %s again" % record["was"] for name, record in records.items() if record}
    return told


def look(names: list[str]) -> dict[str, dict[str, Any]]:
    """Return which releases of each service are live, were live before, and are kept."""
    found = {}
    for name in names:
        state = releases.read_state(name)
        kept = []
        for release in listed(releases.release_path(name)):
            record = releases.read_release(name, release)
            if record:
                archive = record.get("wanted", {}).get("archive", {})
                kept.append(
                    {
                        "release": release,
                        "artifact": record.get("artifact", ""),
                        "staged": record.get("staged", 0),
                        "bytes": archive.get("unpacked", 0),
                        "schema": read_list(os.path.join(releases.release_path(name, release), "schema.json")),
                        "secrets": environments.secrets_of(name, release),
                    }
                )
        held = state.get("held") or {}
        found[name] = {
            "live": state.get("live") or {},
            "pending": state.get("pending") or {},
            "unconfirmed": state.get("unconfirmed") or {},
            "previous": release_files.previous(state),
            "held": held if held.get("until", 0) > time.time() else {},
            "history": state.get("history", []),
            "kept": sorted(kept, key=lambda item: -item["staged"]),
            "schema": read_list(os.path.join(releases.STATE, name, "schema.json")),
            "timer": schedules.look(name),
        }
    return found


def read_list(path: str) -> list[Any]:
    """Return the JSON list in a file, empty if there is none."""
    try:
        found = json.loads(read(path) or "[]")
    except ValueError:
        return []
    return found if isinstance(found, list) else []


def mask(module: AnsibleModule, wanted: list[releases.Wanted]) -> None:
    """Have Ansible mask the secrets that were passed, and those that the host keeps of these services."""
    parameters = module.params
    texts = {text for value in parameters["secrets"].values() for text in forms(str(value))}
    services: dict[str, Any] = {name: {} for name in [*parameters["targets"], *(item.name for item in wanted)]}
    services.update({str(item.get("name", "")): item.get("environment") or {} for item in parameters["requests"]})
    # It replaces them in this order, and would take them in any.
    module.no_log_values = longest_first(texts | environments.kept_masks(services))


def main() -> None:
    """Observe, plan, run, report."""
    module = AnsibleModule(
        argument_spec={
            "services": {"type": "list", "elements": "dict", "required": True},
            "artifacts": {"type": "path"},
            "artifact_ids": {"type": "dict", "default": {}},
            "artifact_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "environment_digests": {"type": "dict", "default": {}},
            "targets": {"type": "dict", "default": {}},
            "target_secrets": {"type": "dict", "default": {}, "no_log": False},
            "lacking": {"type": "list", "elements": "str", "default": []},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "nodejs_archives": {"type": "dict", "default": {}},
            "phase": {
                "type": "str",
                "choices": ["plan", "look", *PHASES, "all", "retire", "purge"],
                "default": "all",
            },
            "deployment": {"type": "dict", "default": {}},
            "allow_contract_migrations": {"type": "bool", "default": False},
            "allow_older": {"type": "list", "elements": "str", "default": []},
            "adopt": {"type": "bool", "default": False},
            "here": {"type": "list", "elements": "str", "default": []},
            "described": {"type": "list", "elements": "str"},
            "catalogue": {"type": "list", "elements": "str", "default": []},
            "compared": {"type": "list", "elements": "dict", "default": []},
            "anywhere": {"type": "dict", "default": {}},
            "requests": {"type": "list", "elements": "dict", "default": []},
            "sent": {"type": "dict", "default": {}},
            "host": {"type": "str", "default": "this host"},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    parameters = module.params
    secrets = parameters["secrets"]
    phase = parameters["phase"]
    deployment = parameters["deployment"]
    try:
        names = [str(item["name"]) for item in parameters["requests"]]
        if phase == "look":
            more = beside(parameters)
            found = look([*names, *more.get("undescribed", [])])
            module.exit_json(changed=False, services=found, upstreams=leftovers.upstreams(), **more)
        if phase in ("retire", "purge"):
            end(module, phase, names)
        if phase == "give_back":
            adopted = (adoption.live_release(str(item["name"])) for item in parameters["requests"])
            wanted = [item for item in adopted if item]
        elif parameters["targets"]:
            wanted = [releases.load_wanted(name, release) for name, release in parameters["targets"].items()]
            # What comes back after it was retired is in no plan.
            described = parameters["described"]
            back = [x.name for x in wanted if described is not None and x.name not in described]
            here = [*parameters["here"], *filter(releases.had_timer, back)]
            wanted = [dataclasses.replace(x, here=bool(x.schedule) and x.name in here) for x in wanted]
            if phase != "take_back":
                now = parameters["target_secrets"]
                wanted = [environments.with_secrets_of_now(x, secrets) if x.name in now else x for x in wanted]
        else:
            wanted = releases.parse_wanted(parameters["requests"])
        job = phases.Job(
            parameters["host"],
            wanted,
            {},
            {},
            secrets,
            parameters["sent"],
            author(deployment),
            parameters["allow_contract_migrations"],
            ["all"] if parameters["targets"] else parameters["allow_older"],
            parameters["adopt"],
            rollback=bool(parameters["targets"]),
            described=parameters["described"],
            anywhere=parameters["anywhere"],
        )
        looks_only = phase == "plan" or module.check_mode
        job.refresh()
        if phase == "plan":
            phases.check_leftovers(job)
            phases.check_schedules(job)
        if phase in ("plan", "prepare", "all"):
            phases.check_native(job)
        # No need to wait for the lock if nothing differs.
        if not looks_only and would_change(job, phase):
            with working(deployment):
                job.refresh()
                run(module, job, phase)
        changed = would_change(job, phase) and (module.check_mode or phase != "plan")
        report(module, job, phase, changed, done=False)
    except phases.ERRORS as error:
        mask(module, [])
        module.fail_json(msg=phases.explain(error))


def told(wanted: releases.Wanted, todo: releases.Plan, phase: str) -> dict[str, Any]:
    """Return what a phase reports of a service."""
    contracts = {"contracts": phases.applied_contracts(wanted.name)} if phase == "plan" else {}
    return {**todo.report(), **({"of": wanted.of} if wanted.of else {}), **contracts}


@contextlib.contextmanager
def working(deployment: Mapping[str, Any]) -> Iterator[None]:
    """Hold the host's lock, unless a later deployment has been there."""
    with leases.host_locked(releases.STATE):
        if deployment.get("number"):
            leases.check_fence(int(deployment["number"]), releases.STATE, str(deployment["id"]))
        yield


def author(deployment: Mapping[str, Any]) -> dict[str, Any]:
    """Return whose changes these are, for the state of a service."""
    if not deployment:
        return {}
    return {"deployment": deployment["id"], "by": deployment["by"], "number": int(deployment["number"])}


def beside(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is on the host beside the services that are described for it."""
    if parameters["described"] is None:
        return {}
    found = leftovers.undescribed(parameters["described"], parameters["catalogue"])
    return {"undescribed": {name: {**has, "contracts": phases.applied_contracts(name)} for name, has in found.items()}}


def end(module: AnsibleModule, phase: str, names: list[str]) -> None:
    """Retire or purge services, and exit."""
    parameters = module.params
    arguments = (phase, names, parameters["described"] or [], parameters["catalogue"])
    todo = retirement.todo(*arguments)
    if todo and not module.check_mode:
        with working(parameters["deployment"]):
            todo = retirement.todo(*arguments)
            if phase == "retire":
                retirement.retire(parameters["host"], todo, author(parameters["deployment"]))
            else:
                retirement.purge(list(todo), module.warn)
    steps = {name: "remove its %s" % ", ".join(has) for name, has in todo.items()}
    module.exit_json(
        changed=bool(todo),
        services={name: {"changed": name in todo, "steps": [steps[name]] if name in todo else []} for name in names},
        differing=list(todo),
        diff=[
            {"prepared": "%s: %s %s\n" % (name, "would" if module.check_mode else "did", step)}
            for name, step in steps.items()
        ],
    )


def lacking(job: phases.Job) -> list[str]:
    """Return the services whose archive is missing on the host; none if it does not fit, which prepare explains."""
    try:
        return phases.missing_archives(job)
    except phases.ERRORS:
        return []


def run(module: AnsibleModule, job: phases.Job, phase: str) -> None:
    """Run a phase and exit, or ask for the archives that it needs."""
    missing = phases.missing_archives(job) if phase in ("prepare", "all") else []
    if missing:
        module.exit_json(changed=False, needs=missing)
    first = dict(job.plans)
    changed = perform(job, phase)
    job.plans = first
    report(module, job, phase, changed, done=True)


def report(module: AnsibleModule, job: phases.Job, phase: str, changed: bool, done: bool) -> None:
    """Exit with what was, or would be, done."""
    mask(module, job.wanted)
    for warning in job.warnings:
        module.warn(warning)
    diff: list[dict[str, str]] = []
    # In a run in phases, the first phase that changes something shows everything.
    if phase in ("plan", "prepare", "all") or (phase in ("switch", "commit") and not done):
        for item in job.wanted:
            todo = job.plans[item.name]
            if todo.changed:
                diff += difference(item, todo, job.secrets, done)
    diff += [{"prepared": "%s: %s\n" % told} for told in adoptions(job, phase).items()]
    module.exit_json(
        changed=changed,
        adopted=job.adopted,
        services={item.name: told(item, job.plans[item.name], phase) for item in job.wanted if phase != "give_back"},
        differing=[name for name, todo in job.plans.items() if todo.changed],
        lacking=lacking(job) if phase == "plan" else [],
        diff=diff,
        **(beside(module.params) if phase == "plan" else {}),
    )


if __name__ == "__main__":
    main()
