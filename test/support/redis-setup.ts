/**
 * Vitest's global setup of the "real" project: one throwaway Redis for the run, in memory, on a unix socket. Tests reach
 * it with `test/support/redis.ts`. HOSTEVAC_TEST_REDIS set beforehand names another socket to use.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { abortableSleep } from '../../src/clock/abortable-sleep.ts';
import { redisServerProgram } from '../../src/runtime/redis-install.ts';
import { endRedis, ping } from '../../src/runtime/redis-process.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** Socket of the run's Redis; empty: there is none, tests that need it are skipped. */
    testRedis: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const given = process.env['HOSTEVAC_TEST_REDIS'];
  if (given !== undefined && given !== '') {
    project.provide('testRedis', given);
    return async () => undefined;
  }
  const directory = mkdtempSync(join(tmpdir(), 'hostevac-test-'));
  const socketPath = join(directory, 'redis.sock');
  // A run that is interrupted exits without its teardown.
  const remove = (): void => rmSync(directory, { recursive: true, force: true });
  process.once('exit', remove);
  let stop: () => Promise<void>;
  try {
    stop = await start(directory, socketPath);
  } catch (error) {
    remove();
    // A build that silently tests less than it claims is worse than one that fails.
    if (process.env['CI'] !== undefined && process.env['CI'] !== '') throw error;
    const why = error instanceof Error ? error.message : String(error);
    process.stderr.write(
      `\n${'!'.repeat(100)}\n!!! SKIPPED: every test that needs Redis. ${why}\n${'!'.repeat(100)}\n\n`,
    );
    process.env['HOSTEVAC_TEST_REDIS'] = '';
    project.provide('testRedis', '');
    return async () => undefined;
  }
  process.env['HOSTEVAC_TEST_REDIS'] = socketPath;
  project.provide('testRedis', socketPath);
  return async () => {
    await stop();
    remove();
  };
}

async function start(directory: string, socketPath: string): Promise<() => Promise<void>> {
  const log = (line: string): void => void process.stderr.write(`${line}\n`);
  const program = await redisServerProgram({ env: process.env, stateDir: directory, log });
  const settings = ['--port', '0', '--unixsocket', socketPath, '--save', '', '--appendonly', 'no', '--dir', directory];
  // Ends with the run even when that is killed.
  const child = spawn('setpriv', ['--pdeathsig', 'TERM', program, ...settings], { stdio: 'ignore', detached: true });
  let failure: Error | undefined;
  child.on('error', (error) => {
    failure = error;
  });
  for (let tries = 0; (await ping(socketPath, 1_000)).state !== 'ready'; tries += 1) {
    if (failure !== undefined) throw failure;
    if (child.exitCode !== null || tries > 500)
      throw new Error(`${program} did not start (exit code ${child.exitCode})`);
    await abortableSleep(20);
  }
  return () => endRedis(child);
}
