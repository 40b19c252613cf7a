# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The watch over a switch: a host takes it back by itself if the controller is lost before it confirms.

A unit of systemd runs this file on the host from the first switch of a deployment until its end. It outlives the
module that started it, and a reboot. Standard library only, Python 3.9 or later.
"""

from __future__ import annotations

import io
import os
import sys
import time
import zipfile
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common import register, systemd
from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import listed, read, write_file
from ansible_collections.fivepointers.platform.plugins.module_utils.release import files as release_files
from ansible_collections.fivepointers.platform.plugins.module_utils.release import leases, phases, releases, schedules

UNIT = "fivepointers-confirm.service"
PACKAGE = "ansible_collections.fivepointers.platform.plugins.module_utils"
POLL, RETRY = 1.0, 5.0

TEXT = """\
# Takes a switch back that nobody confirms. Changes made here are replaced.
[Unit]
Description=Take back what a deployment switched to and did not confirm
StartLimitIntervalSec=0

[Service]
Type=exec
Environment=PYTHONPATH=%(program)s PYTHONDONTWRITEBYTECODE=1
ExecStart=%(python)s -m %(package)s.release.confirm
Restart=on-failure
RestartSec=5s

[Install]
WantedBy=multi-user.target
"""


BROKEN = (
    "%s on %s: the %s is no longer in place. The host takes a switch back after %d s without a sign of life from the "
    "controller. Check the network between them, and deploy again."
)


# --- in the module --------------------------------------------------------------


def program_path() -> str:
    """Return where the watch's program is kept."""
    return os.path.join(releases.STATE, "confirm.zip")


def program() -> bytes:
    """Return the code of this process as an archive that Python can run, the same for the same code."""
    loaded: dict[str, Any] = {name: module for name, module in sys.modules.items() if name.startswith(PACKAGE)}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        written = set()
        for name, module in sorted(loaded.items()):
            parts = name.split(".")
            packages = ["/".join(parts[:end]) for end in range(1, len(parts))]
            if hasattr(module, "__path__"):
                packages.append("/".join(parts))
            else:
                archive.writestr(zipfile.ZipInfo("/".join(parts) + ".py"), module.__loader__.get_source(name) or "")
            for package in packages:
                if package not in written:
                    written.add(package)
                    archive.writestr(zipfile.ZipInfo(package + "/__init__.py"), "")
    return packed.getvalue()


def install() -> None:
    """Install the watch, before anything is switched: a switch itself needs no space."""
    text = TEXT % {"program": program_path(), "python": sys.executable, "package": PACKAGE}
    code, unit = program(), os.path.join(systemd.UNITS, UNIT)
    try:
        with open(program_path(), "rb") as handle:
            same = handle.read() == code
    except OSError:
        same = False
    if same and read(unit) == text and systemd.is_enabled(UNIT):
        return
    write_file(program_path(), code, 0o644)
    write_file(unit, text, 0o644)
    systemd.systemctl("daemon-reload")
    systemd.enable(UNIT)
    systemd.systemctl("try-restart", "--no-block", UNIT)


def watch() -> None:
    """Start the watch, unless it runs."""
    # What an earlier version prepared has none.
    install()
    systemd.systemctl("start", UNIT)


def require_switched(job: phases.Job) -> None:
    """Raise ReleaseError if the host took a switch back in the meantime."""
    for item, _todo in job.candidates():
        what = "switch to release %s" % item.release
        raise releases.ReleaseError(BROKEN % (item.name, job.host, what, register.LEASE))


def inherited(job: phases.Job) -> list[str]:
    """Return the services with an unconfirmed switch of an earlier run to what this one wants, too."""
    return [
        item.name
        for item in job.wanted
        for pending in [job.seen[item.name].pending]
        if job.author and pending.get("release") == item.release and not _of(pending, job.author)
    ]


def inherit(job: phases.Job) -> bool:
    """Make such switches this run's, to confirm or to take back."""
    names = inherited(job)
    for name in names:
        release_files.own_switch(name, job.author)
    return bool(names)


