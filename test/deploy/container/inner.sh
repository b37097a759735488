#!/bin/bash
# inner.sh <work directory> <this script> <repository>: /etc, /var, /opt and /run of its own over those of the machine, the control
# groups of its namespace, the units of docs/deploy, and systemd as process 1. Kernel settings stay out of reach.
set -e
work=$1
repository=$3
hostname hostevac-test
ip link set lo up
mkdir "$work/over"
mount -t tmpfs none "$work/over"
for directory in etc var opt; do
  mkdir -p "$work/over/$directory/upper" "$work/over/$directory/work"
  mount -t overlay overlay -o "lowerdir=/$directory,upperdir=$work/over/$directory/upper,workdir=$work/over/$directory/work" "/$directory"
done
hierarchies=$(ls /sys/fs/cgroup)
umount -R /sys/fs/cgroup 2>"$work/umount.log" || true
mount -t tmpfs none /sys/fs/cgroup
for hierarchy in $hierarchies; do
  mkdir "/sys/fs/cgroup/$hierarchy"
  case $hierarchy in
    unified) mount -t cgroup2 none /sys/fs/cgroup/unified ;;
    systemd) mount -t cgroup -o none,name=systemd none /sys/fs/cgroup/systemd ;;
    *) mount -t cgroup -o "$hierarchy" none "/sys/fs/cgroup/$hierarchy" ;;
  esac
done
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -t tmpfs -o mode=755 none /run
mkdir -p /opt/hostevac "$work/units"
mount --bind "$repository" /opt/hostevac
# Only what the units refer to: a whole boot would do things that are not tested here.
for target in sysinit basic shutdown network-online multi-user exit halt poweroff reboot; do
  printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' "$target" >"$work/units/$target.target"
done
cp "$repository"/docs/deploy/systemd/*.service "$work/units/"
# There is no journal.
for unit in hostevac-guard hostevac-operations hostevac-worker@ hostevac-worker-qemu; do
  mkdir "$work/units/$unit.service.d"
  printf '[Service]\nStandardOutput=append:%s/%s.log\nStandardError=append:%s/%s.log\n' "$work" "$unit" "$work" "$unit" >"$work/units/$unit.service.d/log.conf"
done
for group in kvm libvirt; do getent group "$group" >"$work/getent.log" || groupadd -r "$group"; done
systemd-sysusers "$repository/docs/deploy/sysusers.d/hostevac.conf"
export container=unshare SYSTEMD_UNIT_PATH="$work/units"
exec /lib/systemd/systemd --system --unit=basic.target --log-level=warning --log-target=console
