#!/bin/sh
# Runs MariaDB in the database's container. Accounts come from /etc/sandbox/init at each start.
set -eu
data=/var/lib/mysql
run=/run/mysqld
install -d -o mysql -g mysql "$run"

# Made beside its place and moved: an interrupted start never leaves half a database.
if [ ! -d "$data" ]; then
  rm -rf "$data.new"
  mariadb-install-db --no-defaults --user=mysql --datadir="$data.new" --skip-test-db >/dev/null
  sync
  mv "$data.new" "$data"
fi

install -o mysql -g mysql -m 0400 /etc/sandbox/init "$run/init.sql"
for part in ca certificate key; do
  install -o mysql -g mysql -m 0400 "/etc/sandbox/$part.pem" "$run/$part.pem"
done

# What RDS tells CloudWatch of a database, a stand-in tells.
PYTHONPATH=/opt python3 -m sandbox.rds_metrics "$AWS_ENDPOINT_URL" "$AWS_REGION" mysql &

exec mariadbd --no-defaults --user=mysql --datadir="$data" --socket="$run/mysqld.sock" \
  --bind-address=0.0.0.0 --skip-name-resolve --max-connections="$MAX_CONNECTIONS" \
  --character-set-server=utf8mb4 --collation-server=utf8mb4_unicode_ci \
  --ssl-ca="$run/ca.pem" --ssl-cert="$run/certificate.pem" --ssl-key="$run/key.pem" \
  --init-file="$run/init.sql"
