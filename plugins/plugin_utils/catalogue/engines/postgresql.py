# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""PostgreSQL."""

from __future__ import annotations

from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.engines.engine import (
    BARE,
    Driver,
    Engine,
)

ENGINE = Engine(
    name="postgresql",
    title="PostgreSQL",
    port=5432,
    scheme="postgresql",
    drivers={
        # That of libpq as well.
        "pg": Driver("sslmode=verify-full&sslrootcert={ca}"),
        # It sends options that it does not know to the server, which refuses them.
        "postgres": Driver("sslmode=verify-full", node=True),
        "prisma": Driver("sslmode=require&sslaccept=strict&sslcert={ca}"),
        **BARE,
    },
    rds="postgres",
    version="17",
    family_parts=1,
    # RDS reserves admin.
    master="postgres",
    logs=("postgresql", "upgrade"),
    # Milliseconds: slow statements go to the log that RDS exports to CloudWatch.
    parameters={"rds.force_ssl": "1", "log_min_duration_statement": "1000"},
    tls_parameter="rds.force_ssl",
    tls_values=("1",),
    max_connections_query="show max_connections",
    schema_query="""
select table_name::text t, concat_ws(' ', column_name, udt_name, character_maximum_length, numeric_precision,
                                     numeric_scale, is_nullable, column_default, is_generated) d
  from information_schema.columns where table_schema = any(current_schemas(false))
union all select tablename::text, indexdef from pg_indexes where schemaname = any(current_schemas(false))
union all select table_name::text, concat_ws(' ', constraint_name, constraint_type)
  from information_schema.table_constraints where table_schema = any(current_schemas(false))
""".strip(),
    bytes_per_connection=9531392,
    client=(
        "PGSSLMODE=require psql --host=127.0.0.1 --port={port} --username={user} \\",
        "  --password --dbname={schema}",
    ),
)
