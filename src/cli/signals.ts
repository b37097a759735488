/** Ctrl-C and its kin: the first one is asked nicely, the second ends the process at once. */

const NUMBERS = { SIGHUP: 1, SIGINT: 2, SIGPIPE: 13, SIGTERM: 15 } as const;
/** Node ignores SIGPIPE; what a closed pipe means here is `Output.readerGone`. */
const CAUGHT = ['SIGHUP', 'SIGINT', 'SIGTERM'] as const;
export type EndSignal = keyof typeof NUMBERS;

/** The shell's convention. */
export function exitCodeOfSignal(signal: EndSignal): number {
  return 128 + NUMBERS[signal];
}

/** Thrown out of a wait that a signal ended. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
  readonly signal: EndSignal;
  constructor(signal: EndSignal) {
    super(`interrupted by ${signal}`);
    this.signal = signal;
  }
}

export interface Interruption {
  /** Aborts with an `Interrupted` at the first signal. */
  readonly signal: AbortSignal;
  /** Signals do again what they did before. */
  dispose(): void;
}

export function catchInterrupt(): Interruption {
  const controller = new AbortController();
  const handlers = CAUGHT.map((name) => {
    const handler = (): void => {
      if (controller.signal.aborted) process.exit(exitCodeOfSignal(name));
      controller.abort(new Interrupted(name));
    };
    process.on(name, handler);
    return () => process.off(name, handler);
  });
  return {
    signal: controller.signal,
    dispose() {
      for (const off of handlers) off();
    },
  };
}
