"""Build the collection, install it into an empty path, and let its playbooks be parsed from there."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Nothing of these may be in what users install.
PRIVATE = (".git", ".venv", ".cache", ".sandbox", ".artifacts", ".github", "collections", "inventories", "molecule")


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(folder / "collections")}
        environment.pop("ANSIBLE_CONFIG", None)

        def call(*argv: str) -> None:
            print("$", *argv, flush=True)
            subprocess.run(argv, cwd=folder, env=environment, check=True)

        call("ansible-galaxy", "collection", "build", str(ROOT), "--output-path", str(folder))
        archive = next(folder.glob("fivepointers-platform-*.tar.gz"))
        with tarfile.open(archive) as content:
            names = content.getnames()
        private = [name for name in names if name.split("/")[0] in PRIVATE]
        if private:
            print(
                f"The archive holds what is not for users: {', '.join(private[:10])}. See build_ignore in galaxy.yml."
            )
            return 1
        print(f"{archive.name}: {len(names)} entries, {archive.stat().st_size // 1024} KiB")
        # Its dependencies come with the package `ansible`.
        call("ansible-galaxy", "collection", "install", str(archive), "--no-deps", "-p", str(folder / "collections"))
        installed = folder / "collections/ansible_collections/fivepointers/platform"
        playbooks = sorted(path.stem for path in (installed / "playbooks").glob("*.yml"))
        if "site" not in playbooks:
            print("The installed collection has no playbook site.")
            return 1
        # In one process: to start Ansible takes longer than to parse a playbook.
        chosen = [f"fivepointers.platform.{playbook}" for playbook in playbooks]
        call("ansible-playbook", "--syntax-check", "-i", "localhost,", *chosen)
    return 0


if __name__ == "__main__":
    sys.exit(main())
