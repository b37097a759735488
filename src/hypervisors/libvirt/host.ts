/** A host as the adapter needs it: how its libvirtd is reached, by us and by the other hosts. */

export interface LibvirtHost {
  readonly name: string;
  /** How this process reaches its libvirtd. */
  readonly uri: string;
  /** How the other hosts' libvirtd reach it. */
  readonly peerUri: string;
  readonly migrationAddress: string;
  /** Guests' memory is encrypted on its way. */
  readonly tls: boolean;
  /** In which its libvirtd and its QEMU processes are, where several hosts are one machine; null: the worker's own. */
  readonly networkNamespace: string | null;
}

/** A VM of a host, as the key of a map. */
export function keyOf({ name }: LibvirtHost, uuid: string): string {
  return JSON.stringify([name, uuid]);
}

/** Throws `unknownHost`. */
export type HostNamed = (name: string) => LibvirtHost;
