/** What goes wrong with a request, as it is shown: the API's problem documents (RFC 9457), or that nobody answered. */

export interface Fault {
  readonly path: string;
  readonly value: string;
  readonly message: string;
  readonly remedy: string;
}

export class ApiProblem extends Error {
  override readonly name = 'ApiProblem';
  readonly status: number;
  readonly code: string;
  readonly faults: readonly Fault[];

  constructor(status: number, code: string, message: string, faults: readonly Fault[]) {
    super(message);
    this.status = status;
    this.code = code;
    this.faults = faults;
  }
}

/** Nobody answered, or somebody between us and the server did. */
export class NotReached extends Error {
  override readonly name = 'NotReached';
  constructor(message = 'the server does not answer') {
    super(message);
  }
}

/** What was thrown, as what can be shown. */
export function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

/** An answer that is no problem document (a proxy's page) still is one, by its status. */
export function problemOf(status: number, text: string): ApiProblem {
  let body: Record<string, unknown> = {};
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed === 'object' && parsed !== null) body = parsed as Record<string, unknown>;
  } catch {
    // Not JSON.
  }
  const faults = (Array.isArray(body['problems']) ? body['problems'] : []).map((each: unknown): Fault => {
    const one = (typeof each === 'object' && each !== null ? each : {}) as Record<string, unknown>;
    return {
      path: said(one['path']),
      value: said(one['value']),
      message: said(one['message']),
      remedy: said(one['remedy']),
    };
  });
  const message = said(body['detail']) || said(body['title']) || `the server answered ${status}`;
  return new ApiProblem(status, said(body['code']), message, faults);
}

function said(value: unknown): string {
  return typeof value === 'string' ? value : value === undefined || value === null ? '' : JSON.stringify(value);
}
