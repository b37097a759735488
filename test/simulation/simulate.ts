/**
 * `npm run simulate`: lives from many seeds, on all cores; of those that went wrong the seed and what happened in them.
 * A life that went wrong goes wrong again with the same seed.
 */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { z } from 'zod';
import { live } from './simulation.ts';
import { VARIANTS } from './variants.ts';

const HELP = `npm run simulate -- [options]

Simulates whole lives of small fleets in virtual time, each from a seed: evacuations and moves while processes are killed
and stopped, the store and hosts fall silent, answers are lost, links break and hosts die. At every step no VM may run
twice, no limits may sum to more than a resource carries, no guest be throttled for nothing, nobody write whose lease is
another's; in the end every operation must have ended and nothing be left of it.

  --seeds N       how many (100)
  --from SEED     the first (1)
  --variant NAME  with one safeguard taken away: ${VARIANTS.map(({ name }) => name).join(', ')}
  --story         of each life what happened in it, also when all was well
  --help          this
`;

interface Outcome {
  readonly seed: number;
  readonly fault: string | null;
  readonly trace: readonly string[];
  readonly virtualMs: number;
}

const taskSchema = z.object({ variant: z.string().nullable() });

async function work(): Promise<void> {
  const { variant } = taskSchema.parse(workerData);
  const chosen = VARIANTS.find(({ name }) => name === variant) ?? null;
  parentPort?.on('message', async (seed: number) => {
    const { fault, trace, virtualMs } = await live(seed, chosen);
    parentPort?.postMessage({ seed, fault, trace, virtualMs } satisfies Outcome);
  });
}

function wholeNumber(option: string, text: string, least: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= least) return value;
  process.stderr.write(`${option}: ${JSON.stringify(text)} is no whole number of at least ${least}\n`);
  process.exit(2);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seeds: { type: 'string', default: '100' },
      from: { type: 'string', default: '1' },
      variant: { type: 'string' },
      story: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return;
  }
  const from = wholeNumber('--from', values.from, 0);
  const count = wholeNumber('--seeds', values.seeds, 1);
  const variant = values.variant ?? null;
  if (variant !== null && !VARIANTS.some(({ name }) => name === variant)) {
    process.stderr.write(`--variant: there is no ${JSON.stringify(variant)}; see --help\n`);
    process.exit(2);
  }
  const began = performance.now();
  const workers = Array.from({ length: Math.min(count, availableParallelism()) }, () => {
    return new Worker(new URL(import.meta.url), { workerData: { variant } });
  });
  let next = from;
  let virtualMs = 0;
  const failed: number[] = [];
  const hear = ({ seed, fault, trace, virtualMs: lasted }: Outcome): void => {
    virtualMs += lasted;
    if (fault !== null) failed.push(seed);
    if (fault === null && !values.story) return;
    process.stdout.write(`seed ${seed}: ${fault ?? 'all was well'}\n${trace.map((line) => `  ${line}\n`).join('')}\n`);
  };
  await Promise.all(
    workers.map(
      (worker) =>
        new Promise<void>((resolve, reject) => {
          const give = (): void => {
            if (next >= from + count) {
              void worker.terminate().then(() => resolve());
              return;
            }
            worker.postMessage(next);
            next += 1;
          };
          worker.on('error', reject);
          worker.on('message', (outcome: Outcome) => {
            hear(outcome);
            give();
          });
          give();
        }),
    ),
  );
  const seconds = (performance.now() - began) / 1_000;
  const which = failed.length === 0 ? '' : `: ${failed.sort((a, b) => a - b).join(', ')}`;
  process.stdout.write(
    `${count} lives from seed ${from}, ${failed.length} went wrong${which}; ${Math.round(virtualMs / 3_600_000)} h of virtual time in ${seconds.toFixed(1)} s\n`,
  );
  process.exitCode = failed.length > 0 ? 1 : 0;
}

await (isMainThread ? main() : work());
