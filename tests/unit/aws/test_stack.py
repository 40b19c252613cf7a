# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Database, bucket, load balancer and names: what follows from the catalogue, and what is done about what AWS has."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.fivepointers.platform.plugins.modules import rds_managed_password, rds_parameter_group
from ansible_collections.fivepointers.platform.plugins.plugin_utils import loading as catalogue
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import artifacts as aws_artifacts
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import database as aws_database
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import dns as aws_dns
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import layers as provisioning
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import load_balancer as aws_load_balancer
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision.ownership import FoundError

Load = Callable[..., Model]
ROOT = Path(__file__).resolve().parents[3]
REGION = "ap-northeast-2"


def derived(model: Model, layer: str) -> dict[str, Any]:
    """What a layer makes."""
    found: dict[str, Any] = provisioning.layer(layer).derive(model)
    return found


# --- database ----------------------------------------------------------------------


def test_what_is_stated_of_connections_is_what_the_database_gets(load: Load) -> None:
    """The budget is reckoned with the environment's number, so that number is set, and TLS cannot be given up."""
    (instance,) = derived(load(database={"parameters": {"long_query_time": 2}, "version": "8.0.40"}), "database")[
        "instances"
    ]
    assert instance["parameters"] == {
        "require_secure_transport": "1",
        "max_connections": "150",
        "slow_query_log": "1",
        "long_query_time": "2",
        "log_output": "FILE",
    }
    assert (instance["identifier"], instance["family"]) == ("staging-database", "mysql8.0")
    assert not instance["deletion_protection"]


def test_production_is_protected_unless_it_says_otherwise(load: Load, environment: dict[str, Any]) -> None:
    """Both the database and the load balancer; a second zone as well."""
    environment["name"] = "production"
    model = load()
    (instance,) = derived(model, "database")["instances"]
    assert instance["deletion_protection"] and instance["multi_az"]
    assert derived(model, "load_balancer")["deletion_protection"]
    model = load(
        database={"deletion_protection": False, "multi_az": False}, load_balancer={"deletion_protection": False}
    )
    (instance,) = derived(model, "database")["instances"]
    assert not instance["deletion_protection"] and not instance["multi_az"]
    assert not derived(model, "load_balancer")["deletion_protection"]


@pytest.mark.parametrize(
    ("aws", "words"),
    [
        ({"database": {"parameters": {"require_secure_transport": 0}}}, ("require_secure_transport", "TLS is always")),
        ({"database": {"parameters": {"max_connections": 9}}}, ("max_connections", "is set in databases")),
        ({"database": {"backups": 0}}, ("aws.database.backups", "from 1 to 35")),
        ({"database": {"adopt": {"databse": "my-rds"}}}, ("adopt.databse", "Did you mean 'database'?")),
        ({"database": {"adopt": "my-rds"}}, ("aws.database.adopt", "{database: identifier}")),
        ({"database": {"class": "t3.micro"}}, ("aws.database.class", "db.t4g.small")),
        ({"load_balancer": {"policy": "ELBSecurityPolicy-2016-08"}}, ("load_balancer.policy", "TLS 1.2 or newer")),
        ({"load_balancer": {"idle_timeout": 4000}}, ("load_balancer.idle_timeout", "3600")),
        ({"load_balancer": {"certificate": "*.example.com"}}, ("load_balancer.certificate", "ARN")),
        ({"artifacts": {"old_versions_days": 0}}, ("artifacts.old_versions_days", "from 1")),
        ({"artifacts": {"writers": ["arn:aws:iam::1:role/*"]}}, ("artifacts.writers[0]", "the ARN of one role")),
        ({"dns": {"zone": "example.com"}}, ("aws.dns.zone", "id of a hosted zone")),
    ],
)
def test_wrong_settings_are_refused(load: Load, aws: dict[str, Any], words: tuple[str, ...]) -> None:
    """The message names the setting and the fix."""
    with pytest.raises(catalogue.CatalogueError) as caught:
        load(**aws)
    for word in words:
        assert word in str(caught.value)


def test_the_load_balancer_waits_as_long_as_a_service_may_take(load: Load, services: dict[str, Any]) -> None:
    services["services"]["api"]["timeout"] = 600
    assert derived(load(), "load_balancer")["idle_timeout"] == 3600
    with pytest.raises(catalogue.CatalogueError, match=r"(?s)idle_timeout: 300.*'api' may take 600 s.*Write 600"):
        load(load_balancer={"idle_timeout": 300})


