import { defineConfig } from 'vitest/config';

// Two projects: "unit" needs nothing installed and runs in `npm run check`; "real" needs a Redis (one throwaway
// instance per run, started by its global setup) and starts real processes of the built command line.
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/**/*.redis.test.ts', 'test/**/*.process.test.ts'],
          testTimeout: 20_000,
        },
      },
      {
        test: {
          name: 'real',
          include: ['test/**/*.redis.test.ts', 'test/**/*.process.test.ts'],
          globalSetup: ['test/support/redis-setup.ts'],
          testTimeout: 60_000,
          hookTimeout: 60_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
