"""The sandbox's hosts are what the roles expect of a fresh EC2 instance."""

from __future__ import annotations

from testinfra.host import Host


def test_systemd_has_booted_without_a_failed_unit(host: Host) -> None:
    assert host.run("systemctl is-system-running --wait").stdout.strip() == "running"
    assert host.run("systemctl --failed --no-legend --plain").stdout == ""


def test_admin_may_become_root(host: Host) -> None:
    assert host.user().name == "admin"
    assert host.check_output("sudo --non-interactive id --user") == "0"


def test_password_logins_are_refused(host: Host) -> None:
    with host.sudo():
        assert "passwordauthentication no" in host.check_output("sshd -T")


def test_hosts_reach_each_other_by_name(host: Host) -> None:
    for name in ("host-1", "host-2"):
        assert host.addr(name).port(22).is_reachable, f"{name}:22 is not reachable"


def test_apt_installs_without_an_update(host: Host) -> None:
    with host.sudo():
        result = host.run("apt-get install --yes --simulate nginx")
    assert result.rc == 0, result.stderr


def test_the_journal_is_kept_on_disk(host: Host) -> None:
    with host.sudo():
        assert host.run("test -d /var/log/journal/$(cat /etc/machine-id)").rc == 0