def test_the_load_balancers_name_fits(load: Load, environment: dict[str, Any]) -> None:
    """AWS takes 32 characters."""
    environment["name"] = "e" * 28
    with pytest.raises(catalogue.CatalogueError, match="longer than 32"):
        load()


GOOD = {
    "engine": "mysql",
    "publicly_accessible": False,
    "storage_encrypted": True,
    "backup_retention_period": 7,
    "deletion_protection": True,
}


@pytest.mark.parametrize(
    ("change", "parameters", "word"),
    [
        ({}, {}, ""),
        ({"publicly_accessible": True}, {}, "public address"),
        ({"storage_encrypted": False}, {}, "not encrypted"),
        ({"backup_retention_period": 0}, {}, "no backups"),
        ({"deletion_protection": False}, {}, "deletion"),
        ({}, {"require_secure_transport": "0"}, "without TLS"),
        ({}, {"max_connections": "{DBInstanceClassMemory/12582880}"}, "170 at most: ask the server"),
    ],
)
def test_what_an_adopted_database_lacks_is_said(
    load: Load, change: dict[str, Any], parameters: dict[str, str], word: str
) -> None:
    """One note for each fault, and none for a database as it should be."""
    (wanted,) = derived(load(database={"adopt": {"database": "my-rds"}}), "database")["instances"]
    stated = {"require_secure_transport": "ON", "max_connections": "200", **parameters}
    found = aws_database.findings(wanted, [{**GOOD, **change}], stated, 2048)
    assert len(found) == (1 if word else 0)
    assert word in "".join(found)


@pytest.mark.parametrize(
    ("found", "stated", "word"),
    [
        ([GOOD], "150", ""),
        ([GOOD], "149", "allows 149 at most"),
        ([GOOD], "{DBInstanceClassMemory/12582880}", "allows 85 at most"),
        ([GOOD], "LEAST({DBInstanceClassMemory/9531392},5000)", "allows 112 at most"),
        ([GOOD], "LEAST({DBInstanceClassMemory/9531392},50)", "allows 50 at most"),
        ([GOOD], "GREATEST(100, x)", ""),
        ([], "150", "RDS instance 'my-rds' not found"),
        ([{**GOOD, "engine": "postgres"}], "150", "runs postgres"),
    ],
)
def test_an_adopted_database_that_allows_less_than_stated_is_refused(
    load: Load, found: list[dict[str, Any]], stated: str, word: str
) -> None:
    """The budget would be a promise that the server does not keep."""
    (wanted,) = derived(load(database={"adopt": {"database": "my-rds"}}), "database")["instances"]
    errors = aws_database.errors(wanted, found, {"max_connections": stated}, 1024)
    assert len(errors) == (1 if word else 0)
    assert word in "".join(errors)


def test_each_database_can_have_settings_of_its_own(load: Load) -> None:
    model = load(database={"class": "db.t4g.medium", "each": {"database": {"version": "8.0", "multi_az": False}}})
    (made,) = derived(model, "database")["instances"]
    facts = {key: made[key] for key in ("class", "version", "family", "multi_az", "backups")}
    assert facts == {
        "class": "db.t4g.medium",
        "version": "8.0",
        "family": "mysql8.0",
        "multi_az": False,
        "backups": 7,
    }
    with pytest.raises(catalogue.CatalogueError, match="unknown database 'reports'"):
        load(database={"each": {"reports": {}}})


def test_a_database_is_created_as_its_engine_has_it(load: Load) -> None:
    model = load(database={})
    model.databases["database"]["engine"] = "postgresql"
    (made,) = derived(model, "database")["instances"]
    assert (made["rds"], made["version"], made["family"], made["master"]) == (
        "postgres",
        "17",
        "postgres17",
        "postgres",
    )
    assert made["logs"] == ["postgresql", "upgrade"]
    assert made["parameters"] == {
        "rds.force_ssl": "1",
        "log_min_duration_statement": "1000",
        "max_connections": str(model.environment["databases"]["database"]["max_connections"]),
    }


def run(module: Any, capsys: pytest.CaptureFixture[str], **arguments: Any) -> dict[str, Any]:
    """Run a module in this process; return what it says."""
    capsys.readouterr()
    with patch_module_args({"region": REGION, **arguments}), pytest.raises(SystemExit):
        module.main()
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    return said


