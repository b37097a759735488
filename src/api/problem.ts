/** What goes wrong, as an answer: the status of each code, and application/problem+json (RFC 9457). */
import { ERROR_CATALOGUE, type ErrorCode, HostevacError, type Problem } from '../domain/errors.ts';
import type { ProblemBody } from './schemas/common.ts';

export const PROBLEM_TYPE = 'application/problem+json';

/** What is not here is the state of what was asked for: 409. */
const STATUS: Partial<Readonly<Record<ErrorCode, number>>> = {
  badInput: 400,
  unauthorized: 401,
  forbidden: 403,
  unknownHost: 404,
  unknownVm: 404,
  unknownOperation: 404,
  unknownMigration: 404,
  unknownToken: 404,
  unknownRoute: 404,
  methodNotAllowed: 405,
  payloadTooLarge: 413,
  unsupportedMediaType: 415,
  tooManyRequests: 429,
  internal: 500,
  fleetFileMissing: 503,
  fleetMismatch: 503,
  redisAway: 503,
  redisUnfit: 503,
  timeout: 503,
  unavailable: 503,
};

export function statusOf(code: ErrorCode): number {
  return STATUS[code] ?? 409;
}

/** Codes whose messages tell how things are inside (where Redis is): for the log, not for whoever asks. */
const INWARD: Partial<Readonly<Record<ErrorCode, string>>> = {
  redisAway: "Redis cannot be reached, or does not answer in time; the server's log says more. Try again in a moment",
  redisUnfit: "Redis is not as it has to be; the server's log says why",
  internal: "a fault of ours; the server's log says more",
};

export function isInward(code: ErrorCode): boolean {
  return Object.hasOwn(INWARD, code);
}

export function problemOf(error: HostevacError): ProblemBody {
  const { code, message, problems } = error;
  return {
    type: `urn:hostevac:error:${code}`,
    title: ERROR_CATALOGUE[code].when,
    status: statusOf(code),
    detail: INWARD[code] ?? message,
    code,
    ...(problems.length === 0 ? {} : { problems: problems.map(plain) }),
  };
}

function plain({ path, value, message, remedy }: Problem): NonNullable<ProblemBody['problems']>[number] {
  return { path, value, message, remedy };
}

/** Fastify's own complaints, by its codes. */
const FROM_FASTIFY: Readonly<Record<string, readonly [ErrorCode, string]>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: ['payloadTooLarge', 'the body is larger than is taken here; send less at once'],
  FST_ERR_CTP_INVALID_MEDIA_TYPE: [
    'unsupportedMediaType',
    'a body has to be JSON; send it with content-type: application/json',
  ],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: ['badInput', 'the body is not as long as content-length says; send it again'],
  FST_ERR_CTP_INVALID_JSON_BODY: ['badInput', 'the body is no JSON; correct it'],
  FST_ERR_BAD_URL: ['badInput', 'the path is no valid URL; encode % as %25'],
  FST_ERR_ASYNC_CONSTRAINT: ['badInput', 'the request cannot be routed'],
};

/**
 * The error as one of the catalogue. `unexpected`: it is a fault of ours, which belongs into the log and not into an answer.
 */
export function toHostevacError(error: unknown): { readonly error: HostevacError; readonly unexpected: boolean } {
  if (error instanceof HostevacError) return { error, unexpected: error.code === 'internal' };
  const code = property(error, 'code');
  const known = typeof code === 'string' && Object.hasOwn(FROM_FASTIFY, code) ? FROM_FASTIFY[code] : undefined;
  if (known !== undefined) return { error: new HostevacError(...known), unexpected: false };
  const status = property(error, 'statusCode');
  if (typeof status === 'number' && status >= 400 && status < 500) {
    const why = error instanceof Error ? error.message : 'the request cannot be read';
    return { error: new HostevacError('badInput', `${why}; correct the request`), unexpected: false };
  }
  return { error: new HostevacError('internal', 'a fault of ours'), unexpected: true };
}

function property(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}
