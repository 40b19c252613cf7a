# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What of a project looks like a credential. Artifacts hold none: stores, hosts and caches of CI keep them."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.build.commands import BuildError

#: Environment files. The platform sets a service's environment, so they are left out; samples hold no values.
_DOTENV = re.compile(r"(?:^|/)\.env(?:\.(?!(?:example|sample|template|dist)$)[^/]*)?$")
_NAMES = re.compile(
    r"(?:^|/)(?:"
    r"id_(?:rsa|dsa|ecdsa|ed25519)|[^/]+\.(?:p12|pfx|jks|keystore|ppk|kdbx|tfstate|tfstate\.backup|tfvars)"
    r"|[._]netrc|\.pgpass|\.my\.cnf|\.git-credentials|\.dockercfg|\.htpasswd|\.vault_pass"
    r"|\.aws/(?:credentials|config)|\.docker/config\.json|\.kube/config|kubeconfig|terraform\.tfstate\.d/.+"
    r")$"
)
#: A private key with its content. Code that reads keys has such a first line too, and nothing behind it.
_PRIVATE_KEY = re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----(?:\s|\\r|\\n)+(?:[A-Za-z0-9+/=]|\s|\\r|\\n){60,}")
#: Text from here on is the output of generators; a bundle of a large application is a tenth of it.
_LOOK_INTO = 16 << 20
#: What detect-secrets finds by a form that nothing else has. Left out is what it takes for one by entropy, by the words
#: around it, or although it may be public, as tokens for browsers and addresses of connections are.
_DETECTORS = (
    "aws.AWSKeyDetector", "azure_storage_key.AzureStorageKeyDetector", "discord.DiscordBotTokenDetector",
    "github_token.GitHubTokenDetector", "gitlab_token.GitLabTokenDetector", "mailchimp.MailchimpDetector",
    "npm.NpmDetector", "openai.OpenAIDetector", "pypi_token.PypiTokenDetector", "sendgrid.SendGridDetector",
    "slack.SlackDetector", "square_oauth.SquareOAuthDetector", "stripe.StripeDetector",
    "telegram_token.TelegramBotTokenDetector", "twilio.TwilioKeyDetector",
)  # fmt: skip
#: In longer words, such as a program of WebAssembly in base64, anything comes up.
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/_")
#: What the documentation of AWS calls its keys.
_EXAMPLE = "EXAMPLE"
#: A secret this short would be found anywhere.
_SHORTEST = 8


def keep_out(
    files: dict[str, Path | bytes], include: Sequence[str], exclude: Sequence[str], secrets: Sequence[str] = ()
) -> tuple[list[str], dict[str, str]]:
    """Remove environment files and what is excluded from an artifact's files, and look for credentials in the rest.

    Packages of others are known by the names of their files only: what they contain is public.

    :param include: paths in the artifact that are all right, files or folders.
    :param exclude: paths in the artifact to leave out, files or folders.
    :param secrets: values that the build was given, and that no file may hold.
    :return: the environment files that were left out, and what looks like a credential: path → why.
    """
    left_out: list[str] = []
    found: dict[str, str] = {}
    sought = [secret.encode() for secret in secrets if len(secret) >= _SHORTEST]
    for place in sorted(files):
        package = "node_modules" in place.split("/")
        if below(place, exclude):
            del files[place]
            continue
        why = ""
        if sought and any(secret in _content(files[place]) for secret in sought):
            why = "a secret of build.secrets"
        elif below(place, include):
            continue
        elif _NAMES.search(place):
            why = "its name"
        elif package:
            continue
        elif _DOTENV.search(place):
            del files[place]
            left_out.append(place)
        else:
            why = _looks_like(_content(files[place], _LOOK_INTO))
        if why:
            found[place] = why
    return left_out, found


def _content(source: Path | bytes, limit: int | None = None) -> bytes:
    """Return a file's content; nothing if it is larger than a limit, or a broken link, which others report."""
    if isinstance(source, bytes):
        return source
    if not source.is_file() or (limit is not None and source.stat().st_size > limit):
        return b""
    return source.read_bytes()


def _looks_like(content: bytes) -> str:
    """Return what kind of credential a text holds; empty if it holds none."""
    if b"\0" in content[:1024]:
        return ""
    if _PRIVATE_KEY.search(content):
        return "Private Key"
    text = content.decode("latin-1")
    for detector in _detectors():
        for pattern in detector.denylist:
            for match in pattern.finditer(text):
                around = text[max(0, match.start() - 1) : match.start()], text[match.end() : match.end() + 1]
                if not match.group().endswith(_EXAMPLE) and not _LETTERS.issuperset(around):
                    return str(detector.secret_type)
    return ""


@functools.cache
def _detectors() -> list[Any]:
    try:
        return [
            getattr(importlib.import_module(f"detect_secrets.plugins.{module}"), name)()
            for module, _dot, name in (path.partition(".") for path in _DETECTORS)
        ]
    except ImportError as error:
        raise BuildError(
            "The Python package detect-secrets, which finds credentials in artifacts, is missing on the controller: "
            "pip install detect-secrets"
        ) from error


def below(place: str, paths: Sequence[str]) -> bool:
    """Return whether a path is one of these, or in a folder that is."""
    return any(place == path or place.startswith(f"{path}/") for path in paths)