@pytest.mark.slow
def test_a_parameter_group_is_made_told_and_mended(account: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Check mode makes nothing; a second run changes nothing; drift is mended, and what others set stays."""
    rds: Any = boto3.client("rds", region_name=REGION)
    wanted = {"name": "trial", "family": "mysql8.4", "parameters": {"require_secure_transport": "1"}}
    said = run(rds_parameter_group, capsys, **wanted, _ansible_check_mode=True)
    assert said["changed"] and said["diff"]["after"] == {"require_secure_transport": "1"}
    assert rds.describe_db_parameter_groups()["DBParameterGroups"] == []
    assert run(rds_parameter_group, capsys, **wanted)["changed"]
    assert not run(rds_parameter_group, capsys, **wanted)["changed"]
    by_hand = {"require_secure_transport": "0", "wait_timeout": "60"}
    rds.modify_db_parameter_group(
        DBParameterGroupName="trial",
        Parameters=[{"ParameterName": k, "ParameterValue": v, "ApplyMethod": "immediate"} for k, v in by_hand.items()],
    )
    said = run(rds_parameter_group, capsys, **wanted)
    assert said["changed"] and said["diff"]["before"] == {"require_secure_transport": "0"}
    assert said["parameters"] == {"require_secure_transport": "1", "wait_timeout": "60"}
    said = run(rds_parameter_group, capsys, name="nothing")
    assert said["failed"] and "Set family" in said["msg"]


@pytest.mark.slow
def test_more_connections_than_there_is_memory_for_are_refused(
    account: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """RDS itself gives 85 to a GiB. Nothing is made."""
    wanted = {"name": "trial", "family": "mysql8.4", "instance_class": "db.t4g.micro", "bytes_per_connection": 12582880}
    said = run(rds_parameter_group, capsys, **wanted, parameters={"max_connections": "86"})
    assert said["failed"] and "max_connections is 86, but db.t4g.micro has memory for 85" in said["msg"]
    rds: Any = boto3.client("rds", region_name=REGION)
    assert rds.describe_db_parameter_groups()["DBParameterGroups"] == []
    assert run(rds_parameter_group, capsys, **wanted, parameters={"max_connections": "85"})["memory_mib"] == 1024


def test_static_parameters_wait_and_unknown_ones_are_refused() -> None:
    """As RDS lists them; moto lists only what was set."""
    found = {
        "innodb_buffer_pool_instances": {"ApplyType": "static", "DataType": "integer", "IsModifiable": True},
        "max_connections": {"ApplyType": "dynamic", "DataType": "integer", "IsModifiable": True, "ParameterValue": "9"},
        "basedir": {"ApplyType": "static", "DataType": "string", "IsModifiable": False},
    }
    wanted = {"innodb_buffer_pool_instances": "2", "max_connections": "9", "basedir": "/", "max_conections": "9"}
    changes = rds_parameter_group.plan(wanted, found)
    assert {item["ParameterName"]: item["ApplyMethod"] for item in changes} == {
        "innodb_buffer_pool_instances": "pending-reboot",
        "basedir": "pending-reboot",
        "max_conections": "immediate",
    }
    assert rds_parameter_group.refused(changes, found) == [
        "parameter 'basedir' cannot be modified",
        "unknown parameter 'max_conections'",
    ]


@pytest.mark.slow
def test_the_master_password_goes_to_secrets_manager_once(account: None, capsys: pytest.CaptureFixture[str]) -> None:
    """And the module says where it is, never what it is."""
    rds: Any = boto3.client("rds", region_name=REGION)
    assert "Create it first" in run(rds_managed_password, capsys, db_instance_identifier="trial")["msg"]
    assert run(rds_managed_password, capsys, db_instance_identifier="trial", _ansible_check_mode=True)["changed"]
    rds.create_db_instance(
        DBInstanceIdentifier="trial", DBInstanceClass="db.t4g.micro", Engine="mysql", MasterUsername="admin",
        MasterUserPassword="thrown-away-1", AllocatedStorage=20,
    )  # fmt: skip
    said = run(rds_managed_password, capsys, db_instance_identifier="trial")
    secret = rds.describe_db_instances()["DBInstances"][0]["MasterUserSecret"]["SecretArn"]
    assert said["changed"] and said["secret_arn"] == secret
    said = run(rds_managed_password, capsys, db_instance_identifier="trial")
    assert not said["changed"] and said["secret_arn"] == secret


# --- artifacts ---------------------------------------------------------------------


def bucket(wanted: dict[str, Any], **changes: Any) -> list[dict[str, Any]]:
    """A bucket as s3_bucket_info finds one that is as it shall be."""
    rule = {
        "ID": wanted["rule"],
        "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
    }
    encryption = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    found = {
        "bucket_encryption": {"ServerSideEncryptionConfiguration": {"Rules": [encryption]}},
        "bucket_lifecycle_configuration": {"Rules": [rule]},
        "bucket_ownership_controls": {"OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}},
        "bucket_policy": {"Policy": json.dumps(wanted["policy"])},
        "bucket_tagging": {**wanted["tags"], "Team": "theirs"},
        "bucket_versioning": {"Status": "Enabled"},
        "public_access_block": {
            "PublicAccessBlockConfiguration": dict.fromkeys(aws_artifacts.BLOCKS, True),
        },
    }
    return [{**found, **changes}]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"bucket_versioning": {}}, ["versioning true instead of false"]),
        ({"public_access_block": {}}, ["private true instead of false"]),
        ({"bucket_policy": {}}, ["policy"]),
        ({"bucket_encryption": {}}, ["encryption"]),
        ({"bucket_lifecycle_configuration": {}}, ["old_versions_days 30 instead of null", "abort_uploads_days 7"]),
        ({"bucket_ownership_controls": {}}, ["ownership"]),
    ],
)
def test_what_a_bucket_lacks_is_told_without_check_mode(
    load: Load, environment: dict[str, Any], changes: dict[str, Any], words: list[str]
) -> None:
    """The modules for buckets have none."""
    environment["artifacts"] = "s3://staging-builds/x"
    environment["artifact_signing"] = False
    wanted = derived(load(), "artifacts")
    plan = aws_artifacts.changes(wanted, {"buckets": bucket(wanted, **changes)})
    assert plan["ours"]
    assert len(plan["changes"]) == len(words)
    for word, line in zip(words, plan["changes"], strict=True):
        assert line.startswith(f"staging-builds: {word}")


def test_the_bucket_of_another_environment_is_not_taken_over(load: Load, environment: dict[str, Any]) -> None:
    """The policy for its writers would be replaced by one for ours."""
    environment |= {"artifacts": "s3://builds/staging", "artifact_signing": False}
    wanted = derived(load(), "artifacts")
    tags = {**wanted["tags"], "Environment": "production"}
    for changes in ({}, {"bucket_policy": {}}):
        with pytest.raises(FoundError, match=r"bucket builds has the tag Environment=production.* name another"):
            aws_artifacts.changes(wanted, {"buckets": bucket(wanted, bucket_tagging=tags, **changes)})
    # One that nobody manages may hold the artifacts of both.
    shared = {"Environment": "production"}
    assert not aws_artifacts.changes(wanted, {"buckets": bucket(wanted, bucket_tagging=shared)})["ours"]


def test_a_bucket_of_others_is_left_alone(load: Load, environment: dict[str, Any]) -> None:
    """Its policy may be what something else lives on."""
    environment["artifacts"] = "s3://staging-builds"
    environment["artifact_signing"] = False
    wanted = derived(load(), "artifacts")
    plan = aws_artifacts.changes(wanted, {"buckets": bucket(wanted, bucket_tagging={})})
    assert not plan["ours"]
    assert plan["changes"] and all("somebody else created the bucket" in line for line in plan["changes"])
    assert aws_artifacts.changes(wanted, {"buckets": []}) == {"ours": True, "changes": ["staging-builds, created"]}
    build = "arn:aws:iam::111122223333:role/build-staging"
    environment["artifacts"] = "s3://builds/staging"
    (_tls, writers) = derived(load(artifacts={"writers": [build]}), "artifacts")["policy"]["Statement"]
    assert writers["Effect"] == "Deny" and writers["Resource"] == "arn:aws:s3:::builds/staging/*"
    assert writers["Condition"] == {"ArnNotEquals": {"aws:PrincipalArn": [build]}}
    environment["artifacts"] = "s3://staging-builds"
    environment["artifacts"] = None
    assert aws_artifacts.changes(derived(load(), "artifacts"), {"buckets": []}) == {"ours": True, "changes": []}


# --- load balancer -----------------------------------------------------------------


def test_the_target_group_is_what_the_edge_is(load: Load) -> None:
    """It asks what the edge answers by address, and lets go as late as the slowest public service."""
    wanted = derived(load(), "load_balancer")
    group = wanted["target_group"]
    assert group["deregistration_delay_timeout"] == 300  # the hold of the catalogue's sockets
    edge = (ROOT / "roles/nginx_proxy/templates/edge.conf.j2").read_text()
    default = edge[edge.index("listen 80 default_server") :]
    assert f"location = {group['health_check_path']} {{" in default[: default.index("}")]
    assert wanted["enabled"]


def test_the_edge_keeps_connections_longer_than_the_load_balancer(template: Callable[..., Any]) -> None:
    """Whoever closes first decides whether a request on its way is lost."""
    text = (ROOT / "roles/nginx_proxy/templates/edge-server.conf.j2").read_text()
    tls = {"mode": "load_balancer", "trusted": ["10.0.0.0/16"]}
    defaults = yaml.safe_load((ROOT / "roles/nginx_proxy/defaults/main.yml").read_text())
    rendered = template(text, {**defaults, "nginx_proxy_tls": tls})
    (seconds,) = re.findall(r"(?m)^keepalive_timeout (\d+)s;$", rendered)
    assert int(seconds) > aws_load_balancer.IDLE_TIMEOUT
    direct = {"mode": "files", "trusted": []}
    assert "keepalive_timeout" not in template(text, {**defaults, "nginx_proxy_tls": direct})


def test_without_tls_at_a_load_balancer_there_is_none(load: Load, environment: dict[str, Any]) -> None:
    """A single server holds its own certificate."""
    environment["tls"] = {"mode": "acme", "email": "ops@example.com"}
    assert not derived(load(), "load_balancer")["enabled"]
    assert not derived(load(), "dns")["load_balancer"]


def certificate(arn: str, *names: str, status: str = "ISSUED", until: str = "2027-01-01") -> dict[str, Any]:
    """A certificate as acm_certificate_info finds it."""
    return {
        "certificate_arn": arn,
        "domain_name": names[0],
        "subject_alternative_names": list(names),
        "status": status,
        "not_after": until,
    }


def test_the_certificate_that_covers_all_names_longest_is_chosen(load: Load) -> None:
    """A wildcard stands for one label and not for the domain itself."""
    wanted = derived(load(), "load_balancer")
    both = ("example.com", "*.example.com")
    found = [
        certificate("old", *both, until="2026-12-01"),
        certificate("new", *both, until="2027-12-01"),
        certificate("apex", "example.com", until="2029-01-01"),
        certificate("star", "*.example.com", until="2029-01-01"),
        certificate("waits", *both, status="PENDING_VALIDATION", until="2029-01-01"),
    ]
    assert aws_load_balancer.choose_certificate(found, wanted) == {"arn": "new", "problem": ""}
    problem = aws_load_balancer.choose_certificate(found[2:], wanted)["problem"]
    assert (
        "aws acm request-certificate --region ap-northeast-2 --validation-method DNS --domain-name '*.example.com' "
        "--subject-alternative-names example.com"
    ) in problem
    stated = {**wanted, "certificate": "star"}
    problem = aws_load_balancer.choose_certificate(found, stated)["problem"]
    assert "does not cover example.com" in problem
    problem = aws_load_balancer.choose_certificate(found, {**wanted, "certificate": "gone"})["problem"]
    assert "does not exist, or is not issued" in problem


def test_edges_are_registered_and_only_what_is_gone_is_taken_out() -> None:
    """A stopped edge stays: a schedule may start it again."""

    def instance(name: str, state: str, services: str) -> dict[str, Any]:
        return {"instance_id": name, "state": {"name": state}, "tags": {"Services": services}}

    def target(name: str, health: str = "healthy") -> dict[str, Any]:
        return {"target": {"id": name, "port": 80}, "target_health": {"state": health}}

    instances = [
        instance("i-new", "running", "api, edge"),
        instance("i-known", "running", "edge"),
        instance("i-stopped", "stopped", "edge"),
        instance("i-stopped-new", "stopped", "edge"),
        instance("i-dead", "terminated", "edge"),
        instance("i-api", "running", "api,knowledge"),
    ]
    targets = [target("i-known"), target("i-stopped", "unused"), target("i-dead"), target("i-api")]
    targets.append(target("i-leaving", "draining"))
    assert aws_load_balancer.target_plan(instances, targets) == [
        {"name": "i-new", "state": "present"},
        {"name": "i-api", "state": "absent"},
        {"name": "i-dead", "state": "absent"},
    ]


def test_drift_of_the_target_group_is_told(load: Load) -> None:
    """The module for target groups has no check mode."""
    wanted = derived(load(), "load_balancer")["target_group"]
    found: dict[str, Any] = {name: wanted[key] for key, name in aws_load_balancer.FOUND_AS.items()}
    found["deregistration_delay_timeout_seconds"] = "300"
    found |= {"matcher": {"http_code": "200"}, "tags": {**wanted["tags"], "Owner": "others"}}
    assert aws_load_balancer.target_group_changes(wanted, found) == []
    assert aws_load_balancer.target_group_changes(wanted, {**found, "health_check_path": "/"}) == [
        "staging-edge: health_check_path /edge-health instead of /"
    ]
    assert aws_load_balancer.target_group_changes(wanted, {**found, "tags": {**wanted["tags"], "Service": "x"}}) == [
        "staging-edge: tags {'Service': 'edge'} instead of {'Service': 'x'}"
    ]
    assert aws_load_balancer.target_group_changes(wanted, {}) == ["staging-edge, a target group"]


# --- dns ---------------------------------------------------------------------------


def of_domain(model: Model, domain: str = "example.com") -> dict[str, Any]:
    """Return what the layer derives for one domain."""
    everything = derived(model, "dns")
    (own,) = [item for item in everything["zones"] if item["domain"] == domain]
    return {**everything, **own}


BALANCER = {"dns_name": "Staging-Edge-1.elb.amazonaws.com", "canonical_hosted_zone_id": "Z1"}


def test_all_names_lead_to_the_load_balancer(load: Load) -> None:
    """Apex, fixed hosts and the wildcard, as aliases; and ACM's questions are answered."""
    wanted = of_domain(load())
    record = {"name": "_a.example.com.", "type": "CNAME", "value": "_b.acm-validations.aws."}
    waiting = [
        {"domain_validation_options": [{"domain_name": name, "resource_record": record}]}
        for name in ("example.com", "*.example.com")
    ]
    waiting.append({"domain_validation_options": [{"domain_name": "example.org", "resource_record": record}]})
    waiting.append({"domain_validation_options": [{"domain_name": "example.com"}]})  # ACM has not said yet
    records = aws_dns.records(wanted, BALANCER, [], waiting)
    assert [item["name"] for item in records] == [
        "api.example.com", "example.com", "ws.example.com", "*.example.com", "_a.example.com",
    ]  # fmt: skip
    assert records[0] == {
        "name": "api.example.com",
        "type": "A",
        "value": ["staging-edge-1.elb.amazonaws.com."],
        "alias": True,
        "alias_hosted_zone_id": "Z1",
    }
    assert records[-1]["type"] == "CNAME" and not records[-1]["alias"]


def test_only_records_that_differ_are_written(load: Load) -> None:
    """As Route 53 tells them: a name with its last dot, and a wildcard's star by its number."""
    wanted = aws_dns.records(of_domain(load()), BALANCER, [], [])
    wanted.append({"name": "_a.example.com", "type": "CNAME", "value": ["_b."], "alias": False})
    alias = {"dns_name": wanted[0]["value"][0], "hosted_zone_id": "Z1", "evaluate_target_health": True}
    there: list[dict[str, Any]] = [
        {"name": f"{item['name']}.".replace("*", r"\052"), "type": "A", "alias_target": alias} for item in wanted[:-1]
    ]
    there.append({"name": "_a.example.com.", "type": "CNAME", "ttl": 60, "resource_records": [{"value": "_b."}]})
    assert aws_dns.differing_records(wanted, there, 60) == []
    assert aws_dns.differing_records(wanted, there, 300) == [wanted[-1]]
    assert aws_dns.differing_records(wanted, there[1:], 60) == [wanted[0]]
    drifts: list[tuple[int, dict[str, Any]]] = [
        (0, {"type": "AAAA"}),
        *((0, {"alias_target": {**alias, key: "other"}}) for key in alias),
        (0, {"alias_target": None, "ttl": 60, "resource_records": [{"value": "192.0.2.9"}]}),
        (-1, {"resource_records": [{"value": "_b."}, {"value": "_c."}]}),
    ]
    for index, drift in drifts:
        changed = list(there)
        changed[index] = {**there[index], **drift}
        assert aws_dns.differing_records(wanted, changed, 60) == [wanted[index]], drift


def test_each_domain_has_a_zone_with_its_names(load: Load, environment: dict[str, Any]) -> None:
    """The zone of a further domain is stated beside it."""
    environment["domains"] = {"other-brand.com": {"zone": "ZOTHER00"}, "eu.example.com": {}}
    environment["services"] = {
        "frontend": {"public": [{"host": "@"}, {"host": "other-brand.com"}, {"host": "a.eu.@"}]},
    }
    model = load()
    zones = {item["domain"]: item for item in derived(model, "dns")["zones"]}
    assert {domain: item["names"] for domain, item in zones.items()} == {
        "example.com": ["api.example.com", "example.com", "ws.example.com", "*.example.com"],
        "other-brand.com": ["other-brand.com"],
        "eu.example.com": ["a.eu.example.com"],
    }
    record = {"name": "_a.other-brand.com.", "type": "CNAME", "value": "_b.acm-validations.aws."}
    waiting = {"domain_validation_options": [{"domain_name": "other-brand.com", "resource_record": record}]}
    there = {
        "domain": "other-brand.com",
        "zones": {"HostedZone": {"Name": "other-brand.com."}},
        "records": [],
        "instances": [],
        "certificates": [{**waiting, "status": "PENDING_VALIDATION"}],
        "load_balancer": BALANCER,
    }
    found = aws_dns.changes(derived(model, "dns"), there)
    assert found["zone"] == {"id": "ZOTHER00", "name": "other-brand.com", "ours": False}
    assert [item["name"] for item in found["write"]] == ["other-brand.com", "_a.other-brand.com"]
    with pytest.raises(
        FoundError, match=r"platform_environment\.domains\.other-brand\.com\.zone is ZOTHER00, the zone of"
    ):
        aws_dns.changes(derived(model, "dns"), {**there, "zones": {"HostedZone": {"Name": "example.com."}}})
    names = derived(model, "load_balancer")["names"]
    assert {"*.example.com", "example.com", "other-brand.com", "a.eu.example.com"} == set(names)


def test_without_a_load_balancer_names_lead_to_the_edges(load: Load) -> None:
    """To public addresses; with none, no name is written."""
    wanted = of_domain(load())
    edges = [{"public_ip_address": "192.0.2.2"}, {"public_ip_address": "192.0.2.1"}, {"private_ip_address": "10.0.0.1"}]
    records = aws_dns.records(wanted, {}, edges, [])
    assert {tuple(item["value"]) for item in records} == {("192.0.2.1", "192.0.2.2")}
    assert aws_dns.records(wanted, {}, edges[2:], []) == []


def test_the_zone_is_ours_or_is_stated(load: Load) -> None:
    """A zone of the same name that others made is not written into by guess."""
    wanted = of_domain(load())

    def zone(name: str, number: str, comment: str, private: bool = False) -> dict[str, Any]:
        return {"Name": name, "Id": f"/hostedzone/{number}", "Config": {"Comment": comment, "PrivateZone": private}}

    ours = zone("example.com.", "ZOURS1", "staging, made by fivepointers.platform")
    others = [zone("example.com.", "ZPRIVATE", "", private=True), zone("example.net.", "ZNET", "")]
    assert aws_dns.zone({"HostedZones": others}, wanted) == {"id": "", "name": "example.com", "ours": True}
    assert aws_dns.zone({"HostedZones": [ours, *others]}, wanted)["id"] == "ZOURS1"
    for zones in ([zone("example.com.", "ZTHEIRS", "")], [ours, zone("example.com.", "ZTHEIRS", "")]):
        with pytest.raises(FoundError, match="ZTHEIRS"):
            aws_dns.zone({"HostedZones": zones}, wanted)
    stated = {**wanted, "zone": "ZPARENT", "domain": "staging.example.com"}
    assert aws_dns.zone({"HostedZone": {"Name": "example.com."}}, stated) == {
        "id": "ZPARENT", "name": "example.com", "ours": False,
    }  # fmt: skip
    with pytest.raises(FoundError, match=r"zone of ample\.com"):
        aws_dns.zone({"HostedZone": {"Name": "ample.com."}}, stated)
