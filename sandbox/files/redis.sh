#!/bin/sh
# Runs Redis in a store's container. Its password comes from /etc/sandbox/init at each start.
set -eu
run=/run/redis
install -d -o redis -g redis "$run" /var/lib/redis
install -o redis -g redis -m 0400 /etc/sandbox/init "$run/redis.conf"
for part in ca certificate key; do
  install -o redis -g redis -m 0400 "/etc/sandbox/$part.pem" "$run/$part.pem"
done

# TLS only, as ElastiCache with encryption in transit.
exec setpriv --reuid=redis --regid=redis --init-groups redis-server "$run/redis.conf" \
  --bind 0.0.0.0 --port 0 --tls-port 6379 --tls-auth-clients no --tls-ca-cert-file "$run/ca.pem" \
  --tls-cert-file "$run/certificate.pem" --tls-key-file "$run/key.pem" --dir /var/lib/redis --appendonly yes