def confirm(job: phases.Job) -> bool:
    """Confirm the switches of a deployment: from now on no host takes them back by itself."""
    require_switched(job)
    leaving = [item for item in phases.timers_to_stop(job) if not item.here]
    for item in leaving:
        if job.seen[item.name].ticking:
            raise releases.ReleaseError(BROKEN % (item.name, job.host, "end of its timer", register.LEASE))
    mine = [item.name for item in job.wanted if _of(job.seen[item.name].pending, job.author)]
    phases.require_steady(job, mine)
    for name in mine:
        release_files.confirm_switch(name)
    for item in leaving:
        # From here on another host may start one.
        schedules.remove(item.name)
    return bool(mine or leaving)


def _of(pending: dict[str, Any], author: dict[str, Any]) -> bool:
    return bool(pending) and pending.get("deployment") == author.get("deployment")


# --- in the unit ----------------------------------------------------------------


def unconfirmed() -> dict[str, dict[str, Any]]:
    """Return the switches that a deployment has not confirmed, by service."""
    found = {}
    for name in listed(releases.STATE):
        if os.path.isdir(os.path.join(releases.STATE, name)):
            try:
                state = releases.read_state(name)
            except releases.ReleaseError as error:
                # One that is damaged is no reason to leave the others.
                log(str(error))
                continue
            pending = state.get("pending") or {}
            # What a full disk kept from being cleaned up after it was taken back is left to the next run.
            done = _of(state.get("unconfirmed") or {}, pending)
            if pending.get("number") and not pending.get("confirmed") and not done:
                found[name] = pending
    return found


def forsaken(pending: dict[str, Any], lease: dict[str, Any], age: float) -> bool:
    """Return whether nobody will confirm a switch: its run has ended, or is silent."""
    return lease.get("id") != pending.get("deployment") or not register.held(lease, age)


def _lease() -> tuple[dict[str, Any], float]:
    """Return this host's register, and its age."""
    lease = leases.read_lease(leases.HostStore(releases.STATE).path)
    return lease, leases.age(lease)


def take_back() -> list[str]:
    """Take back what is forsaken; return its services."""
    with leases.host_locked(releases.STATE):
        lease, age = _lease()
        found = {name: item for name, item in unconfirmed().items() if forsaken(item, lease, age)}
        if not found:
            return []
        # The last one that was switched to is the first to be taken back.
        names = sorted(found, key=lambda name: float(found[name].get("since") or 0))
        wanted = [releases.load_wanted(name, found[name]["release"]) for name in names]
        job = phases.Job("this host", wanted, {}, {}, {}, {})
        job.refresh()
        phases.take_back(job)
        for name in names:
            release_files.note_unconfirmed(name, found[name])
        for warning in job.warnings:
            log(warning)
        return names


def resume() -> list[str]:
    """Start the timers that a deployment stopped and left so, unless a run has the lock; return their services.

    Not those of a retirement that broke off.
    """
    if not schedules.paused():
        return []
    with leases.host_locked(releases.STATE):
        if register.held(*_lease()):
            return []
        names = [name for name in schedules.paused() if not _retired(name)]
        for name in names:
            schedules.resume(name)
        return names


def _retired(name: str) -> bool:
    try:
        return releases.had_timer(name)
    except releases.ReleaseError as error:
        # One that is damaged is no reason to leave the others.
        log(str(error))
        return True


def log(text: str) -> None:
    """Write a line to the journal of the unit."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """Watch as long as a run has the lock, or something is not confirmed."""
    while True:
        try:
            # In this order: who ends between the two is seen as holding it, and looked at again.
            lease, age = _lease()
            waiting, working = unconfirmed(), register.held(lease, age)
            for name in take_back() if waiting else []:
                log("%s: nobody confirmed its switch, which was taken back" % name)
            for name in [] if working else resume():
                log("%s: its timer was left stopped, and was started again" % name)
            if not waiting and not working:
                return
        except phases.ERRORS as error:
            log(phases.explain(error))
            time.sleep(RETRY)
        time.sleep(POLL)


if __name__ == "__main__":
    main()
