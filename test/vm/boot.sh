#!/bin/sh
# Boots systemd as the first process of the namespaces that it is started in, with no
# units but those in a folder: boot.sh UNITS. Only for the virtual machine.
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mountpoint -q /sys/fs/cgroup || mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec env -i PATH="$PATH" container=yumen SYSTEMD_UNIT_PATH="$1" \
	/lib/systemd/systemd --system --unit=multi-user.target --log-target=console --log-level=notice --show-status=false
