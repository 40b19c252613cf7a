"""The one error that a user sees."""

from __future__ import annotations


class SandboxError(Exception):
    """Something is missing or in the way.

    The text is one sentence that says what, and one that says the cure.
    """
