import { defineConfig } from 'vitest/config';

// Four projects: "unit" needs nothing installed and runs in `npm run check`; "real" needs a Redis (one throwaway
// instance per run, started by its global setup) and starts real processes of the built command line, which mostly wait
// for locks to run out, so several files run beside each other; "browser" runs Chromium on the
// dashboard of the built command line, one file at a time; "lab" runs real QEMU guests and changes real cgroups, one
// file at a time and after all others, and says loudly what it had to skip. A fifth, "chaos", is run by `npm run chaos` alone:
// it takes hours.
const chaos = {
  test: {
    name: 'chaos',
    include: ['test/**/*.chaos.test.ts'],
    fileParallelism: false,
    // Each runs guests that want half a core, and workers.
    maxConcurrency: 2,
  },
};

export default defineConfig({
  test: {
    projects: [
      ...(process.env['HOSTEVAC_CHAOS'] === undefined ? [] : [chaos]),
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/**/*.{redis,process,qemu,cgroup,chaos,browser}.test.ts'],
          testTimeout: 20_000,
          // By default one core is left to others, which on two is half of them.
          maxWorkers: '100%',
        },
      },
      {
        test: {
          name: 'real',
          include: ['test/**/*.{redis,process}.test.ts'],
          globalSetup: ['test/support/redis-setup.ts'],
          // A minute's work where the machine is busy with another.
          testTimeout: 120_000,
          hookTimeout: 60_000,
          maxWorkers: 3,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          name: 'browser',
          include: ['test/**/*.browser.test.ts'],
          testTimeout: 150_000,
          hookTimeout: 60_000,
          // A browser wants a core.
          fileParallelism: false,
          sequence: { groupOrder: 2 },
        },
      },
      {
        test: {
          name: 'lab',
          include: ['test/**/*.{qemu,cgroup}.test.ts'],
          globalSetup: ['test/support/redis-setup.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          fileParallelism: false,
          // Of the tests that say that they may run beside each other: guests that want half a core are in each.
          maxConcurrency: 2,
          sequence: { groupOrder: 3 },
        },
      },
    ],
  },
});
