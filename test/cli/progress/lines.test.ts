import { describe, expect, it } from 'vitest';
import { eventLine, eventText, fieldsText, noticeLine, progressLine } from '../../../src/cli/progress/lines.ts';
import { plainView } from '../../../src/cli/progress/plain.ts';
import { vmRows } from '../../../src/cli/progress/rows.ts';
import { ansi, plain } from '../../../src/cli/text.ts';
import { host, move, operation, prediction, task } from '../records.ts';

const event = {
  atMs: 5,
  operationId: 'op-1',
  kind: 'move.failed',
  vm: 'db 1',
  moveId: 'op-1-1-0',
  message: 'the link to "node-b" broke',
};
const time = '2026-11-23T10:00:00.000Z';

describe('lines where there is no terminal', () => {
  it('an event is one greppable line', () => {
    expect(eventLine(event, time)).toBe(
      `${time} move.failed op=op-1 vm="db 1" move=op-1-1-0 msg="the link to \\"node-b\\" broke"`,
    );
    expect(eventLine({ ...event, vm: null, moveId: null, kind: 'operation.running', message: '' }, time)).toBe(
      `${time} operation.running op=op-1 msg=""`,
    );
  });

  it('nothing in a name or a message can make two lines of one', () => {
    const line = eventLine({ ...event, vm: 'a\nb', message: 'x\r\ny\u2028z' }, time);
    expect(line.split(/[\r\n\u2028]/)).toHaveLength(1);
  });

  it('values are quoted when they would end early', () => {
    expect(
      fieldsText([
        ['a', 'plain'],
        ['b', 'two words'],
        ['c', ''],
        ['d', null],
        ['e', 'x=y'],
        ['f', 7],
      ]),
    ).toBe('a=plain b="two words" c="" e="x=y" f=7');
  });

  it('a running migration has a line with its figures', () => {
    const record = operation({ tasks: [task('db-1', { state: 'precopy', moveIds: ['m'] })] });
    const [row] = vmRows(record, [move('db-1')]);
    expect(row && progressLine('op-1', row, time)).toBe(
      `${time} move.progress op=op-1 vm=db-1 destination=node-b state=precopy pass=3 done=75% remaining=256MiB rate=40MiB/s share=40% eta=12s msg="throttled to 40%: more is dirtied than sent"`,
    );
  });

  it('and when it ends as far as that was predicted', () => {
    const record = operation({ tasks: [task('db-1', { state: 'precopy', moveIds: ['m'] })] });
    const running = move('db-1');
    const [row] = vmRows(record, [
      { ...running, progress: running.progress && { ...running.progress, prediction: prediction() } },
    ]);
    expect(row && progressLine('op-1', row, time)).toContain(' eta=12s eta_low=10s eta_high=15s msg=');
  });

  it('what the watcher has to say is a line, too', () => {
    expect(noticeLine('op-1', 'no worker is running', time)).toBe(
      `${time} watch.notice op=op-1 msg="no worker is running"`,
    );
  });

  it('above the live display an event is for eyes', () => {
    expect(eventText(event, '10:00:00', plain)).toBe('10:00:00 move.failed db 1: the link to "node-b" broke');
    expect(eventText(event, '10:00:00', ansi)).toContain('\u001b[31mmove.failed\u001b[39m');
  });
});

describe('progress without a terminal', () => {
  it('what waits for approval has a line for each VM, once for each plan', () => {
    const lines: string[] = [];
    const view = plainView({ operationId: 'op-1', write: (line) => lines.push(line), now: () => 0 });
    const proposal = {
      moves: [{ vm: 'db-1', source: 'node-a', destination: 'node-b', why: 'best fit' }],
      shutdowns: [{ vm: 'gpu-1', host: 'node-a', why: 'a device' }],
      skipped: [{ vm: 'lab-1', reason: 'its label' }],
      blocked: [{ vm: 'big', reason: 'no room' }],
      madeAtMs: 0,
      number: 1,
      hash: 'h1',
    };
    const show = (hash: string) =>
      view.snapshot({ nowMs: 0, record: operation({ proposal: { ...proposal, hash } }), moves: [], hosts: [] });
    show('h1');
    show('h1');
    expect(lines.map((line) => line.replace(/^\S+ /, ''))).toEqual([
      'plan.move op=op-1 plan=h1 vm=db-1 source=node-a destination=node-b msg="best fit"',
      'plan.shutdown op=op-1 plan=h1 vm=gpu-1 host=node-a msg="a device"',
      'plan.skipped op=op-1 plan=h1 vm=lab-1 msg="its label"',
      'plan.blocked op=op-1 plan=h1 vm=big msg="no room"',
    ]);
    show('h2');
    expect(lines).toHaveLength(8);
  });

  it('a running migration has a line every five seconds, a waiting one none', () => {
    let now = 0;
    const lines: string[] = [];
    const view = plainView({ operationId: 'op-1', write: (line) => lines.push(line), now: () => now });
    const record = operation({ tasks: [task('db-1', { state: 'precopy', moveIds: ['m'] }), task('web-1')] });
    for (now = 0; now <= 12_000; now += 500)
      view.snapshot({ nowMs: now, record, moves: [move('db-1')], hosts: [host('node-a')] });
    expect(lines).toHaveLength(2);
    expect(lines[0]).toMatch(/^1970-01-01T00:00:05\.000Z move\.progress op=op-1 vm=db-1 /);
    view.event({ ...event, streamId: '1' }, 60_000);
    expect(lines[2]).toMatch(/^1970-01-01T00:01:00\.000Z move\.failed /);
  });
});
