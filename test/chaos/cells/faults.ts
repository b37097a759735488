/** What befalls a move, and how the world gets well again. Each returns when nothing is wrong any more but its traces. */
import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { cutLink, healLink } from '../../../src/lab/network.ts';
import { until } from '../../support/condition.ts';
import { type ChaosPlace, HOT, SOURCE } from './chaos-place.ts';

/** Longer than a job's lock (15 s) and a lease (5 s). */
const PAST_THE_LOCK_MS = 18_000;
const AWAY_MS = 30_000;
const CUT_MS = 20_000;
const JOURNAL_MS = 12_000;
/** The promise, of a cancellation. */
const UNTHROTTLED_MS = 2_000;
/** So much of what Redis was told is lost. */
const LOST_MS = 1_500;

export interface Struck {
  readonly place: ChaosPlace;
  readonly id: string;
  /** The worker that drives the hot guest's move; stopped (SIGSTOP) until the fault lets it go on. */
  readonly driver: number;
}

export interface Fault {
  readonly name: string;
  readonly what: string;
  /** It may take the guest with it, which is then to be told. */
  readonly kills: 'source' | 'destination' | null;
  readonly cancels: boolean;
  /** While it has no journal no guest can be throttled, and a move that has to be is refused. */
  readonly refuses: boolean;
  /** False: there was nothing to strike. */
  readonly strike: (struck: Struck) => Promise<boolean>;
}

const goOn = ({ driver }: Pick<Struck, 'driver'>): void => void process.kill(driver, 'SIGCONT');

const harmless = { kills: null, cancels: false, refuses: false } as const;

function killCopy(place: ChaosPlace, which: 'source' | 'destination'): boolean {
  const copy = place.copies(HOT).find(({ host }) => (host === SOURCE) === (which === 'source'));
  if (copy !== undefined) process.kill(copy.pid, 'SIGKILL');
  return copy !== undefined;
}

/** At once, so that none sees another one go. */
async function killAll(place: ChaosPlace): Promise<void> {
  const workers = place.workers();
  for (const pid of [...place.guards(), ...workers.map((worker) => worker.pid)]) process.kill(pid, 'SIGKILL');
  await Promise.all(workers.map((worker) => worker.ended));
}

const remount = (place: ChaosPlace, how: 'ro' | 'rw'): void => {
  execFileSync('mount', ['-o', `remount,${how}`, place.guardDir]);
};

