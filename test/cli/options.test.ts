import { describe, expect, it } from 'vitest';
import { apiPlace } from '../../src/cli/api-server.ts';
import { balanceRequest, evacuateRequest, parseMoves, workerOptions } from '../../src/cli/options.ts';
import { HostevacError } from '../../src/domain/errors.ts';
import { type Fleet, fleetSchema } from '../../src/domain/fleet.ts';

const fleet: Fleet = fleetSchema.parse({
  hosts: ['node-a', 'node-b'].map((name) => ({
    name,
    driver: 'simulated',
    migrationAddress: '192.0.2.1',
    egress: '1Gbit/s',
    ingress: '1Gbit/s',
    cpus: 8,
    memory: '16GiB',
    simulated: { vms: [] },
  })),
});

function failure(act: () => unknown): HostevacError {
  try {
    act();
  } catch (error) {
    if (error instanceof HostevacError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}
const paths = (error: HostevacError): string[] => error.problems.map((problem) => problem.path);

describe('options of evacuate', () => {
  it('texts become an input; what was not said is not there', () => {
    expect(evacuateRequest('node-a', {}, fleet)).toEqual({
      input: { host: 'node-a' },
      following: { dryRun: false, wait: false, timeoutMs: null },
    });
    const { input, following } = evacuateRequest(
      'node-a',
      {
        policy: 'rebalance',
        aggression: '.25',
        minCpu: '0',
        maxStall: '250ms',
        maxTime: '5m',
        maxBandwidth: '40MiB/s',
        deadline: '30m',
        idempotencyKey: 'k',
        wait: true,
        timeout: '90s',
      },
      fleet,
    );
    expect(input).toEqual({
      host: 'node-a',
      policy: 'rebalance',
      aggression: 0.25,
      minCpu: 0,
      maxStall: 250,
      maxTime: 300_000,
      maxBandwidth: 40 * 2 ** 20,
      deadline: 1_800_000,
      idempotencyKey: 'k',
    });
    expect(following).toEqual({ dryRun: false, wait: true, timeoutMs: 90_000 });
  });

  it('approval is asked for only where that is said', () => {
    expect(evacuateRequest('node-a', { approveFirst: true }, fleet).input.approveFirst).toBe(true);
    expect(balanceRequest(['db-1=node-b'], { approveFirst: true, wait: true }, fleet).input.approveFirst).toBe(true);
    expect(evacuateRequest('node-a', {}, fleet).input).not.toHaveProperty('approveFirst');
  });

  it('all faults are reported at once, under the names of the options', () => {
    const error = failure(() =>
      evacuateRequest(
        'node-x',
        {
          nonMigratable: 'kill',
          shutdownTimeout: '-1s',
          policy: 'brutal',
          aggression: '-0.5',
          minCpu: 'half',
          maxStall: '5',
          maxBandwidth: '40',
          timeout: '1s',
        },
        fleet,
      ),
    );
    expect(error.code).toBe('badInput');
    expect(error.exitCode).toBe(2);
    expect(paths(error).sort()).toEqual(
      [
        '<host>',
        '--policy',
        '--aggression',
        '--min-cpu',
        '--max-stall',
        '--max-bandwidth',
        '--timeout',
        '--non-migratable',
        '--shutdown-timeout',
      ].sort(),
    );
    expect(error.message).toContain('maintenance');
    expect(error.message).toContain('-0.5');
  });

  it('what is said of single VMs becomes a policy of their own', () => {
    const vm = [
      'db-1:aggression=0,min-cpu=80%',
      'a:b:policy=rebalance',
      'db-1:max-bandwidth=40MiB/s,at-deadline=post-copy',
    ];
    const options = {
      vm,
      precedence: 'max-time,minCpu,max-bandwidth',
      atDeadline: 'force-complete',
      controller: 'rfc2011',
    };
    expect(evacuateRequest('node-a', options, fleet).input).toEqual({
      host: 'node-a',
      precedence: ['maxTime', 'minCpu', 'maxBandwidth'],
      atDeadline: 'forceComplete',
      controller: 'rfc2011',
      overrides: {
        'db-1': { aggression: 0, minCpu: 0.8, maxBandwidth: 40 * 2 ** 20, atDeadline: 'postCopy' },
        'a:b': { policy: 'rebalance' },
      },
    });
  });

  it('all that is wrong with them is said at once, with the place in the option', () => {
    const vm = [
      'db-1:agression=0,min-cpu=2',
      'db-1',
      'web-1:policy=brutal,policy=rebalance',
      ':aggression=1',
      'x:max-time=',
    ];
    const error = failure(() => evacuateRequest('node-a', { vm, precedence: 'max-time,max-time' }, fleet));
    expect(error.code).toBe('badInput');
    expect(error.problems.map(({ path, value }) => `${path} ${value}`).sort()).toEqual(
      [
        '--precedence ["maxTime","maxTime"]',
        '--vm db-1:agression "0"',
        '--vm db-1:min-cpu 2',
        '--vm "db-1"',
        '--vm web-1:policy "brutal"',
        '--vm web-1:policy "rebalance"',
        '--vm ":aggression=1"',
        '--vm "x:max-time="',
      ].sort(),
    );
    expect(error.problems.every(({ remedy }) => remedy !== '')).toBe(true);
    expect(error.message).toContain('did you mean aggression?');
  });

  it('a policy of the fleet file is as good as a preset', () => {
    const own = { ...fleet, policies: [{ name: 'gentle', module: './gentle.mjs' }] };
    expect(evacuateRequest('node-a', { policy: 'gentle' }, own).input).toEqual({ host: 'node-a', policy: 'gentle' });
    const error = failure(() => evacuateRequest('node-a', { policy: 'gentel' }, own));
    expect(error.message).toContain('did you mean gentle?');
  });

  it('a host that the fleet does not have is refused with the known ones and the nearest', () => {
    const error = failure(() => evacuateRequest('node-aa', {}, fleet));
    expect(error.code).toBe('unknownHost');
    expect(error.message).toContain('did you mean node-a?');
    expect(error.message).toContain('known hosts: node-a, node-b');
    expect(failure(() => evacuateRequest('zebra', {}, fleet)).message).not.toContain('did you mean');
  });

  it('without a fleet file the name is left to those who know it', () => {
    expect(evacuateRequest('node-x', {}, null).input).toEqual({ host: 'node-x' });
  });

  it('options that make no sense together are refused', () => {
    expect(paths(failure(() => evacuateRequest('node-a', { timeout: '5s' }, fleet)))).toEqual(['--timeout']);
    expect(paths(failure(() => evacuateRequest('node-a', { dryRun: true, wait: true }, fleet)))).toEqual(['--dry-run']);
  });
});

describe('options of balance', () => {
  it('moves are vm=host, split at the last =', () => {
    expect(parseMoves(['db-1=node-b', 'a=b=node-a'])).toEqual({
      moves: [
        { vm: 'db-1', to: 'node-b' },
        { vm: 'a=b', to: 'node-a' },
      ],
      problems: [],
    });
  });

  it.each(['garbage', '=node-a', 'db-1=', ''])('%j is no move', (text) => {
    expect(parseMoves([text]).problems.map(({ path, message }) => [path, message])).toEqual([
      ['--move', 'expected vm=host'],
    ]);
  });

  it('at least one move, each VM once, to hosts that there are', () => {
    expect(paths(failure(() => balanceRequest([], {}, fleet)))).toEqual(['--move']);
    expect(failure(() => balanceRequest(['a=node-a', 'a=node-b'], {}, fleet)).message).toContain('moved twice');
    expect(failure(() => balanceRequest(['a=node-c'], {}, fleet)).code).toBe('unknownHost');
    expect(paths(failure(() => balanceRequest(['a=node-c', 'x'], { aggression: '2' }, fleet)))).toEqual([
      '--move',
      '--move',
      '--aggression',
    ]);
  });
});

describe('options of up and worker', () => {
  it('a port is a whole number', () => {
    expect(apiPlace({ port: '0' })).toEqual({ port: 0, address: '127.0.0.1', tls: null, requireToken: false });
    for (const port of ['-1', '65536', '7.5', 'http']) {
      expect(paths(failure(() => apiPlace({ port })))).toEqual(['--port']);
    }
  });

  it('a worker needs something to do, and hosts that there are', () => {
    expect(workerOptions({ hosts: 'node-a, node-b,node-a' }, fleet)).toEqual({
      hosts: ['node-a', 'node-b'],
      operations: false,
      metrics: null,
    });
    expect(workerOptions({ operations: true }, fleet)).toEqual({ hosts: [], operations: true, metrics: null });
    expect(failure(() => workerOptions({}, fleet)).exitCode).toBe(2);
    const shown = (metricsPort?: string, metricsAddress?: string) =>
      workerOptions(
        {
          operations: true,
          ...(metricsPort === undefined ? {} : { metricsPort }),
          ...(metricsAddress === undefined ? {} : { metricsAddress }),
        },
        fleet,
      ).metrics;
    expect(shown('9461')).toEqual({ port: 9461, address: '127.0.0.1' });
    expect(shown('0', '::')).toEqual({ port: 0, address: '::' });
    expect(paths(failure(() => shown('x', 'here')))).toEqual(['--metrics-port', '--metrics-address']);
    expect(paths(failure(() => shown(undefined, '127.0.0.1')))).toEqual(['--metrics-address']);
    expect(failure(() => workerOptions({ hosts: ',' }, fleet)).exitCode).toBe(2);
    const error = failure(() => workerOptions({ hosts: 'node-a,nod-b,x' }, fleet));
    expect(error.code).toBe('unknownHost');
    expect(error.problems).toHaveLength(2);
    expect(error.message).toContain('did you mean node-b?');
  });
});
