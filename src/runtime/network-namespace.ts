/** Running a program in a network namespace. */

/**
 * What its command line begins with; null: in this process's own. Only the network is entered: `ip netns exec` would remount
 * /sys and hide the control groups.
 */
export function entering(networkNamespace: string | null): string[] {
  return networkNamespace === null ? [] : ['nsenter', `--net=/run/netns/${networkNamespace}`, '--'];
}
