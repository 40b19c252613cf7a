# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The timer of a service that runs by a schedule.

The timer starts a launcher, which starts the slot that the flag names and waits for its end: systemd starts no second
one meanwhile, so that no two runs overlap, also not those of two releases. A switch changes the flag only. The timer is
stopped before that, and started after the commit, where the schedule or the host changes. A host that is to lose it
removes it when it confirms: no other one starts it before all have.

Standard library only, Python 3.9 or later.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Mapping, Sequence

from ansible_collections.fivepointers.platform.plugins.module_utils.common import systemd
from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import listed, read, write_file
from ansible_collections.fivepointers.platform.plugins.module_utils.release import leases

STAMPS = "/var/lib/systemd/timers"
# The states of a unit that has a process, or is about to have one.
BUSY = "active,activating,deactivating,reloading"

TIMER = """\
# Written by the release of the service %(name)s. Changes made here are replaced.
[Unit]
Description=%(name)s, %(schedule)s

[Timer]
OnCalendar=%(schedule)s
# What was due while the host was off, or while the schedule changed, runs once.
Persistent=true
AccuracySec=1s
"""
LAUNCHER = """\
# Written by the release of the service %(name)s. Changes made here are replaced.
[Unit]
Description=A run of %(name)s, in its live slot
# However often it is due.
StartLimitIntervalSec=0

[Service]
Type=oneshot
# A run may outlive a launcher that was stopped.
ExecCondition=/bin/sh -c 'test -z "$$(systemctl list-units --no-legend --state=%(busy)s "fivepointers-%(name)s@*")"'
ExecStart=/bin/sh -c 'slot=blue; test ! -e %(green)s || slot=green; exec systemctl start fivepointers-%(name)s@$$slot'
TimeoutStartSec=infinity
"""


def timer(name: str) -> str:
    """Return the timer of a service. Names of services hold no underscore, so it is none of a slot."""
    return "fivepointers-%s_run.timer" % name


def launcher(name: str) -> str:
    """Return the unit that the timer starts."""
    return "fivepointers-%s_run.service" % name


def texts(name: str, schedule: str, green: str) -> dict[str, str]:
    """Return the units of a schedule, by name. green: the flag that exists while slot green is live.

    The timer is written last, and removed first: where it is, there is a launcher.
    """
    values = {"name": name, "schedule": schedule.replace("%", "%%"), "green": green, "busy": BUSY}
    return {launcher(name): LAUNCHER % values, timer(name): TIMER % values}


def found(name: str) -> dict[str, str]:
    """Return the units of a schedule that the host has, by name."""
    units = {unit: read(os.path.join(systemd.UNITS, unit)) for unit in (timer(name), launcher(name))}
    return {unit: text for unit, text in units.items() if text is not None}


def ended_path(name: str) -> str:
    """Return the file that says how the last run ended: time, release, result and exit status."""
    return os.path.join(leases.STATE, name, "run")


def problem(schedule: str) -> str:
    """Return what is wrong with a schedule by this host's systemd; empty if it is due some day."""
    status, output = systemd.run(["systemd-analyze", "calendar", "--", schedule])
    if status:
        return "which systemd rejects: %s" % output.strip().splitlines()[-1]
    return "which is never due (again)" if re.search(r"Next elapse: never$", output, re.MULTILINE) else ""


def start(name: str, units: Mapping[str, str]) -> None:
    """Write the units of a schedule, and start its timer, also at boot."""
    for unit, text in units.items():
        write_file(os.path.join(systemd.UNITS, unit), text, 0o644)
    resume(name)


def resume(name: str) -> None:
    """Start a timer that is there, also at boot. What was due since it was stopped runs now."""
    systemd.enable(timer(name))
    # Who wrote it may have been killed before this.
    systemd.systemctl("daemon-reload")
    systemd.systemctl("start", timer(name))


def stop(name: str) -> None:
    """Stop a timer, also at boot. A run that is going on goes on."""
    systemd.disable(timer(name))
    systemd.systemctl("stop", timer(name))
    # From here on, a run is due by the schedule that is started next.
    with contextlib.suppress(FileNotFoundError):
        os.utime(stamp(name))


def paused() -> list[str]:
    """Return the services whose timer is there and was stopped by a release."""
    found = (re.fullmatch(r"fivepointers-(.+)_run\.timer", entry) for entry in listed(systemd.PARKED))
    return [match[1] for match in found if match and read(os.path.join(systemd.UNITS, match[0])) is not None]


def remove(name: str) -> None:
    """Remove a timer. If it comes back some day, nothing is due that was missed in between."""
    if not found(name):
        return
    stop(name)
    timers = [os.path.join(directory, timer(name)) for directory in (systemd.UNITS, systemd.PARKED)]
    # The launcher comes last: it says that there is something to remove.
    for path in [stamp(name), *timers, os.path.join(systemd.UNITS, launcher(name))]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    systemd.systemctl("daemon-reload")


def stamp(name: str) -> str:
    """Return the file whose time is that of the last start, by which systemd knows what is due."""
    return os.path.join(STAMPS, "stamp-" + timer(name))


def wait(units: Sequence[str], seconds: float) -> str:
    """Wait for the end of a run; return the unit that still runs after so many seconds, or an empty text."""
    deadline = time.monotonic() + seconds
    while True:
        running = [unit for unit, state in systemd.states(units).items() if not state.stopped]
        if not running or time.monotonic() >= deadline:
            return running[0] if running else ""
        time.sleep(0.1)


def look(name: str) -> dict[str, str]:
    """Return the timer's next start, and how the last run ended; empty if the service has no timer here."""
    if not found(name):
        return {}
    _status, following = systemd.run(["systemctl", "show", "--value", "--property=NextElapseUSecRealtime", timer(name)])
    words = (read(ended_path(name)) or "").split()
    ended = {}
    if len(words) == 4 and words[0].isdigit():
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(words[0])))
        ended = {"ended": when, "release": words[1], "result": words[2], "status": words[3]}
    running = any(not state.stopped for state in systemd.states([launcher(name)]).values())
    return {"next": following.strip(), "running": "yes" if running else "", **ended}
