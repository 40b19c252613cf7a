"""ansible-lint, in four fifths of its time.

It copies each task for each rule, and with it the tags that Ansible gives to every string: where it came from. Texts,
numbers and tags never change, so a copy may share them.
"""

from __future__ import annotations

import sys
from typing import Any

from ansible.module_utils._internal import _datatag
from ansiblelint.__main__ import main


def itself(value: Any, _memo: dict[int, Any]) -> Any:
    """Copy what never changes."""
    return value


def share() -> None:
    """Let copies share what never changes."""
    tagged = [cls for cls in vars(_datatag).values() if isinstance(cls, type) and issubclass(cls, (str, int, float))]
    for cls in (_datatag.AnsibleDatatagBase, *(cls for cls in tagged if cls.__module__ == _datatag.__name__)):
        cls.__deepcopy__ = itself


if __name__ == "__main__":
    share()
    sys.exit(main())
