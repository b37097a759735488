# Sourced by the scripts here: root rights, and apt on a machine whose package sources may be partly out of reach.

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo --non-interactive "$@"; fi
}

apt_get() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 "$@"
}

# Once a run is enough; arguments are more options. One source that does not answer is no reason to stop: what counts is
# whether the install works.
lists_are_fresh=no
refresh_lists() {
  if [ "$lists_are_fresh" = yes ]; then return 0; fi
  apt_get update || echo 'apt-get update failed; trying with the lists at hand' >&2
  lists_are_fresh=yes
}
