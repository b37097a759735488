import { describe, expect, it } from 'vitest';
import { fleetLines } from '../../src/cli/fleet-text.ts';
import { detailLines, hostLines, operationLines, planLines } from '../../src/cli/status-text.ts';
import { displayWidth, plain } from '../../src/cli/text.ts';
import { fleetSchema } from '../../src/domain/fleet.ts';
import { host, move, operation, prediction, task } from './records.ts';

describe('status', () => {
  it('hosts: cordon, VMs, memory, bandwidth, worker, age', () => {
    const hosts = [host('node-a', { cordoned: true }), host('node-b', { served: false, inventoryAgeMs: null })];
    expect(hostLines(hosts, 120, plain)).toEqual([
      'HOST    CORDONED  VMS           MEMORY               EGRESS        INGRESS  WORKER    SEEN',
      'node-a  yes         3  32GiB of 128GiB  40MiB/s of 100MiB/s  0 of 100MiB/s  alive   1s ago',
      'node-b  no          ?                ?  40MiB/s of 100MiB/s  0 of 100MiB/s  none     never',
    ]);
    expect(hostLines([], 80, plain)[0]).toContain('hostevac up');
  });

  it('operations: what, state, how far, why', () => {
    const running = operation({ tasks: [task('a', { state: 'done' }), task('b')], waitingFor: ['room on node-b'] });
    expect(operationLines([running], 61_000, 120, plain)).toEqual([
      'OPERATION  WHAT             STATE    VMS     AGE  TOOK  WHY',
      'op-1       evacuate node-a  running  1/2  1m ago     -  room on node-b',
    ]);
    expect(operationLines([], 0, 80, plain)[0]).toContain('hostevac evacuate');
  });

  it('one operation: policy, deadline, what it waits for, each VM', () => {
    const record = operation({
      request: { ...operation().request, deadlineMs: 60_000 },
      tasks: [task('db-1', { state: 'precopy', moveIds: ['m'] }), task('web-1', { wanted: 'node-c' })],
      waitingFor: ['room on node-b'],
    });
    const lines = detailLines({
      nowMs: 31_000,
      record,
      moves: [move('db-1')],
      hosts: [host('node-a')],
      columns: 140,
      paint: plain,
    });
    expect(lines).toContain('deadline 1m after the request, 30s left');
    expect(lines).toContain('waits    room on node-b');
    expect(lines.slice(-3)).toEqual([
      'VM     DESTINATION  STATE    TRIES  CLEAN  SHARE  ENDS IN  DOWNTIME  WHY',
      'db-1   node-b       precopy      1    75%    40%  12s             -  throttled to 40%: more is dirtied than sent',
      'web-1  node-c       queued       0      -   100%  -               -',
    ]);
  });

  it('what waits for approval: the plan, its hash, how old it is', () => {
    const proposal = {
      moves: [{ vm: 'db-1', source: 'node-a', destination: 'node-b', why: 'best fit of 2 hosts' }],
      shutdowns: [],
      skipped: [],
      blocked: [{ vm: 'big', reason: 'no room' }],
      madeAtMs: 1_000,
      number: 1,
      hash: '0123456789abcdef',
    };
    const about = { nowMs: 61_000, moves: [], hosts: [], columns: 140, paint: plain };
    const record = operation({ state: 'awaitingApproval', proposal, waitingFor: ['approval of it'] });
    expect(detailLines({ ...about, record }).slice(-6)).toEqual([
      'waits    approval of it',
      'plan     0123456789abcdef, made 1m ago; nothing of it has been done',
      '',
      '#  VM    FROM    TO      WHY',
      '1  db-1  node-a  node-b  best fit of 2 hosts',
      'blocked big: no room',
    ]);
    const nothing = operation({ state: 'awaitingApproval', proposal: { ...proposal, moves: [], blocked: [] } });
    expect(detailLines({ ...about, record: nothing }).at(-1)).toBe('Nothing is to be moved; the host is cordoned.');
  });

  it('a running migration with a prediction: when it ends, and how sure that is', () => {
    const record = operation({ tasks: [task('db-1', { state: 'precopy', moveIds: ['m'] })] });
    const running = move('db-1');
    const moves = [{ ...running, progress: running.progress && { ...running.progress, prediction: prediction() } }];
    const lines = detailLines({ nowMs: 0, record, moves, hosts: [], columns: 140, paint: plain });
    expect(lines.at(-2)).toContain('SHARE  ENDS IN        DOWNTIME');
    expect(lines.at(-1)).toContain('40%  12s (10..15s)         -');
  });

  it.each([40, 80, 120])('fits %i columns', (columns) => {
    const record = operation({ tasks: [task('a-rather-long-name-of-a-vm', { state: 'precopy', moveIds: ['m'] })] });
    const details = { nowMs: 0, record, moves: [move('a-rather-long-name-of-a-vm')], hosts: [], columns, paint: plain };
    const lines = [
      ...hostLines([host('node-a')], columns, plain),
      ...operationLines([record], 0, columns, plain),
      ...detailLines(details),
    ];
    for (const line of lines) expect(displayWidth(line)).toBeLessThanOrEqual(columns);
  });
});

describe('plans and fleets', () => {
  it('a plan: moves in their order, then what is shut down, skipped or blocked and why', () => {
    const plan = {
      moves: [{ vm: 'db-1', source: 'node-a', destination: 'node-b', why: 'best fit' }],
      shutdowns: [{ vm: 'gpu-1', host: 'node-a', why: 'it cannot be migrated' }],
      skipped: [{ vm: 'gpu-2', reason: 'its label says so' }],
      blocked: [{ vm: 'vault-1', reason: 'pinned to node-a' }],
    };
    expect(planLines(plan, 80, plain)).toEqual([
      '#  VM    FROM    TO      WHY',
      '1  db-1  node-a  node-b  best fit',
      'shut down gpu-1 on node-a, last: it cannot be migrated',
      'skipped gpu-2: its label says so',
      'blocked vault-1: pinned to node-a',
    ]);
  });

  it('a fleet: who is busy, also when only now and then', () => {
    const common = { memory: '8GiB', cpus: 2, workingSet: '1GiB', cpuUse: 0.5 };
    const fleet = fleetSchema.parse({
      hosts: [
        {
          name: 'node-a',
          driver: 'simulated',
          migrationAddress: '192.0.2.1',
          egress: '100MiB/s',
          ingress: '100MiB/s',
          cpus: 8,
          memory: '32GiB',
          simulated: {
            vms: [
              { name: 'calm', dirtyRate: '1MiB/s', ...common },
              { name: 'busy', dirtyRate: '60MiB/s', ...common },
              { name: 'builds', dirtyRate: '1MiB/s', ...common, phases: [{ duration: '5s', dirtyRate: '80MiB/s' }] },
            ],
          },
        },
      ],
    });
    expect(fleetLines(fleet, 80, plain)).toEqual([
      'A simulated fleet: 3 VMs on 1 host, 2 of them busy (*)',
      '',
      'HOST            MEMORY    EGRESS  VMS  NAMES',
      'node-a  24GiB of 32GiB  100MiB/s    3  calm busy* builds*',
    ]);
  });
});
