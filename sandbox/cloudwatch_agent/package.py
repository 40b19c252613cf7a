"""Build the stand-in's Debian package."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from sandbox.errors import SandboxError

HERE = Path(__file__).parent
VERSION = "1.300070.0+standin"
AGENT = "opt/aws/amazon-cloudwatch-agent"

CONTROL = f"""\
Package: amazon-cloudwatch-agent
Version: {VERSION}
Architecture: all
Maintainer: Five Pointers
Depends: python3 (>= 3.11), systemd
Section: admin
Priority: optional
Description: STAND-IN for the Amazon CloudWatch agent, for the sandbox only
 Not made by Amazon. Has the agent's commands, checks configurations against
 its published schema, and ships logs and metrics to the CloudWatch API of the
 sandbox.
"""

PREINST = """\
#!/bin/sh
set -e
getent group cwagent >/dev/null || groupadd --system cwagent
getent passwd cwagent >/dev/null ||
  useradd --system --no-create-home --home-dir /home/cwagent --gid cwagent --shell /usr/sbin/nologin cwagent
"""

PRERM = f"""\
#!/bin/sh
set -e
systemctl disable --now amazon-cloudwatch-agent.service || true
rm -rf /{AGENT}/bin/__pycache__
"""

UNIT = f"""\
[Unit]
Description=Stand-in for the Amazon CloudWatch agent (sandbox only)
After=network.target

[Service]
Type=simple
ExecStart=/{AGENT}/bin/start-amazon-cloudwatch-agent
KillMode=mixed
Restart=on-failure
RestartSec=60s

[Install]
WantedBy=multi-user.target
"""


def build(destination: Path) -> Path:
    """Write the package to `destination`, and its SHA-256 beside it (`.sha256`).

    The same sources give the same bytes, so an unchanged package is not installed again.

    :raises SandboxError: where dpkg-deb is missing or fails.
    """
    if not shutil.which("dpkg-deb"):
        raise SandboxError("dpkg-deb is not installed: the CloudWatch agent's stand-in cannot be packed. Install dpkg.")
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent) as folder:
        root = Path(folder) / "root"
        _fill(root)
        package = Path(folder) / "package.deb"
        done = subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(root), str(package)],
            env={**os.environ, "SOURCE_DATE_EPOCH": "0", "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SandboxError(f"dpkg-deb could not pack the CloudWatch agent's stand-in: {done.stderr.strip()}")
        package.replace(destination)
    digest = hashlib.sha256(destination.read_bytes()).hexdigest()
    destination.with_name(destination.name + ".sha256").write_text(digest + "\n")
    return destination


def _fill(root: Path) -> None:
    program = f"{AGENT}/bin"
    _write(root / "DEBIAN/control", CONTROL)
    _write(root / "DEBIAN/preinst", PREINST, 0o755)
    _write(root / "DEBIAN/prerm", PRERM, 0o755)
    _write(root / "DEBIAN/conffiles", f"/{AGENT}/etc/common-config.toml\n")
    _write(root / "etc/systemd/system/amazon-cloudwatch-agent.service", UNIT)
    _write(root / f"{program}/CWAGENT_VERSION", VERSION + "\n")
    _write(root / f"{program}/amazon-cloudwatch-agent", (HERE / "agent.py").read_text(), 0o755)
    for name in ("standin_metrics.py", "standin_schema.py"):
        _write(root / f"{program}/{name}", (HERE / name).read_text())
    _write(root / f"{program}/schema.json", (HERE / "schema.json").read_text())
    _write(root / f"{AGENT}/doc/schema.LICENSE", (HERE / "schema.LICENSE").read_text())
    _write(root / f"{AGENT}/etc/common-config.toml", "# Read by the real agent only.\n")
    for name in ("amazon-cloudwatch-agent.d", "../logs", "../var"):
        _directory(root / f"{AGENT}/etc" / name)
    for name in ("amazon-cloudwatch-agent-ctl", "start-amazon-cloudwatch-agent"):
        (root / program / name).symlink_to("amazon-cloudwatch-agent")
    _directory(root / "usr/bin")
    (root / "usr/bin/amazon-cloudwatch-agent-ctl").symlink_to(f"/{program}/amazon-cloudwatch-agent-ctl")


def _directory(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o755)


def _write(path: Path, content: str, mode: int = 0o644) -> None:
    _directory(path.parent)
    path.write_text(content)
    path.chmod(mode)
