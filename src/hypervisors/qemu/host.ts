/** A bare-QEMU host as the fleet file describes it: a run directory on this machine and where it takes migrations. */

export interface QemuHost {
  readonly name: string;
  /** IPv4, IPv6 or a name on which incoming copies listen. */
  readonly migrationAddress: string;
  /** Memory for VMs. */
  readonly memoryBytes: number;
  readonly cpus: number;
  /** Absolute; one directory per VM. */
  readonly runDir: string;
  readonly ports: { readonly first: number; readonly last: number };
  /** `ip netns` name in which its QEMU processes run; null: the worker's own. */
  readonly networkNamespace: string | null;
}

/** undefined: no host of this adapter. */
export type HostNamed = (name: string) => QemuHost | undefined;
