import { Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { logText, openLog } from '../../src/cli/log.ts';
import { plain } from '../../src/cli/text.ts';

describe('logs', () => {
  it('on a terminal a line is for eyes', () => {
    const line = {
      level: 40,
      time: '2026-11-23T10:20:30.000Z',
      msg: 'db-1: link cut',
      hosts: ['a', 'b'],
      n: 1,
      o: { x: 1 },
    };
    expect(logText(JSON.stringify(line), plain)).toBe('10:20:30 warn  db-1: link cut hosts=a,b n=1 o="{\\"x\\":1}"');
  });

  it('what is no log line is shown as it is, harmless', () => {
    expect(logText('no json\u001b[2J\n', plain)).toBe('no json\\x1b[2J');
    expect(logText('{"a":1}', plain)).toBe('{"a":1}');
  });

  it('goes to stderr as JSON, or to the display while there is one', () => {
    const written: string[] = [];
    const stderr = new Writable({
      write(chunk, _encoding, done) {
        written.push(String(chunk));
        done();
      },
    });
    // What openLog uses of a terminal's stream, this one has.
    const log = openLog({ level: 'warn', stderr: stderr as NodeJS.WriteStream, paint: plain });
    log.logger.info('not shown');
    log.logger.warn({ vm: 'db-1' }, 'shown');
    expect(JSON.parse(written.join(''))).toMatchObject({ level: 40, vm: 'db-1', msg: 'shown' });
    const above: string[] = [];
    log.redirect((line) => above.push(line));
    log.logger.warn('above');
    log.redirect(null);
    expect(above).toHaveLength(1);
    expect(written).toHaveLength(1);
  });
});
