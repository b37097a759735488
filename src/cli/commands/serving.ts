/** The course of a process that serves the API, from its port to its end: what `up` and `serve` have in common. */
import { EXIT } from '../../domain/errors.ts';
import type { Fleet } from '../../domain/fleet.ts';
import { createMetrics } from '../../metrics/create-metrics.ts';
import { keepHeapTight } from '../../runtime/heap.ts';
import type { LoadedPolicies } from '../../runtime/policy-modules.ts';
import { stateDir } from '../../runtime/state-dir.ts';
import { openTracing } from '../../runtime/tracing.ts';
import { type ApiPlace, openCliApi, type Phase } from '../api-server.ts';
import type { Cli } from '../cli.ts';
import { type Closer, closeAll } from '../closers.ts';
import { openRedisSource } from '../session.ts';
import { catchInterrupt } from '../signals.ts';
import { aborted, CLOSE_GRACE_MS, CLOSE_LIMIT_MS } from './closing.ts';
import { startCrew } from './crew.ts';

type CrewOptions = Parameters<typeof startCrew>[0];

export interface Course {
  readonly place: ApiPlace;
  readonly fleet: Fleet;
  readonly policies: LoadedPolicies;
  /** null: it carries nothing out. Else it has workers, and is well when they are complete. */
  readonly crew: Pick<CrewOptions, 'hosts' | 'operations' | 'endpoints'> | null;
  /** What is said when it is asked to end. */
  readonly stopping: string;
}

/** Until it is asked to end. Throws `portTaken`, `redisAway` and what its parts throw; then nothing of it goes on. */
export async function serving(cli: Cli, course: Course): Promise<number> {
  const { place, fleet, policies } = course;
  const { logger } = cli.openLog('info');
  keepHeapTight();
  const interruption = catchInterrupt();
  let phase: Phase = 'starting';
  const works = course.crew !== null;
  const metrics = await createMetrics({ works, log: logger });
  // The port first: of two that start at once, one must not have begun anything.
  const api = await openCliApi({
    place,
    fleet,
    policies,
    log: logger,
    phase: () => phase,
    metrics,
    needsWorkers: works,
  });
  const closers: Closer[] = [() => api.close()];
  try {
    const source = await openRedisSource(cli, { supervise: true });
    closers.push(() => source.close());
    const connection = source.target.options;
    const tracing = await openTracing(cli.env);
    closers.push(async () => tracing?.close());
    await metrics.showFleet({ fleet, connection });
    closers.push(() => metrics.close());
    // Before the workers: a server that may not listen where it does must not have begun anything either.
    closers.push(await api.attach(connection, tracing));
    if (course.crew !== null) {
      const observers = metrics.observer === null ? [] : [metrics.observer];
      const parts = { ...course.crew, stateDir: stateDir(cli.env) };
      const crew = await startCrew({ ...parts, fleet, policies, connection, log: logger, tracing, observers });
      closers.push(() => crew.close(CLOSE_GRACE_MS));
    }
    phase = 'running';
    cli.output.lines([api.url]);
    cli.output.result({ url: api.url });
    await aborted(interruption.signal);
    phase = 'stopping';
    // Who follows something connects again to whoever is next.
    api.server.hub.close();
    cli.output.remark(course.stopping);
    return EXIT.done;
  } finally {
    await closeAll(closers, CLOSE_LIMIT_MS, (problem) => logger.warn(problem));
    interruption.dispose();
  }
}
