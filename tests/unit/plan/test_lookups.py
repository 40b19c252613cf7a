# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The lookups: what a catalogue's file may be, and where secrets come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
import pytest
from ansible.errors import AnsibleLookupError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.fivepointers.platform.plugins.lookup import secrets
from ansible_collections.fivepointers.platform.plugins.lookup.catalogue import read_catalogue
from botocore.stub import Stubber

# --- catalogue ------------------------------------------------------------------


def written(folder: Path, text: str | bytes) -> str:
    """Write a catalogue and return its path."""
    path = folder / "services.yml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def test_a_catalogue_is_read_as_plain_data(tmp_path: Path) -> None:
    path = written(tmp_path, "services:\n  api: {port: 3001, environment: {A: '${self.port} {{ not a template }}'}}\n")
    assert read_catalogue(path) == {
        "services": {"api": {"port": 3001, "environment": {"A": "${self.port} {{ not a template }}"}}}
    }


@pytest.mark.parametrize(
    "text, words",
    [
        ("services:\n  api: {port: 1}\n  web: {}\n  api: {port: 2}\n", ("line 4, column 3", "'api'", "line 2 already")),
        ("services:\n  api:\n    port: 1\n    kind: a\n    port: 2\n", ("line 5", "'port'", "line 3 already")),
        ("journeys: [{name: a, name: b}]\n", ("line 1", "'name'")),
        ("services:\n  api: [nextjs\n", ("services.yml, line",)),
        ("services:\n\tapi: {}\n", ("line 2", "cannot start any token")),
        ("a: 1\n---\nb: 2\n", ("line 2", "another document")),
        ("{a: b}: 1\n", ("line 1", "single value")),
        ("a: !!python/object:os.system {}\n", ("line 1", "could not determine a constructor")),
        ("a: 2026-13-45\n", ("month",)),
        (b"a: \xff\n", ("services.yml",)),
        ("a: \x07\n", ("services.yml",)),
    ],
)
def test_a_file_that_is_no_catalogue_is_refused_with_the_line(
    tmp_path: Path, text: Any, words: tuple[str, ...]
) -> None:
    with pytest.raises(AnsibleLookupError) as caught:
        read_catalogue(written(tmp_path, text))
    for word in ("services.yml", *words):
        assert word in str(caught.value)


def test_an_empty_file_is_an_empty_catalogue(tmp_path: Path) -> None:
    assert read_catalogue(written(tmp_path, "---\n")) is None


def test_merge_keys_may_override_what_they_bring(tmp_path: Path) -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b, y: 3}\n"
    data = read_catalogue(written(tmp_path, text))
    assert data["b"] == {"x": 2, "y": 1}
    assert data["c"] == {"x": 2, "y": 3}


def test_a_missing_file_is_refused_with_the_variable_to_set(tmp_path: Path) -> None:
    with pytest.raises(AnsibleLookupError, match=r"nowhere\.yml.*No such file.*platform_catalogue_file"):
        read_catalogue(str(tmp_path / "nowhere.yml"))


# --- secrets --------------------------------------------------------------------


@pytest.fixture(scope="module")
def aws() -> Any:
    """Clients that reach no network."""
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "ap-northeast-2"}
    session = boto3.session.Session(**keys)
    return {name: session.client(name) for name in ("secretsmanager", "ssm")}


def test_each_secret_is_asked_for_once(aws: Any) -> None:
    references = [
        {"name": "database.password", "secretsmanager": "database", "key": "password"},
        {"name": "user", "secretsmanager": "database", "key": "user"},
        {"name": "number", "secretsmanager": "database", "key": "port"},
        {"name": "jwt", "secretsmanager": "jwt"},
    ]
    with Stubber(aws["secretsmanager"]) as stub:
        answer = {"SecretString": '{"password": "p", "user": "u", "port": 3306}'}
        stub.add_response("get_secret_value", answer, {"SecretId": "database"})
        stub.add_response("get_secret_value", {"SecretString": "j"}, {"SecretId": "jwt"})
        values = secrets.from_secretsmanager(aws["secretsmanager"], references)
        stub.assert_no_pending_responses()
    assert values == {"database.password": "p", "user": "u", "number": "3306", "jwt": "j"}


