/** The API server as `up` and `serve` run it: its options, its port before anything else, and what it says of its health. */

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Command, Option } from 'commander';
import type { Logger } from 'pino';
import { z } from 'zod';
import { type Backend, openBackend } from '../api/backend.ts';
import type { Health } from '../api/schemas/common.ts';
import { type ApiServer, startApi } from '../api/server.ts';
import { settledWithin } from '../clock/abortable-sleep.ts';
import type { Problem } from '../domain/errors.ts';
import type { Fleet } from '../domain/fleet.ts';
import { badInput, problemsOf } from '../domain/problems.ts';
import type { Metrics } from '../metrics/create-metrics.ts';
import type { ProducerOptions } from '../queue/producer.ts';
import { packageFile } from '../runtime/fleet-source.ts';
import type { LoadedPolicies } from '../runtime/policy-modules.ts';
import type { Tracing } from '../runtime/tracing.ts';
import type { Closer } from './closers.ts';
import { portSchema } from './options.ts';
import { numberOrText } from './policy-options.ts';

/** What commander hands over. */
export interface ApiFlags {
  readonly port: string;
  readonly listen?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly requireToken?: boolean;
}

export interface ApiPlace {
  readonly port: number;
  readonly address: string;
  readonly tls: { readonly certPath: string; readonly keyPath: string } | null;
  readonly requireToken: boolean;
}

export function addApiOptions(command: Command): Command {
  return command
    .option('--port <port>', 'where the API and the dashboard are served; 0: any free port', '7460')
    .addOption(
      new Option('--listen <address>', 'address to listen on; any but a loopback one needs a token first').default(
        '127.0.0.1',
      ),
    )
    .option('--require-token', 'let nobody in without a token, also while none is made')
    .option('--tls-cert <file>', 'serve HTTPS with this certificate (PEM, with its chain)')
    .option('--tls-key <file>', 'and this key');
}

/** What `--help` of both commands says about access. */
export const ACCESS_NOTES: readonly string[] = [
  'Without tokens only this machine is served, and everybody on it may do everything. Once one is made (hostevac token create)',
  'every request needs one, from this machine too, and --listen takes other addresses. Behind a proxy, and where others use this',
  'machine: --require-token, with which nobody is let in before a token is made.',
];

const flagsSchema = z.strictObject({
  port: portSchema,
  listen: z
    .string()
    .regex(/^[A-Za-z0-9.:_-]{1,255}$/, { error: 'expected an address such as 0.0.0.0, :: or 10.0.0.1' }),
  tlsCert: z.string().min(1, { error: 'expected a file' }).optional(),
  tlsKey: z.string().min(1, { error: 'expected a file' }).optional(),
  requireToken: z.boolean().optional(),
});

/** Throws `badInput` with everything that is wrong. */
export function apiPlace(flags: ApiFlags): ApiPlace {
  const value = { listen: '127.0.0.1', ...flags, port: numberOrText(flags.port) };
  const parsed = flagsSchema.safeParse(value);
  const problems: Problem[] = parsed.success ? [] : problemsOf(flagsSchema, value, parsed.error, '--');
  if ((flags.tlsCert === undefined) !== (flags.tlsKey === undefined)) {
    const [missing, given] = flags.tlsCert === undefined ? ['--tls-cert', '--tls-key'] : ['--tls-key', '--tls-cert'];
    problems.push({ path: missing, value: '', message: `is missing beside ${given}`, remedy: `give both, or none` });
  }
  if (!parsed.success || problems.length > 0) throw badInput(problems, { what: 'the command line' });
  const { port, listen, tlsCert, tlsKey, requireToken = false } = parsed.data;
  const tls = tlsCert === undefined || tlsKey === undefined ? null : { certPath: tlsCert, keyPath: tlsKey };
  return { port, address: listen, tls, requireToken };
}

export type Phase = 'starting' | 'running' | 'stopping';

export interface CliApi {
  readonly url: string;
  readonly server: ApiServer;
  /** Opens what the server needs of Redis; until then it says that it is starting. The result ends that, and every stream. */
  attach(connection: ProducerOptions['connection'], tracing?: Tracing | null): Promise<Closer>;
  close(): Promise<void>;
}

export async function openCliApi(options: {
  readonly place: ApiPlace;
  readonly fleet: Fleet;
  readonly policies: LoadedPolicies;
  readonly log: Logger;
  readonly phase: () => Phase;
  readonly metrics: Pick<Metrics, 'render'>;
  /** `up` is well when it has workers, `serve` when it has Redis. */
  readonly needsWorkers: boolean;
}): Promise<CliApi> {
  const { place, fleet, policies, log, phase, metrics, needsWorkers } = options;
  let backend: Backend | null = null;
  const server = await startApi({
    fleet,
    policies,
    log,
    health: () => healthOf(backend, phase(), needsWorkers),
    metrics: () => metrics.render(),
    address: place.address,
    port: place.port,
    requireToken: place.requireToken,
    ...(place.tls === null ? {} : { tls: place.tls }),
    dashboard: dashboardDirectory(),
  });
  return {
    url: server.url,
    server,
    async attach(connection, tracing = null) {
      const opened = await openBackend({ connection, fleet, policies, telemetry: tracing?.telemetry });
      try {
        await server.attach(opened);
      } catch (error) {
        await opened.close();
        throw error;
      }
      backend = opened;
      return async () => {
        await server.detach();
        await opened.close();
      };
    },
    close: () => server.close(),
  };
}

/** Beside the program that was built; run from its sources, what was built last. */
function dashboardDirectory(): string {
  const root = packageFile('package.json');
  return root === undefined
    ? fileURLToPath(new URL('../../dashboard', import.meta.url))
    : join(root, '..', 'dist', 'dashboard');
}

/** A health check that takes longer is an answer, too. */
const HEALTH_TIMEOUT_MS = 2_000;

const AWAY: Health = { status: 'degraded', redis: 'away', workers: { operations: false, hosts: [] } };

async function healthOf(backend: Backend | null, phase: Phase, needsWorkers: boolean): Promise<Health> {
  if (backend === null) return { status: 'starting', redis: 'unknown', workers: { operations: false, hosts: [] } };
  const { stores, fleet } = backend;
  try {
    const answered = await settledWithin(stores.presence.alive(), HEALTH_TIMEOUT_MS);
    if (answered === undefined) return AWAY;
    const alive = answered.value;
    const operations = alive.some((worker) => worker.operations);
    const serving = new Set(alive.flatMap(({ hosts }) => hosts));
    const served = fleet.hosts.map(({ name }) => name).filter((name) => serving.has(name));
    const complete = !needsWorkers || (operations && served.length === fleet.hosts.length);
    const status = phase === 'stopping' ? 'stopping' : phase === 'starting' ? 'starting' : complete ? 'ok' : 'degraded';
    return { status, redis: 'ok', workers: { operations, hosts: served } };
  } catch {
    return AWAY;
  }
}
