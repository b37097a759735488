import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EventReader, type ServerEvent } from '../../src/dashboard/lib/sse.ts';

const TEXT =
  ': hello\nretry: 10\n\nid: 1-0\nevent: move.done\ndata: {"a":1}\n\ndata: one\ndata:two\n\nid: 2-0\r\ndata: three\r\n\r\nevent: end\ndata: \n\n';
const EVENTS: ServerEvent[] = [
  { id: '1-0', event: 'move.done', data: '{"a":1}' },
  { id: '1-0', event: 'message', data: 'one\ntwo' },
  { id: '2-0', event: 'message', data: 'three' },
  { id: '2-0', event: 'end', data: '' },
];

describe('server-sent events', () => {
  it('comments and unknown fields say nothing, several data lines are one, an id holds on', () => {
    expect(new EventReader().push(TEXT)).toEqual(EVENTS);
  });

  it('are the same however the text is cut', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: TEXT.length }), { maxLength: 12 }), (cuts) => {
        const reader = new EventReader();
        const at = [0, ...cuts.toSorted((a, b) => a - b), TEXT.length];
        const events = at.slice(1).flatMap((end, index) => reader.push(TEXT.slice(at[index], end)));
        expect(events).toEqual(EVENTS);
      }),
    );
  });

  it('what is not complete is not given; a block without data is none, but its id counts', () => {
    const reader = new EventReader('7-0');
    expect(reader.push('data: half')).toEqual([]);
    expect(reader.push('\n')).toEqual([]);
    expect(reader.push('\n')).toEqual([{ id: '7-0', event: 'message', data: 'half' }]);
    expect(reader.push('id: 8-0\nevent: nothing\n\n')).toEqual([]);
    expect(reader.lastId).toBe('8-0');
    expect(reader.push('data: x\n\n')).toEqual([{ id: '8-0', event: 'message', data: 'x' }]);
  });
});
