/**
 * One negotiated QMP connection: commands and their answers, time limits, events. How it came about is client.ts's
 * business. Source: QEMU's docs/interop/qmp-spec.rst; what QEMU 10.0 does was tried.
 */
import { randomUUID } from 'node:crypto';
import type { z } from 'zod';
import { HostevacError } from '../../../domain/errors.ts';
import { issuesOf, type QmpMessage } from './messages.ts';
import type { Qmp, QmpEvent, QmpGreeting } from './qmp.ts';
import { afterReading, type Wire, type WireListener } from './wire.ts';

const COMMAND_TIMEOUT_MS = 5000;
/** Far more than we ever have under way; so many unanswered ones come from a loop of ours that does not wait. */
export const MAX_IN_FLIGHT = 64;
const LONGEST_DESCRIPTION = 1000;

interface Pending {
  readonly command: string;
  readonly returned: (value: unknown) => void;
  readonly failed: (error: HostevacError) => void;
  readonly stopTimer: () => void;
}

export class QmpConnection implements Qmp, WireListener {
  readonly greeting: QmpGreeting;
  readonly outOfBand: boolean;
  readonly #wire: Wire;
  readonly #pending = new Map<string, Pending>();
  readonly #eventListeners = new Set<(event: QmpEvent) => void>();
  readonly #closeListeners = new Set<() => void>();
  /**
   * QEMU sends the answer of a command whose client has gone to the client that came after it (seen with 10.0: a
   * `pmemsave` that hung). So ids are never used twice, by anybody, and an answer to an unknown one is nobody's.
   */
  readonly #idPrefix = randomUUID();
  #sent = 0;
  #strayAnswers = 0;

  constructor(wire: Wire, greeting: QmpGreeting, outOfBand = false) {
    this.#wire = wire;
    this.greeting = greeting;
    this.outOfBand = outOfBand && greeting.capabilities.includes('oob');
    wire.handTo(this);
  }

  get closed(): boolean {
    return this.#wire.closedWhy !== null;
  }

  async execute<T>(
    command: string,
    answer: z.ZodType<T>,
    args?: Readonly<Record<string, unknown>>,
    { timeoutMs = COMMAND_TIMEOUT_MS, outOfBand = false }: NonNullable<Parameters<Qmp['execute']>[3]> = {},
  ): Promise<T> {
    // No `await` before the command is sent: the caller has just checked its fence.
    const value = await this.#ask(command, args, timeoutMs, outOfBand);
    const parsed = answer.safeParse(value);
    if (parsed.success) return parsed.data;
    const why = `the answer to ${command} is not what QEMU answers (${issuesOf(parsed.error)})`;
    this.#wire.close(why);
    throw unreachable(`${this.#wire.path}: ${why}`);
  }

  onEvent(listener: (event: QmpEvent) => void): () => void {
    // Wrapped: the same function may listen twice, and each stops its own.
    const own = (event: QmpEvent): void => listener(event);
    this.#eventListeners.add(own);
    return () => {
      this.#eventListeners.delete(own);
    };
  }

  onClose(listener: () => void): void {
    if (this.closed) queueMicrotask(listener);
    else this.#closeListeners.add(() => listener());
  }

  close(): void {
    this.#wire.close('this process closed the connection');
  }

  message(message: QmpMessage): void {
    switch (message.kind) {
      case 'event':
        for (const listener of this.#eventListeners) callLoudly(() => listener(message.event));
        return;
      case 'greeting':
        this.#wire.close('no QMP server says this: a second greeting');
        return;
      case 'return':
        this.#settle(message.id)?.returned(message.value);
        return;
      case 'error': {
        const pending = this.#settle(message.id);
        if (pending === undefined) return;
        const words = `${message.errorClass}: ${message.description}`.slice(0, LONGEST_DESCRIPTION);
        pending.failed(
          new HostevacError('hypervisorRefused', `QEMU at ${this.#wire.path} refused ${pending.command}: ${words}`),
        );
        return;
      }
    }
  }

  ended(why: string): void {
    for (const { command, failed, stopTimer } of this.#pending.values()) {
      stopTimer();
      failed(
        unreachable(`${this.#wire.path}: ${why}. ${command} was not answered: it may or may not have been carried out`),
      );
    }
    this.#pending.clear();
    for (const listener of this.#closeListeners) callLoudly(listener);
    this.#closeListeners.clear();
    this.#eventListeners.clear();
  }

  #ask(
    command: string,
    args: Readonly<Record<string, unknown>> | undefined,
    timeoutMs: number,
    outOfBand: boolean,
  ): Promise<unknown> {
    const path = this.#wire.path;
    return new Promise((returned, failed) => {
      if (this.#wire.closedWhy !== null) {
        throw unreachable(`${path}: ${this.#wire.closedWhy}. ${command} was not sent`);
      }
      if (this.#pending.size >= MAX_IN_FLIGHT) {
        throw new HostevacError(
          'internal',
          `${path}: ${command} was not sent: ${MAX_IN_FLIGHT} commands wait for their answers already`,
        );
      }
      this.#sent += 1;
      const id = `${this.#idPrefix}-${this.#sent}`;
      const text = JSON.stringify({ [outOfBand ? 'exec-oob' : 'execute']: command, arguments: args, id });
      const stopTimer = afterReading(timeoutMs, () => this.#expire(id, timeoutMs));
      this.#pending.set(id, { command, returned, failed, stopTimer });
      this.#wire.send(`${text}\n`);
    });
  }

  /**
   * Closes the connection, not only the command. QEMU carries commands out in order, so whatever is sent next waits
   * behind this one; on a closed connection it drops most of what it has not begun, and the socket is free for others.
   * Most: of 30 commands sent to a stopped QEMU 10.0 and given up like this, 2 were carried out when it went on. So
   * who sent one that was not answered has to look what became of it.
   */
  #expire(id: string, timeoutMs: number): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    this.#pending.delete(id);
    const stray = this.#strayAnswers === 0 ? '' : ` (but ${this.#strayAnswers} answers came to ids that are not ours)`;
    const half = this.#wire.unfinished();
    const begun = half === '' ? '' : ` (but a line that begins ${half} and does not end)`;
    const why = `it did not answer ${pending.command} within ${timeoutMs} ms${stray}${begun}`;
    pending.failed(unreachable(`${this.#wire.path}: ${why}: it may or may not have been carried out`));
    this.#wire.close(why);
  }

  #settle(id: unknown): Pending | undefined {
    const pending = typeof id === 'string' ? this.#pending.get(id) : undefined;
    if (typeof id !== 'string' || pending === undefined) {
      this.#strayAnswers += 1;
      return undefined;
    }
    this.#pending.delete(id);
    pending.stopTimer();
    return pending;
  }
}

export function unreachable(message: string): HostevacError {
  return new HostevacError('hostUnreachable', message);
}

/** A listener's fault is neither the connection's nor the other listeners': it goes where uncaught errors go. */
function callLoudly(call: () => void): void {
  try {
    call();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