@pytest.mark.parametrize(
    "code, words",
    [
        ("ResourceNotFoundException", ("no such secret", "platform_environment")),
        ("AccessDeniedException", ("denies", "secretsmanager:GetSecretValue")),
        ("ExpiredTokenException", ("credentials", "Renew")),
        ("InternalServiceError", ("InternalServiceError", "console")),
    ],
)
def test_what_aws_refuses_names_the_reference_and_the_fix(aws: Any, code: str, words: tuple[str, ...]) -> None:
    with Stubber(aws["secretsmanager"]) as stub:
        stub.add_client_error("get_secret_value", code)
        with pytest.raises(AnsibleLookupError) as caught:
            secrets.from_secretsmanager(aws["secretsmanager"], [{"name": "jwt", "secretsmanager": "platform/jwt"}])
    for word in ("'jwt'", "secretsmanager: platform/jwt", *words):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "answer, word",
    [
        ({"SecretString": "hunter2"}, "not JSON"),
        ({"SecretString": '{"user": "hunter2"}'}, "no such key"),
        ({"SecretString": '["hunter2"]'}, "no such key"),
        ({"SecretBinary": b"hunter2"}, "binary"),
    ],
)
def test_a_secret_of_another_shape_is_refused_and_not_shown(aws: Any, answer: Any, word: str) -> None:
    with Stubber(aws["secretsmanager"]) as stub:
        stub.add_response("get_secret_value", answer)
        with pytest.raises(AnsibleLookupError, match=word) as caught:
            secrets.from_secretsmanager(
                aws["secretsmanager"], [{"name": "a", "secretsmanager": "database", "key": "password"}]
            )
    assert "key: password" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_parameters_are_fetched_ten_in_a_call(aws: Any) -> None:
    references = [{"name": f"n{number}", "ssm": f"/p{number}"} for number in range(12)]
    with Stubber(aws["ssm"]) as stub:
        for start, end in ((0, 10), (10, 12)):
            names = [f"/p{number}" for number in range(start, end)]
            answer = {"Parameters": [{"Name": name, "Value": name.upper()} for name in names]}
            stub.add_response("get_parameters", answer, {"Names": names, "WithDecryption": True})
        values = secrets.from_ssm(aws["ssm"], references)
    assert values == {f"n{number}": f"/P{number}" for number in range(12)}


def test_a_missing_parameter_is_refused(aws: Any) -> None:
    with Stubber(aws["ssm"]) as stub:
        stub.add_response("get_parameters", {"Parameters": [], "InvalidParameters": ["/p"]})
        with pytest.raises(AnsibleLookupError, match=r"'n' \(ssm: /p\).*no such parameter.*SecureString"):
            secrets.from_ssm(aws["ssm"], [{"name": "n", "ssm": "/p"}])


def looked_up(references: Any, **variables: Any) -> Any:
    """Return what the lookup makes of references, with these variables of a playbook."""
    lookup = secrets.LookupModule(loader=DataLoader(), templar=Templar(loader=DataLoader(), variables=variables))
    with patch.multiple(lookup, set_options=lambda **_options: None, get_option=lambda _name: "ap-northeast-2"):
        return lookup.run([references], variables=variables)[0]


def test_a_variable_is_templated() -> None:
    references = [{"name": "jwt", "variable": "jwt_secret"}]
    variables = {"jwt_secret": trust_as_template("{{ other }}"), "other": "hunter2"}
    assert looked_up(references, **variables) == {"jwt": "hunter2"}


@pytest.mark.parametrize(
    "value, words",
    [
        (None, ("variable: jwt_secret", "no such variable", "vaulted")),
        (1, ("variable: jwt_secret", "not a string")),
        ("", ("variable: jwt_secret", "empty")),
    ],
)
def test_a_variable_that_is_no_secret_is_refused(value: Any, words: tuple[str, ...]) -> None:
    variables = {} if value is None else {"jwt_secret": value}
    with pytest.raises(AnsibleLookupError) as caught:
        looked_up([{"name": "jwt", "variable": "jwt_secret"}], **variables)
    for word in ("'jwt'", *words):
        assert word in str(caught.value)


@pytest.mark.parametrize("wrong", ["jwt", {"name": "a"}, {"ssm": "/a"}, {"name": "a", "ssm": "/a", "variable": "b"}])
def test_what_is_no_reference_is_refused(wrong: Any) -> None:
    with pytest.raises(AnsibleLookupError, match="secret_references"):
        looked_up([wrong])


def test_an_endpoint_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    with pytest.raises(AnsibleLookupError, match=r"'jwt'.*http://127\.0\.0\.1:9.*AWS_ENDPOINT_URL"):
        looked_up([{"name": "jwt", "secretsmanager": "platform/jwt"}])
