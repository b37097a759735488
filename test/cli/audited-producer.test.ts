import { describe, expect, it } from 'vitest';
import { type AuditWord, auditedProducer } from '../../src/cli/audited-producer.ts';
import { HostevacError } from '../../src/domain/errors.ts';
import type { OperationHandle, Producer } from '../../src/queue/producer.ts';

/** A producer with state of its own that only its own methods reach. */
class Fake {
  readonly #done: string[] = [];
  async cordon(host: string) {
    this.#done.push(`cordon ${host}`);
    return { changed: this.#done.length === 1, message: 'as asked' };
  }
  async confirmDown(): Promise<never> {
    throw new HostevacError('hostAnswers', 'it answers');
  }
  async evacuateNode() {
    return this.operation('ev-1');
  }
  async operation(id: string) {
    const done = this.#done;
    return {
      id,
      acceptance: 'joined',
      async cancel() {
        done.push(`cancel ${id}`);
        return { changed: true, message: 'cancelled' };
      },
      async moves() {
        return [...done];
      },
    };
  }
}

describe('a producer whose changes are written down', () => {
  it('says what was done, what had no effect and what failed; what only looks is not in it', async () => {
    const words: AuditWord[] = [];
    const real: unknown = new Fake();
    const producer = auditedProducer(real as Producer, async (word) => void words.push(word));
    await producer.cordon('a');
    await producer.cordon('a');
    await expect(producer.confirmDown('a', 'me')).rejects.toThrow('it answers');
    const handle: OperationHandle = await producer.evacuateNode({ host: 'a' });
    await handle.cancel();
    await (await producer.operation('ev-2')).cancel();
    expect(await handle.moves()).toEqual(['cordon a', 'cordon a', 'cancel ev-1', 'cancel ev-2']);
    expect(words.map(({ action, target, outcome, detail }) => [action, target, outcome, detail].join(' '))).toEqual([
      'host.cordon a done as asked',
      'host.cordon a unchanged as asked',
      'host.confirmDown a failed hostAnswers',
      'evacuation.create ev-1 unchanged joined',
      'operation.cancel ev-1 done cancelled',
      'operation.cancel ev-2 done cancelled',
    ]);
  });
});
