/** A producer that writes down who changed what: commands use it as they use any, and the audit log has their words. */
import type { AuditEntry } from '../domain/access.ts';
import { reasonOf } from '../domain/errors.ts';
import type { ControlOutcome, OperationHandle, Producer } from '../queue/producer.ts';

/** What is not known before it was done. */
export type AuditWord = Pick<AuditEntry, 'action' | 'target' | 'outcome' | 'detail'>;

export function auditedProducer(producer: Producer, write: (word: AuditWord) => Promise<void>): Producer {
  /** Done, then written down; what failed is written down, too. */
  const noted = async <T>(
    action: string,
    target: string | null,
    work: Promise<T>,
    say: (done: T) => Partial<AuditWord>,
  ): Promise<T> => {
    let done: T;
    try {
      done = await work;
    } catch (error) {
      await write({ action, target, outcome: 'failed', detail: reasonOf(error).code });
      throw error;
    }
    await write({ action, target, outcome: 'done', detail: '', ...say(done) });
    return done;
  };
  const control = (action: string, target: string, work: Promise<ControlOutcome>): Promise<ControlOutcome> =>
    noted(action, target, work, ({ changed, message }) => ({
      outcome: changed ? 'done' : 'unchanged',
      detail: message,
    }));
  const request = (action: string, target: string | null, work: Promise<OperationHandle>) =>
    noted(action, target, work, ({ id, acceptance }) => ({
      target: id,
      outcome: acceptance === 'created' ? 'done' : 'unchanged',
      detail: acceptance,
    })).then(steered);
  const steered = (handle: OperationHandle): OperationHandle =>
    over(handle, {
      cancel: () => control('operation.cancel', handle.id, handle.cancel()),
      pause: (options) => control('operation.pause', handle.id, handle.pause(options)),
      resume: () => control('operation.resume', handle.id, handle.resume()),
      approve: (hash) => control('operation.approve', handle.id, handle.approve(hash)),
    });
  return over(producer, {
    evacuateNode: (input) => request('evacuation.create', input.host, producer.evacuateNode(input)),
    loadBalance: (input) => request('rebalance.create', null, producer.loadBalance(input)),
    operation: async (id) => steered(await producer.operation(id)),
    cordon: (host) => control('host.cordon', host, producer.cordon(host)),
    uncordon: (host) => control('host.uncordon', host, producer.uncordon(host)),
    confirmDown: (host, by) => control('host.confirmDown', host, producer.confirmDown(host, by)),
    capacity: (host, capacity, by) =>
      control(capacity === null ? 'host.capacity.reset' : 'host.capacity', host, producer.capacity(host, capacity, by)),
  });
}

/** `target` with some of its methods replaced; the others keep their own `this`. */
function over<T extends object>(target: T, methods: Partial<T>): T {
  return new Proxy(target, {
    get(_, key): unknown {
      if (Object.hasOwn(methods, key)) return Reflect.get(methods, key);
      const value: unknown = Reflect.get(target, key);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}