export const FAULTS: readonly Fault[] = [
  {
    ...harmless,
    name: 'workerKilled',
    what: 'SIGKILL to the worker that drives it; another one is started',
    strike: async ({ place, driver }) => {
      await place.worker(driver).kill();
      await place.startWorker();
      return true;
    },
  },
  {
    ...harmless,
    name: 'workerStopped',
    what: `SIGSTOP to the worker that drives it for ${PAST_THE_LOCK_MS / 1_000} s, past its lock, then SIGCONT`,
    strike: async ({ place, driver }) => {
      await sleep(PAST_THE_LOCK_MS);
      // Its successor may have ended it.
      if (place.workers().some(({ child }) => child.pid === driver)) goOn({ driver });
      else await place.startWorker();
      return true;
    },
  },
  {
    ...harmless,
    name: 'allKilled',
    what: 'SIGKILL to every worker and the guard; two workers are started',
    strike: async ({ place }) => {
      await killAll(place);
      await Promise.all([place.startWorker(), place.startWorker()]);
      return true;
    },
  },
  {
    ...harmless,
    name: 'guardKilled',
    what: 'SIGKILL to the guard of the quotas',
    strike: async ({ place, driver }) => {
      const guards = place.guards();
      for (const pid of guards) process.kill(pid, 'SIGKILL');
      goOn({ driver });
      return guards.length > 0;
    },
  },
  {
    ...harmless,
    name: 'redisRestarted',
    what: 'SIGKILL to Redis, started again at once from its append-only file',
    strike: async ({ place, driver }) => {
      await place.killRedis();
      goOn({ driver });
      await place.startRedis();
      return true;
    },
  },
  {
    ...harmless,
    name: 'redisAway',
    what: `Redis killed and started again after ${AWAY_MS / 1_000} s`,
    strike: async ({ place, driver }) => {
      await place.killRedis();
      goOn({ driver });
      await sleep(AWAY_MS);
      await place.startRedis();
      return true;
    },
  },
  {
    ...harmless,
    name: 'redisSilent',
    what: `Redis takes connections and answers nothing for ${AWAY_MS / 1_000} s (SIGSTOP)`,
    strike: async ({ place, driver }) => {
      process.kill(place.redisPid, 'SIGSTOP');
      goOn({ driver });
      await sleep(AWAY_MS);
      process.kill(place.redisPid, 'SIGCONT');
      return true;
    },
  },
  {
    ...harmless,
    name: 'redisLosesWrites',
    what: `Redis killed and started from what it knew ${LOST_MS / 1_000} s before, as after a failover to a replica that lagged`,
    strike: async ({ place, driver }) => {
      const before = place.setAside();
      goOn({ driver });
      await sleep(LOST_MS);
      await place.killRedis();
      place.putBack(before);
      await place.startRedis();
      return true;
    },
  },
  {
    ...harmless,
    name: 'destinationKilled',
    what: "SIGKILL to the destination's QEMU",
    kills: 'destination',
    strike: async ({ place, driver }) => {
      const hit = killCopy(place, 'destination');
      goOn({ driver });
      return hit;
    },
  },
  {
    ...harmless,
    name: 'sourceKilled',
    what: "SIGKILL to the source's QEMU",
    kills: 'source',
    strike: async ({ place, driver }) => {
      const hit = killCopy(place, 'source');
      goOn({ driver });
      return hit;
    },
  },
  {
    ...harmless,
    name: 'linkCut',
    what: `the source's link carries nothing for ${CUT_MS / 1_000} s, without a reset`,
    strike: async ({ place, driver }) => {
      await cutLink(place.manifest, SOURCE);
      goOn({ driver });
      await sleep(CUT_MS);
      await healLink(place.manifest, SOURCE);
      return true;
    },
  },
  {
    ...harmless,
    name: 'journalReadOnly',
    what: `the guard's journal is on a file system that is read-only for ${JOURNAL_MS / 1_000} s`,
    refuses: true,
    strike: async ({ place, driver }) => {
      remount(place, 'ro');
      goOn({ driver });
      await sleep(JOURNAL_MS);
      remount(place, 'rw');
      return true;
    },
  },
  {
    ...harmless,
    name: 'journalFull',
    what: `the guard's journal is on a file system that is full for ${JOURNAL_MS / 1_000} s`,
    refuses: true,
    strike: async ({ place, driver }) => {
      const filler = join(place.guardDir, 'filler');
      fill(filler);
      goOn({ driver });
      await sleep(JOURNAL_MS);
      rmSync(filler);
      return true;
    },
  },
  {
    ...harmless,
    name: 'cancelled',
    what: 'the operation is cancelled, twice, while the worker that drives it stands still',
    cancels: true,
    strike: async ({ place, id, driver }) => {
      const answers = await Promise.all([place.run('cancel', id), place.run('cancel', id)]);
      const refused = answers.find(({ code }) => code !== 0);
      if (refused !== undefined) throw new Error(`cancel ended with ${refused.code}: ${refused.stderr}`);
      goOn({ driver });
      await until(() => !place.isThrottledAtSource(HOT), UNTHROTTLED_MS, `${HOT} is not held back any more`);
      return true;
    },
  },
];

function fill(path: string): void {
  try {
    writeFileSync(path, Buffer.alloc(2 ** 20));
    throw new Error(`${path}: the file system takes more than a mebibyte`);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOSPC')) throw error;
  }
}

export function faultNamed(name: string): Fault {
  const fault = FAULTS.find((one) => one.name === name);
  if (fault === undefined) throw new Error(`there is no fault ${name}: ${FAULTS.map((one) => one.name).join(', ')}`);
  return fault;
}
