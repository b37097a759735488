/** Addresses of the pages, behind the `#`: the server needs to know one page only, and a token never stands in one. Pure. */

export type Route =
  | { readonly page: 'fleet' }
  | { readonly page: 'host'; readonly host: string }
  | { readonly page: 'evacuate'; readonly host: string }
  | { readonly page: 'operations' }
  | { readonly page: 'operation'; readonly id: string }
  | { readonly page: 'migration'; readonly id: string }
  | { readonly page: 'whatIf'; readonly vm: string }
  | { readonly page: 'rebalance' }
  | { readonly page: 'audit' }
  | { readonly page: 'unknown'; readonly path: string };

export function parseRoute(hash: string): Route {
  const path = hash.replace(/^#\/?/, '').replace(/\/$/, '');
  const [first = '', second, third, ...more] = path.split('/').map(decoded);
  const unknown: Route = { page: 'unknown', path };
  if (more.length > 0) return unknown;
  if (second === undefined) {
    if (first === '') return { page: 'fleet' };
    if (first === 'operations' || first === 'rebalance' || first === 'audit') return { page: first };
    return unknown;
  }
  if (third !== undefined)
    return first === 'hosts' && third === 'evacuate' ? { page: 'evacuate', host: second } : unknown;
  if (first === 'hosts') return { page: 'host', host: second };
  if (first === 'operations') return { page: 'operation', id: second };
  if (first === 'migrations') return { page: 'migration', id: second };
  if (first === 'vms') return { page: 'whatIf', vm: second };
  return unknown;
}

export function hrefOf(route: Exclude<Route, { page: 'unknown' }>): string {
  switch (route.page) {
    case 'fleet':
      return '#/';
    case 'host':
      return `#/hosts/${encodeURIComponent(route.host)}`;
    case 'evacuate':
      return `#/hosts/${encodeURIComponent(route.host)}/evacuate`;
    case 'operation':
      return `#/operations/${encodeURIComponent(route.id)}`;
    case 'migration':
      return `#/migrations/${encodeURIComponent(route.id)}`;
    case 'whatIf':
      return `#/vms/${encodeURIComponent(route.vm)}`;
    default:
      return `#/${route.page}`;
  }
}

/** A part that is no valid encoding (typed by hand) stands for itself. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
