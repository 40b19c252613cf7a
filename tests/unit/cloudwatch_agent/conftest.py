from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT.parent / "shared/reference/amazon-cloudwatch-agent/samples"


@pytest.fixture(scope="session")
def schema() -> dict[str, Any]:
    return json.loads((ROOT / "sandbox/cloudwatch_agent/schema.json").read_text())


@pytest.fixture(scope="session")
def samples() -> dict[str, Any]:
    """The agent's own samples: file name to content."""
    if not SAMPLES.is_dir():
        pytest.skip("the agent's samples are not beside the repository (shared/reference)")
    return {path.name: json.loads(path.read_text()) for path in sorted(SAMPLES.glob("*.json"))}
