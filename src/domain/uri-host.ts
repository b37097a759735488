/** An address as it stands in a URI: IPv6 in brackets. Pure. */

export function uriHost(address: string): string {
  return address.includes(':') && !address.startsWith('[') ? `[${address}]` : address;
}
