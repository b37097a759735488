/** Where a libvirt URI leads: host and port, by its transport. Pure. */

export interface LibvirtPlace {
  readonly host: string;
  readonly port: number;
}

/** libvirt.org/uri.html and remote.html: TLS where no transport is named. */
const PORTS: Readonly<Record<string, number>> = { tls: 16_514, tcp: 16_509, ssh: 22, libssh: 22, libssh2: 22 };

/** null: it leads to a socket of this machine, or by a transport whose port nobody knows. */
export function placeOf(uri: string): LibvirtPlace | null {
  const [, transport = 'tls', rest = ''] = /^qemu(?:\+([a-z0-9]+))?:\/\/(.*)$/.exec(uri) ?? [];
  const authority = /^(?:[^@/?#]*@)?(\[[^\]]*\]|[^:/?#]*)(?::(\d+))?/.exec(rest);
  const host = (authority?.[1] ?? '').replace(/^\[|\]$/g, '');
  const port = authority?.[2] === undefined ? PORTS[transport] : Number(authority[2]);
  return host === '' || port === undefined ? null : { host, port };
}
