import { expect, test } from 'vitest';
import { LAST_WORD_MS } from '../../src/hypervisors/qemu/watch.ts';
import { LAST_LOOK_REAL_MS } from '../../src/migration/switchover.ts';

test('the guard steps in only after the last look at a destination is over: it would send a guest to one found dead', () => {
  expect(LAST_WORD_MS).toBeGreaterThanOrEqual(LAST_LOOK_REAL_MS + 100);
  // A test on real QEMU (outgoing.qemu) allows a guest whose worker hangs 1.5 s.
  expect(LAST_WORD_MS).toBeLessThan(1_200);
});
