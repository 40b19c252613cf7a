# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What runs by a schedule, on two hosts, deployed and moved at the very second that it is due.

ROUNDS says how often. Each round changes the release, the host of the timer, or both, by the code and in the order of a
deployment: all hosts prepare, then all switch, then all commit.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.harness import ROOT, Sandbox

HERE = ROOT / "tests" / "jobs"
ROUNDS = int(os.environ.get("ROUNDS", "6"))
HOSTS = ("jobs-1", "jobs-2")
#: Seconds between two runs, as in services.yml.
EVERY = 2
#: One phase on a host, by the code that the last deployment left there.
PHASE = """
import dataclasses, sys
from ansible_collections.fivepointers.platform.plugins.module_utils.release import leases, phases, releases
phase, release, here = sys.argv[1], sys.argv[2], sys.argv[3] == "here"
wanted = dataclasses.replace(releases.load_wanted("ticks", release), here=here)
job = phases.Job("this host", [wanted], {}, {}, {}, {}, rollback=True)
with leases.host_locked(releases.STATE):
    job.refresh()
    getattr(phases, phase)(job)
"""
#: On the host of the timer: a run without its launcher, and what another launcher does then.
ORPHAN = """
sudo systemctl stop fivepointers-ticks_run.timer
runs() { systemctl list-units --no-legend --state=activating 'fivepointers-ticks@*'; }
slot=none
# It lasts until it is told to go on, however slow the machine is.
until test -n "$(runs)" && sudo systemctl kill --signal=STOP "$slot" && test -n "$(runs)"; do
  sudo systemctl start --no-block fivepointers-ticks_run.service
  sleep 0.2
  slot=$(runs | grep -o 'fivepointers-ticks@[a-z]*' || echo none)
done 2>/dev/null
sudo systemctl stop fivepointers-ticks_run.service
echo "$slot"
sudo systemctl start fivepointers-ticks_run.service
systemctl show --value --property=Result fivepointers-ticks_run.service
sudo systemctl kill --signal=CONT "$slot"
sudo systemctl start fivepointers-ticks_run.timer
"""
RUN = "sudo env PYTHONPATH=/var/lib/fivepointers/confirm.zip python3 - %s <<'END'\n%s\nEND"


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Two hosts with two releases of a job."""
    it = Sandbox("test-jobs", topology=str(HERE / "topology.yml"))
    if not os.environ.get("KEEP_SANDBOX"):
        it.down()
    it.up()
    editions = HERE / "services.yml", HERE / ".changed.yml"
    editions[1].write_text(editions[0].read_text().replace('"one"', '"two"'))
    for edition in editions:
        # Artifacts and reports of its own: other stages deploy beside this one.
        it.extra = ["-e", f"platform_catalogue_file={edition}", "-e", f"platform_artifacts={it.state}/artifacts"]
        for playbook in ("build", "site"):
            it.playbook(f"playbooks/{playbook}.yml").succeeded()
    it.warm = True
    yield it
    editions[1].unlink()
    if not os.environ.get("KEEP_SANDBOX"):
        it.down()


def kept(jobs: Sandbox) -> list[str]:
    """The releases that both hosts keep."""
    return jobs.ssh(HOSTS[0], "ls /opt/fivepointers/ticks/releases").split()


def on_each(jobs: Sandbox, phase: str, release: str, timer: str) -> None:
    """Run a phase on both hosts at once."""
    with ThreadPoolExecutor() as pool:
        commands = {
            host: RUN % (f"{phase} {release} {'here' if host == timer else 'elsewhere'}", PHASE) for host in HOSTS
        }
        list(pool.map(lambda host: jobs.ssh(host, commands[host]), HOSTS))


def runs(jobs: Sandbox) -> list[tuple[float, float, str, str]]:
    """Every run so far: when it began and ended (seconds since 1970), on which host, of which release."""
    found = []
    for host in HOSTS:
        text = jobs.ssh(host, "sudo sh -c 'cat /var/lib/fivepointers-ticks/runs || true'")
        lines = [line.split() for line in text.splitlines()]
        ended = {begun: float(at) for what, at, begun, _edition in lines if what == "ended"}
        for what, at, begun, edition in lines:
            if what == "began":
                found.append((float(at) / 1000, ended[begun] / 1000 if begun in ended else 0.0, host, edition))
    return sorted(found)


def timers(jobs: Sandbox) -> list[str]:
    """Whether the timer runs, for each host."""
    return [jobs.ssh(host, "systemctl is-active fivepointers-ticks_run.timer || true").strip() for host in HOSTS]


def test_the_first_host_has_the_timer(jobs: Sandbox) -> None:
    assert timers(jobs) == ["active", "inactive"]
    table = jobs.playbook("playbooks/releases.yml").succeeded().output
    assert "ticks on jobs-1_" in table and "ended well at" in table and "ticks on jobs-2_" not in table
    jobs.playbook("playbooks/site.yml").unchanged()


def test_a_run_that_outlived_its_launcher_is_joined_by_no_other(jobs: Sandbox) -> None:
    going, ended = jobs.ssh(HOSTS[0], ORPHAN).split()
    assert going.startswith("fivepointers-ticks@") and ended == "exec-condition"


def test_it_never_runs_twice_for_one_time_and_never_in_two_releases(jobs: Sandbox) -> None:
    """Whatever is deployed at that very second."""
    releases, timer = kept(jobs), HOSTS[0]
    before = len(runs(jobs))
    started = time.time()
    for number in range(1, ROUNDS + 1):
        # The release, the host, or both.
        release = releases[(number * 2 // 3) % 2]
        timer = HOSTS[(number // 2) % 2]
        on_each(jobs, "prepare", release, timer)
        # Somewhere around the next time that it is due.
        moment = (time.time() // EVERY + 1) * EVERY - 0.4
        time.sleep(max(0.0, moment - time.time() + random.uniform(-0.3, 0.6)))
        on_each(jobs, "switch", release, timer)
        on_each(jobs, "commit", release, timer)
    time.sleep(EVERY + 1)
    found = runs(jobs)[before:]
    shares = Counter(run[2:] for run in found)
    print(f"\n{ROUNDS} deployments in {time.time() - started:.0f} s, {len(found)} runs: {shares}")
    assert len({run[2] for run in found}) == 2 and len({run[3] for run in found}) == 2, (
        "on both hosts, of both releases"
    )
    for earlier, later in itertools.pairwise(found):
        assert earlier[1], f"it was killed: {earlier}"
        assert later[0] >= earlier[1], f"two at once: {earlier} and {later}"
    times = Counter(int(run[0] // EVERY) for run in found)
    assert not [moment for moment, count in times.items() if count > 1], "twice for one time"
    assert timers(jobs) == ["active" if host == timer else "inactive" for host in HOSTS]
    # The timers that moved away left nothing that starts with the host.
    for host in HOSTS:
        jobs.reboot(host)
    jobs.up()
    assert timers(jobs) == ["active" if host == timer else "inactive" for host in HOSTS]
