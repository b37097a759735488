/** The webhooks of a fleet file with their secrets, read once at a process's start. A secret is never logged nor told in an error. */
import { readFileSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import type { Problem } from '../domain/errors.ts';
import type { Fleet } from '../domain/fleet.ts';
import { badInput, printValue } from '../domain/problems.ts';
import type { Webhook } from '../domain/webhook.ts';

export interface Endpoint {
  readonly webhook: Webhook;
  readonly secret: string;
}

/** Shorter ones can be guessed from one signed request. */
const SHORTEST_SECRET = 16;

/** Files are found relative to `directory`, where the fleet file is. Throws `badInput` with every problem of every webhook. */
export function loadEndpoints(
  { webhooks }: Pick<Fleet, 'webhooks'>,
  { env, directory }: { readonly env: Readonly<Record<string, string | undefined>>; readonly directory: string },
): Endpoint[] {
  const problems: Problem[] = [];
  const endpoints: Endpoint[] = [];
  for (const [index, webhook] of webhooks.entries()) {
    const read = secretOf(webhook, `webhooks[${index}]`, env, directory);
    if ('problem' in read) problems.push(read.problem);
    else endpoints.push({ webhook, secret: read.secret });
  }
  if (problems.length > 0) throw badInput(problems, { what: 'the webhooks of the fleet file' });
  return endpoints;
}

function secretOf(
  { secretEnv, secretFile }: Webhook,
  path: string,
  env: Readonly<Record<string, string | undefined>>,
  directory: string,
): { readonly secret: string } | { readonly problem: Problem } {
  const [key, name] = secretEnv === undefined ? ['secretFile', secretFile ?? ''] : ['secretEnv', secretEnv];
  const fault = (message: string, remedy: string): { problem: Problem } => ({
    problem: { path: `${path}.${key}`, value: printValue(name), message, remedy },
  });
  let secret: string;
  if (secretEnv !== undefined) {
    secret = env[secretEnv] ?? '';
    if (secret === '') return fault('this environment variable is not set', 'set it for the workers of operations');
  } else {
    const file = isAbsolute(name) ? name : join(directory, name);
    try {
      secret = readFileSync(file, 'utf8').trim();
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? String(error.code) : 'unreadable';
      return fault(`cannot be read (${code})`, `put the secret there and let this user read it; looked for ${file}`);
    }
  }
  if (secret.length < SHORTEST_SECRET) {
    const remedy = 'make one with `openssl rand -hex 32`, and give it to the receiver too';
    return fault(`the secret is shorter than ${SHORTEST_SECRET} characters`, remedy);
  }
  return { secret };
}
