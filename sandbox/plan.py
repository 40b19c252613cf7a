"""What the catalogue says about the services, read by the collection's own code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sandbox.console import say
from sandbox.engines import DEFAULTS, ENGINES
from sandbox.paths import REPO, repository_path

CATALOGUE = REPO / "inventories" / "services.yml"


def services(path: Path, environment: str, domain: str, region: str) -> dict[str, dict[str, Any]]:
    """Address and port of each service of the catalogue, by name.

    A wrong catalogue is told by `site.yml`, in full; here it only leaves services out.
    """
    sys.path.insert(0, str(REPO / "collections"))
    try:
        from ansible_collections.fivepointers.platform.plugins.lookup.catalogue import read_catalogue
        from ansible_collections.fivepointers.platform.plugins.plugin_utils import loading as catalogue

        facts = {"name": environment, "domain": domain, "region": region, "tls": {"mode": "files"}}
        model, _problems = catalogue.read(read_catalogue(str(path)), facts)
    except Exception as error:  # whatever is wrong with it, the sandbox itself can be up
        say(f"  {repository_path(path)} cannot be read, so endpoints.json names no services: {error}")
        return {}
    finally:
        sys.path.remove(str(REPO / "collections"))
    return {
        name: {"url": service["url"], "port": service["port"]}
        for name, service in model.services.items()
        if service.get("url") and service.get("port")
    }


def servers(path: Path = CATALOGUE) -> dict[str, dict[str, str]]:
    """The engine of each database and store of a catalogue, by section and name.

    None on a machine that is not set up yet.
    """
    try:
        import yaml

        stated = yaml.safe_load(path.read_text())
        found = {
            section: {name: (entry or {}).get("engine", default) for name, entry in (stated.get(section) or {}).items()}
            for section, default in DEFAULTS.items()
        }
    except Exception:  # site.yml tells what is wrong with it
        return {section: {} for section in DEFAULTS}
    # Of an engine that is unknown too.
    known = list(ENGINES)
    return {key: {name: engine for name, engine in of.items() if engine in known} for key, of in found.items()}
