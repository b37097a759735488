/**
 * What a process may watch of its own work: counted by metrics, followed by traces. Observers see; they change nothing, and
 * nothing waits for them.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Transition, Verdict } from '../migration/context.ts';

/** What a line of the log, or a span, is about. */
export interface Subject {
  readonly operation: string;
  readonly move?: string;
  readonly vm?: string;
  readonly attempt?: number;
}

export interface Observer {
  /** A delivery of a move is about to be worked on; its first step follows. */
  moveBegins?(moveId: string): void;
  transition?(transition: Transition): void;
  /** A controller has decided about a migration. */
  verdict?(verdict: Verdict): void;
  /** A turn of an operation has ended, or has thrown. */
  operationTurn?(tookMs: number): void;
  leaseLost?(of: 'vm' | 'operation'): void;
  /** Work was interrupted by something unexpected, and is looked at again. */
  fault?(of: 'move' | 'operation' | 'queue'): void;
  /** A request to a webhook's receiver has ended. */
  delivery?(delivery: { readonly endpoint: string; readonly outcome: 'delivered' | 'retried' | 'dropped' }): void;
}

/** Tells all of them; one that throws disturbs neither the others nor the work. */
export function observedBy(observers: readonly Observer[]): Required<Observer> {
  const each = (tell: (observer: Observer) => void): void => {
    for (const observer of observers) {
      try {
        tell(observer);
      } catch {
        // What is watched comes first.
      }
    }
  };
  return {
    moveBegins: (moveId) => each((one) => one.moveBegins?.(moveId)),
    transition: (transition) => each((one) => one.transition?.(transition)),
    verdict: (verdict) => each((one) => one.verdict?.(verdict)),
    operationTurn: (tookMs) => each((one) => one.operationTurn?.(tookMs)),
    leaseLost: (of) => each((one) => one.leaseLost?.(of)),
    fault: (of) => each((one) => one.fault?.(of)),
    delivery: (delivery) => each((one) => one.delivery?.(delivery)),
  };
}

const subjects = new AsyncLocalStorage<Subject>();

/** All that is logged while `work` goes on is about `subject`. */
export function about<T>(subject: Subject, work: () => Promise<T>): Promise<T> {
  return subjects.run(subject, work);
}

/**
 * The subject of a line that is being logged. What outlives the work in which it was made (a pooled connection) may speak of
 * another VM: then its line says so itself, and nothing is added.
 */
export function subjectOf(line: object): Partial<Subject> {
  const subject = subjects.getStore();
  if (subject === undefined) return {};
  const own = (key: 'vm' | 'operation'): unknown => Reflect.get(line, key);
  const isAnother = (key: 'vm' | 'operation'): boolean => own(key) !== undefined && own(key) !== subject[key];
  return isAnother('vm') || isAnother('operation') ? {} : subject;
}
