# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What must not be shown of environment variables, in whatever form a program prints it; and what may be."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, urlencode

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.common import masks
from hypothesis import given
from hypothesis import strategies as st

PASSWORD = 'p@ss "w/ö\\rd'
FRAME = "-----%s PRIVATE KEY-----"
PEM = FRAME % "BEGIN" + "\nMIIEvQIBADANBgkqhkiG\nzzzzyyyyxxxxwwww\n" + FRAME % "END" + "\n"


def masked(text: str, variables: dict[str, str], templates: dict[str, str] | None = None) -> str:
    for part in masks.longest_first(masks.masks(variables, templates or {})):
        text = text.replace(part, "*" * 8)
    return text


SAID = {
    "as it is": lambda value: f"bad password {value}!",
    "in an address": lambda value: f"mysql://app:{quote(value, safe='')}@db/orders",
    "in a query": lambda value: "https://api/?" + urlencode({"p": value}),
    "as JSON": lambda value: json.dumps({"password": value}),
    "as readable JSON": lambda value: json.dumps({"password": value}, ensure_ascii=False),
    "as JSON in JSON": lambda value: json.dumps(json.dumps({"password": value})),
    "as Python shows it": lambda value: repr({"password": value}),
    "in base64": lambda value: base64.b64encode(value.encode()).decode(),
    "in a header": lambda value: "Basic " + base64.b64encode(f"app:{value}:x".encode()).decode(),
    "in another header": lambda value: "Basic " + base64.b64encode(f"ap:{value}".encode()).decode(),
    "in base64 for addresses": lambda value: base64.urlsafe_b64encode(f"a{value}".encode()).decode(),
    "as digits": lambda value: value.encode().hex(),
}


@pytest.mark.parametrize("form", SAID)
@pytest.mark.parametrize("value", [PASSWORD, "canary-token", "?>?>?>~~~ÿÿÿ", "7 8 9 0 + & ="])
def test_a_secret_is_masked_in_every_form(form: str, value: str) -> None:
    said = SAID[form](value)
    shown = masked(said, {"P": value}, {"P": "${secret.p}"})
    assert "********" in shown
    for piece in (value, quote(value, safe=""), json.dumps(value)[1:-1], value.encode().hex(), value[3:-3]):
        assert piece not in shown, shown
    if "base64" in form or "header" in form:
        # What is left are the neighbours, and a character at each end that the secret shares with them.
        assert len(shown.replace("Basic ", "").replace("********", "").rstrip("=")) <= 10


@given(st.text(min_size=masks.SHORTEST, max_size=40), st.text(max_size=4), st.text(max_size=4))
def test_no_secret_survives_its_encodings(value: str, before: str, after: str) -> None:
    said = [before + value + after, quote(value, safe=""), json.dumps(value), json.dumps(value, ensure_ascii=False)]
    for text in said:
        shown = masked(text, {"P": value}, {"P": "${secret.p}"})
        assert shown.replace("*", "").count(value) == 0 or not value.strip("*")


@pytest.mark.parametrize(
    "template, value, hidden",
    [
        ("mysql://app:${secret.db|url}@db-1/orders", "mysql://app:s3%20cret@db-1/orders", ["s3 cret", "s3%20cret"]),
        ("${secret.a}:${self.port}", "hush-hush:${self.port}", ["hush-hush"]),
        ("Bearer ${secret.a}", "Bearer hush-hush", ["hush-hush"]),
        # The value was changed by hand.
        ("Bearer ${secret.a}", "hush-hush", ["hush-hush"]),
    ],
)
def test_the_secret_within_a_value_is_masked_too(template: str, value: str, hidden: list[str]) -> None:
    for secret in hidden:
        assert masked(f"refused: {secret}.", {"V": value}, {"V": template}) == "refused: ********."


def test_every_line_of_a_key_is_masked() -> None:
    shown = masked("  MIIEvQIBADANBgkqhkiG\nnode: zzzzyyyyxxxxwwww\n" + FRAME % "BEGIN", {"K": PEM})
    assert shown == "  ********\nnode: ********\n" + FRAME % "BEGIN"
    assert "zzzzyyyy" not in masked(json.dumps(PEM), {"K": PEM})


@pytest.mark.parametrize(
    "name, value",
    [
        ("JWT_SECRET", "correct horse"),
        ("DB_PASSWORD", "swordfish"),
        ("STRIPE_KEY", "sk_live_x"),
        ("SENTRY_DSN", "https://public@errors.example.com/1"),
        ("URL", "redis://:swordfish@cache:6379"),
        ("X", "0123456789abcdef0123456789abcdef"),
        ("X", "Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MA=="),
        ("X", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"),
    ],
)
def test_what_looks_like_a_secret_is_masked(name: str, value: str) -> None:
    """Where no template is known: of releases of an earlier version, and of processes whose port was taken over."""
    assert masked(f"<{value}>", {name: value}) == "<********>"


@pytest.mark.parametrize(
    "name, value",
    [
        ("NODE_ENV", "production"),
        ("PORT", "3000"),
        ("DEBUG", "true"),
        ("DB_HOST", "fp-production.c1x2y3z4a5b6.eu-central-1.rds.amazonaws.com"),
        ("API_URL", "https://api.example.com/v1"),
        ("HOME_DIR", "/opt/fivepointers/Orders/releases/0123456789ab/app"),
        ("NODE_OPTIONS", "--require=../handoff.cjs --max-old-space-size=512"),
        ("REGION", "eu-central-1"),
        ("KEYBOARD", "qwertz"),
        ("API_TOKEN", "true"),
    ],
)
def test_what_messages_are_about_is_not_masked(name: str, value: str) -> None:
    assert masked(f"cannot reach {value} now", {name: value}) == f"cannot reach {value} now"


def test_a_short_secret_does_not_turn_messages_into_asterisks() -> None:
    assert masked("debug is true, port 3000", {"A": "true", "B": "3000"}, {"A": "${secret.a}", "B": "${secret.b}"}) == (
        "debug is true, port 3000"
    )


def test_a_secret_that_begins_like_another_leaves_no_rest() -> None:
    variables = {"A_SECRET": "hunter2", "B_SECRET": "hunter2-and-the-rest"}
    assert masked("with hunter2-and-the-rest", variables) == "with ********"
