/**
 * What the rest of the QEMU adapter sees of QMP: commands with a time limit, events, and errors that say what was
 * wrong. The bytes are client.ts's business, who may hold which socket is pool.ts's.
 * Source: QEMU's docs/interop/qmp-spec.rst.
 */
import type { z } from 'zod';

/** Unsolicited. `atMs` is the guest host's wall clock as QEMU put it. */
export interface QmpEvent {
  readonly name: string;
  readonly atMs: number;
  readonly data: Readonly<Record<string, unknown>>;
}

export interface QmpGreeting {
  readonly version: { readonly major: number; readonly minor: number; readonly micro: number };
  readonly capabilities: readonly string[];
}

/**
 * One negotiated connection. Errors, all `HostevacError`: `hypervisorRefused` when QEMU answered with an error (its
 * class and description are in the message), `hostUnreachable` when it closed, did not answer in time, or said what no
 * QMP server says. After the latter the connection is closed and answers nothing any more, and whether a command that was
 * under way has been carried out is unknown. `internal` when too many commands wait for answers already (a loop of ours
 * that does not wait); that one was not sent and the connection goes on.
 */
export interface Qmp {
  readonly greeting: QmpGreeting;
  readonly closed: boolean;
  /** It was made for commands out of band, and QEMU knows them. */
  readonly outOfBand: boolean;
  /** The value of `return`, parsed by `answer`. The command is sent in the same tick as the call. */
  execute<T>(
    command: string,
    answer: z.ZodType<T>,
    args?: Readonly<Record<string, unknown>>,
    options?: {
      readonly timeoutMs?: number;
      /**
       * Carried out at once, whatever else hangs: only for commands that QEMU allows it for (`migrate-pause`,
       * `migrate-recover`), and on a connection that was made for it.
       */
      readonly outOfBand?: boolean;
    },
  ): Promise<T>;
  /** Returns how to stop listening. What a listener throws ends the process as any uncaught error does. */
  onEvent(listener: (event: QmpEvent) => void): () => void;
  /** Called once, also when it is closed already. */
  onClose(listener: () => void): void;
  close(): void;
}

/** Throws `hostUnreachable` when nobody listens, nobody greets in time (another client holds the socket), or it is no QMP. */
export type QmpConnect = (
  path: string,
  options?: {
    readonly timeoutMs?: number;
    /** Where QEMU knows it (from 2.12); has to be said in time: a QEMU that hangs makes no new connections. */
    readonly outOfBand?: boolean;
  },
) => Promise<Qmp>;
