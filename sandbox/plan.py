"""What the catalogue says about the services, read by the collection's own code."""

from __future__ import annotations

import sys
from typing import Any

from sandbox.console import say
from sandbox.paths import REPO, repository_path

CATALOGUE = REPO / "inventories" / "services.yml"


def services(environment: str, domain: str, region: str) -> dict[str, dict[str, Any]]:
    """Address and port of each service of the catalogue, by name.

    A wrong catalogue is told by `site.yml`, in full; here it only leaves services out.
    """
    sys.path.insert(0, str(REPO / "collections"))
    try:
        from ansible_collections.fivepointers.platform.plugins.lookup.catalogue import read_catalogue
        from ansible_collections.fivepointers.platform.plugins.plugin_utils import loading as catalogue

        facts = {"name": environment, "domain": domain, "region": region, "tls": {"mode": "files"}}
        model, _problems = catalogue.read(read_catalogue(str(CATALOGUE)), facts)
    except Exception as error:  # whatever is wrong with it, the sandbox itself can be up
        say(f"  {repository_path(CATALOGUE)} cannot be read, so endpoints.json names no services: {error}")
        return {}
    finally:
        sys.path.remove(str(REPO / "collections"))
    return {
        name: {"url": service["url"], "port": service["port"]}
        for name, service in model.services.items()
        if service.get("url") and service.get("port")
    }


def engines() -> list[str]:
    """The engines of the catalogue's databases and stores; none on a machine that is not set up yet."""
    try:
        import yaml

        stated = yaml.safe_load(CATALOGUE.read_text())
        tables = (stated.get("databases") or {}, stated.get("stores") or {})
        found = [(entry or {}).get("engine") for table in tables for entry in table.values()]
    except Exception:  # site.yml tells what is wrong with it
        return []
    return [name for name in found if isinstance(name, str)]
