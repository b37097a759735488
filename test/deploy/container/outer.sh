#!/bin/bash
# outer.sh <name> <work directory> <inner script> <arguments...>: joins a group of its own in every hierarchy, so that the systemd
# in there sees and changes nothing else, and becomes the container. What is below --kill-child ends with it.
set -e
name=$1
for hierarchy in /sys/fs/cgroup/*/; do
  mkdir -p "$hierarchy$name"
  case $hierarchy in
    */cpuset/) for file in cpuset.cpus cpuset.mems; do cat "$hierarchy$file" >"$hierarchy$name/$file"; done ;;
  esac
  echo $$ >"$hierarchy$name/cgroup.procs"
done
shift
exec unshare --cgroup --mount --pid --fork --kill-child --uts --ipc --net --propagation private bash "$2" "$@"
