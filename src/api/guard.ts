/**
 * Who is let in. With a token (bearer only, no cookies): whose it is, and whether the role suffices. Where no token was ever
 * made and the server listens on the loopback address: everybody on this machine, as long as no web page of somebody else is
 * behind the request (the name that the server is called by, and the origin, must be local).
 */
import type { FastifyRequest } from 'fastify';
import { mayAs, type Role } from '../domain/access.ts';
import { HostevacError } from '../domain/errors.ts';
import { holderOfToken, isValidToken, needsToken, type TokenInfo, type TokenTable } from '../store/tokens.ts';

export interface Caller {
  readonly name: string;
  readonly role: Role;
  readonly authenticated: boolean;
  /** null: nobody needs one. */
  readonly tokenId: string | null;
}

const LOCAL: Caller = { name: 'local', role: 'admin', authenticated: false, tokenId: null };

/** The same for every reason: a caller learns nothing about which tokens there are. */
const UNAUTHORIZED = 'this needs a valid token: Authorization: Bearer hev_...; one is made with: hostevac token create';

export interface GuardOptions {
  readonly loopback: boolean;
  readonly tls: boolean;
  /** Nobody is let in without a token, also while there is none. */
  readonly requireToken: boolean;
}

/** Throws `unauthorized` or `forbidden`. */
export function admit(request: FastifyRequest, wanted: Role, table: TokenTable, options: GuardOptions): Caller {
  if (!needsToken(table)) {
    if (options.requireToken || !options.loopback) throw new HostevacError('unauthorized', UNAUTHORIZED);
    // A page of somebody else's, shown in a browser on this machine, must not reach what is open to this machine.
    mustBeLocal(request, options.tls);
    return LOCAL;
  }
  const holder = holderOf(request, table);
  if (holder === null) throw new HostevacError('unauthorized', UNAUTHORIZED);
  const caller = { name: holder.name, role: holder.role, authenticated: true, tokenId: holder.id };
  // Known before it is refused, for the audit log.
  request.caller = caller;
  if (!mayAs(caller.role, wanted)) {
    throw new HostevacError(
      'forbidden',
      `this needs the role ${wanted}; the token "${caller.name}" has ${caller.role}`,
    );
  }
  return caller;
}

/** Whether who asks may know what is not for everybody: this machine, unless for somebody else, and whoever has a token. */
export function isFamiliar(request: FastifyRequest, table: TokenTable | null, { loopback }: GuardOptions): boolean {
  if (loopback && forwardingHeader(request) === null) return true;
  return table !== null && holderOf(request, table) !== null;
}

function holderOf(request: FastifyRequest, table: TokenTable): TokenInfo | null {
  return holderOfToken(table, bearerOf(request), Date.now());
}

/** A header by which a proxy says that it asks for somebody else. */
function forwardingHeader({ headers }: FastifyRequest): string | null {
  const names = Object.keys(headers);
  return names.find((name) => /^(?:forwarded|via|x-real-ip|x-forwarded-.*)$/.test(name)) ?? null;
}

/** Whether somebody who was let in, and still follows something, would be let in now. */
export function isStillAdmitted({ tokenId }: Caller, table: TokenTable): boolean {
  return tokenId === null ? !needsToken(table) : isValidToken(table, tokenId, Date.now());
}

function bearerOf({ headers }: FastifyRequest): string {
  return /^Bearer +([^ ]+) *$/i.exec(headers.authorization ?? '')?.[1] ?? '';
}

function mustBeLocal(request: FastifyRequest, tls: boolean): void {
  const { host = '', origin } = request.headers;
  const forwarded = forwardingHeader(request);
  if (forwarded !== null) {
    throw new HostevacError(
      'forbidden',
      `without tokens this server answers to its own machine only, and ${forwarded} says that a proxy asks for somebody else; make tokens: hostevac token create`,
    );
  }
  if (!isLoopbackName(nameOf(host))) {
    throw new HostevacError(
      'forbidden',
      `without tokens this server answers to localhost only, not to ${JSON.stringify(host)}; make a token: hostevac token create`,
    );
  }
  if (origin !== undefined && origin.toLowerCase() !== `${tls ? 'https' : 'http'}://${host.toLowerCase()}`) {
    throw new HostevacError('forbidden', `a page of ${JSON.stringify(origin)} may not ask this server`);
  }
  const site = request.headers['sec-fetch-site'];
  // A link that leads here is followed; everything else is asked by a page.
  const navigates = request.headers['sec-fetch-mode'] === 'navigate' && request.method === 'GET';
  if (site !== undefined && site !== 'same-origin' && site !== 'none' && !navigates) {
    throw new HostevacError('forbidden', 'a page of another origin may not ask this server');
  }
}

/** A host header without its port. */
function nameOf(host: string): string {
  return host
    .replace(/:\d+$/, '')
    .replace(/^\[(.*)\]$/, '$1')
    .toLowerCase();
}

/** A name or address that leads to this machine and nowhere else. */
export function isLoopbackName(name: string): boolean {
  return name === 'localhost' || name === '::1' || /^127(?:\.\d{1,3}){3}$/.test(name);
}
