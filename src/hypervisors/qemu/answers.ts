/**
 * The answers of QMP commands that this adapter reads, as far as it reads them. Loose, because every QEMU release adds
 * members; optional where a supported release does not have the member (qapi/migration.json, qapi/machine.json).
 */
import { z } from 'zod';

export const anyAnswer = z.unknown();

export const cpusAnswer = z.array(z.looseObject({ 'thread-id': z.int().min(1) }));

export const statusAnswer = z.looseObject({ status: z.string() });

export const uuidAnswer = z.looseObject({ UUID: z.string() });

export const nameAnswer = z.looseObject({ name: z.string().optional() });

export const kvmAnswer = z.looseObject({ enabled: z.boolean() });

/** What could be cut off now; a migration among it that still connects, also one that was ended. */
export const yankAnswer = z.array(z.looseObject({ type: z.string() }));

export const capabilitiesAnswer = z.array(z.looseObject({ capability: z.string(), state: z.boolean() }));

const counter = z.number().min(0);

export const migrateAnswer = z.looseObject({
  /** Missing: there was never a migration, in or out. */
  status: z.string().optional(),
  'total-time': counter.optional(),
  downtime: counter.optional(),
  'error-desc': z.string().optional(),
  /** From 6.0. */
  'blocked-reasons': z.array(z.string()).optional(),
  ram: z
    .looseObject({
      total: counter,
      remaining: counter,
      transferred: counter,
      mbps: z.number(),
      'dirty-pages-rate': counter,
      'dirty-sync-count': counter,
      'page-size': counter,
    })
    .optional(),
  /** From 4.0: where an incoming copy listens. */
  'socket-address': z.array(z.looseObject({ type: z.string(), port: z.string().optional() })).optional(),
});
export type MigrateAnswer = z.output<typeof migrateAnswer>;

/** Bytes per second; 0: no limit. The second one from 3.0. */
export const parametersAnswer = z.looseObject({
  'max-bandwidth': counter.optional(),
  'max-postcopy-bandwidth': counter.optional(),
});

/** Whole MiB per second, -1 where nothing was sampled; `calc-time` in the unit that was asked for. */
export const dirtyRateAnswer = z.looseObject({
  status: z.enum(['unstarted', 'measuring', 'measured']),
  /** Only once it is measured. */
  'dirty-rate': z.number().optional(),
  'calc-time': counter,
  /** From 6.1; per GiB. */
  'sample-pages': counter.optional(),
  /** From 6.2. */
  mode: z.string().optional(),
});
