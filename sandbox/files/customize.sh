#!/bin/sh
# Makes a Debian 12 tree into a sandbox host. mmdebstrap calls it with the tree.
set -eu
root=$1

# What EC2's Debian images have: a user admin who may do everything.
chroot "$root" useradd --create-home --shell /bin/bash --groups sudo admin
echo 'admin ALL=(ALL:ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/90-admin"
chmod 0440 "$root/etc/sudoers.d/90-admin"

# Keys come from the sandbox's state, mounted at /etc/sandbox: the image holds no secret.
rm -f "$root"/etc/ssh/ssh_host_*
cat >"$root/etc/ssh/sshd_config.d/sandbox.conf" <<EOF
HostKey /etc/sandbox/ssh_host_ed25519_key
AuthorizedKeysFile /etc/sandbox/authorized_keys
PasswordAuthentication no
UseDNS no
EOF
mkdir "$root/etc/sandbox"

# Containers share the machine's kernel; what would change it for the machine stays off,
# and so do the jobs that take apt's lock at a time of their own choosing.
for unit in systemd-sysctl.service systemd-modules-load.service systemd-binfmt.service \
  proc-sys-fs-binfmt_misc.automount sys-kernel-debug.mount sys-kernel-tracing.mount \
  sys-fs-fuse-connections.mount dev-hugepages.mount \
  apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer; do
  ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

# Certificates that this machine trusts beyond Debian's.
if [ -d /usr/local/share/ca-certificates ]; then
  cp -r /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/"
  chroot "$root" update-ca-certificates >/dev/null
fi

# Modules that Ansible sends are compiled once, and not in each task (see the file).
python=$root/usr/lib/python3/dist-packages
install -m 0644 "$(dirname "$0")/python/kept_bytecode.py" "$python/kept_bytecode.py"
echo 'import kept_bytecode; kept_bytecode.install("/var/cache/bytecode")' >"$python/kept_bytecode.pth"

# Packages that the roles install are fetched once, here: apt finds them in its cache.
chroot "$root" apt-get clean
chroot "$root" apt-get install --yes --no-install-recommends --download-only logrotate nginx libnginx-mod-http-brotli-static \
  certbot python3-certbot-dns-route53 nftables pebble
