/**
 * Looks at how much a guest dirties, taken by QEMU's `calc-dirty-rate` in its page-sampling mode: a thread of its own beside
 * the vCPUs, so that the guest is not slowed and a throttle does not slow the look. Works before and during pre-copy. One
 * look at a time for each VM; what is left of an earlier one (a process that died) is waited for.
 *
 * What cannot be told is null, and why stands in the log: no migration fails because of a look.
 *
 * Measured with QEMU 10.0.2 (TCG, two cores in use by others), a guest that sweeps 64 of its 256 MiB at 160 MiB/s; MiB dirtied,
 * median (range) of eight looks (of three from 1 s on), 4,096 pages each:
 *
 *   window ms   true   before a migration    while it is migrated    told standard error
 *      50        8     8.3 (5.7..9.2)        8.2 (7.5..8.4)          0.7
 *     100       16     14.9 (13.2..16.8)     16.8 (14.4..19.3)       1.0
 *     250       40     38.9 (32.1..40.6)     39.8 (37.3..41.8)       1.5
 *     500       64     62.6 (61.7..66.2)     64.0 (61.7..66.7)       1.7
 *   1,000       64     61.5 (60.5..63.5)     66.5 (62.5..66.5)       1.8
 *   2,000       64     63.0 (61.0..65.0)     63.1 (63.0..65.1)       1.8
 *
 * A look was over 20 to 30 ms after its window. It took 8 ms of one core (4,096 pages), 30 ms for 16,384 pages of a guest with
 * 1 GiB, 3 ms for 512.
 */
import type { Logger } from 'pino';
import { abortableSleep } from '../../clock/abortable-sleep.ts';
import type { Clock } from '../../clock/clock.ts';
import { HostevacError } from '../../domain/errors.ts';
import type { Fence } from '../../store/lease.ts';
import type { DirtyingMeasured } from '../hypervisor.ts';
import { anyAnswer, dirtyRateAnswer, statusAnswer } from './answers.ts';
import { dirtied, type SamplingLook, samplingLook } from './dirty-sampling.ts';
import type { Examiner } from './examine.ts';
import type { Monitors } from './monitors.ts';
import type { VmEntry } from './run-dir.ts';
import { isPostcopy, runStateOf } from './translate.ts';

/** When the window is over the second hashing begins, up to 50 ms of it. */
const FIRST_ASK_MS = 15;
/** Each time a little later: a question is a millisecond of QEMU's main loop. */
const ASK_AGAIN = { firstMs: 15, factor: 1.5, mostMs: 250 } as const;
/** Beyond the window, for a look that others have begun before and for one that takes long. */
const PATIENCE_MS = 3_000;

interface Wanted {
  readonly signal: AbortSignal;
  readonly fence?: Fence | undefined;
}

export interface DirtyRatesParts {
  readonly monitors: Monitors;
  readonly examiner: Examiner;
  readonly clock: Clock;
  readonly log: Logger;
}

export class DirtyRates {
  readonly #parts: DirtyRatesParts;
  /** The last look of this process at a VM, by directory: ends when it has ended. */
  readonly #looks = new Map<string, Promise<unknown>>();

  constructor(parts: DirtyRatesParts) {
    this.#parts = parts;
  }

  /** Implements `measureDirtying`; waits for its turn. */
  async measure(vm: VmEntry, windowMs: number, wanted: Wanted): Promise<DirtyingMeasured | null> {
    const { path } = vm.dir;
    const look = this.#inTurn(this.#looks.get(path), wanted.signal).then(() => this.#look(vm, windowMs, wanted));
    this.#looks.set(path, look);
    try {
      return await look;
    } finally {
      if (this.#looks.get(path) === look) this.#looks.delete(path);
    }
  }

  /** Resolves when the look before has ended, however it did, or on abort. */
  async #inTurn(before: Promise<unknown> | undefined, signal: AbortSignal): Promise<void> {
    if (before === undefined) return;
    const turn = new AbortController();
    const aborted = abortableSleep(Number.POSITIVE_INFINITY, AbortSignal.any([signal, turn.signal]));
    await Promise.race([Promise.allSettled([before]), aborted]);
    turn.abort();
  }

  /** Rejects for nothing that a host can be blamed for. */
  async #look(vm: Looked, windowMs: number, wanted: Wanted) {
    try {
      return await this.#measured(vm, windowMs, wanted);
    } catch (error) {
      if (!(error instanceof HostevacError)) throw error;
      return this.#cannot(vm, error.message);
    }
  }

  async #measured(vm: Looked, windowMs: number, wanted: Wanted): Promise<DirtyingMeasured | null> {
    const { signal } = wanted;
    const { examiner, clock } = this.#parts;
    const { memoryBytes } = vm.definition;
    if (signal.aborted) return null;
    const qemu = await examiner.answered(vm.dir, vm.definition.name);
    if (qemu === null) return this.#cannot(vm, 'it does not run');
    // In post-copy a page that is not here yet would be fetched only to be hashed.
    if (runStateOf(qemu.runState) !== 'running' || isPostcopy(qemu.migration)) {
      return this.#cannot(vm, `it is ${qemu.runState}, its migration ${qemu.migration.status ?? 'not begun'}`);
    }
    const look = samplingLook(qemu.features.has, memoryBytes, windowMs);
    if (look === null) return this.#cannot(vm, 'this QEMU has no calc-dirty-rate');
    const untilMs = clock.monotonic() + look.windowMs + PATIENCE_MS;
    if (!(await this.#begun(vm, look, untilMs, wanted))) return null;
    await clock.sleepReal(look.windowMs + FIRST_ASK_MS, signal);
    return this.#ended(vm, look, untilMs, signal);
  }

  /** Waits for a look that is under way. False: that one does not end, or this one is refused. */
  async #begun(vm: Looked, look: SamplingLook, untilMs: number, { signal, fence }: Wanted) {
    const { monitors, clock } = this.#parts;
    for (const pauseMs of pauses()) {
      if (signal.aborted) return false;
      const refusal = await monitors.read(vm.dir, async (qmp) => {
        // A process that was stopped and goes on after its lease begins nothing at a VM that another one drives by now.
        fence?.assertHeld();
        try {
          await qmp.execute('calc-dirty-rate', anyAnswer, look.begin);
          return null;
        } catch (error) {
          if (!(error instanceof HostevacError) || error.code !== 'hypervisorRefused') throw error;
          const { status } = await qmp.execute('query-dirty-rate', dirtyRateAnswer);
          return { status, message: error.message };
        }
      });
      if (refusal === null) return true;
      if (refusal.status !== 'measuring' || clock.monotonic() > untilMs) {
        this.#cannot(vm, refusal.message);
        return false;
      }
      await clock.sleepReal(pauseMs, signal);
    }
    return false;
  }

  async #ended(vm: Looked, look: SamplingLook, untilMs: number, signal: AbortSignal) {
    const { monitors, clock } = this.#parts;
    for (const pauseMs of pauses()) {
      if (signal.aborted) return null;
      const { answer, runState } = await monitors.read(vm.dir, async (qmp) => ({
        answer: await qmp.execute('query-dirty-rate', dirtyRateAnswer, look.ask),
        runState: (await qmp.execute('query-status', statusAnswer)).status,
      }));
      if (answer.status === 'measured') return this.#worth(vm, look, answer, runState);
      if (clock.monotonic() > untilMs) return this.#cannot(vm, 'the look does not end');
      await clock.sleepReal(pauseMs, signal);
    }
    return null;
  }

  #worth(vm: Looked, look: SamplingLook, answer: DirtyRateAnswer, runState: string): DirtyingMeasured | null {
    const { 'dirty-rate': mibPerSec, 'sample-pages': pages = look.pagesPerGib, mode = 'page-sampling' } = answer;
    const windowMs = answer['calc-time'] * look.unitMs;
    // It stood still for a part of the window.
    if (runStateOf(runState) !== 'running') return this.#cannot(vm, `it is ${runState} by now`);
    if (mode !== 'page-sampling' || pages !== look.pagesPerGib || windowMs < look.windowMs) {
      return this.#cannot(vm, `somebody else has begun a look since: ${JSON.stringify(answer)}`);
    }
    // QEMU leaves -1 where it sampled nothing.
    if (mibPerSec === undefined || mibPerSec < 0) return this.#cannot(vm, 'QEMU gives no rate');
    const { memoryBytes } = vm.definition;
    return dirtied({ mibPerSec, windowMs, pagesPerGib: look.pagesPerGib, memoryBytes });
  }

  #cannot({ definition }: Looked, why: string): null {
    this.#parts.log.debug({ vm: definition.name, why }, 'how much it dirties cannot be measured now');
    return null;
  }
}

type Looked = Pick<VmEntry, 'dir' | 'definition'>;
type DirtyRateAnswer = ReturnType<typeof dirtyRateAnswer.parse>;

function* pauses(): Generator<number> {
  for (let ms: number = ASK_AGAIN.firstMs; ; ms = Math.min(ASK_AGAIN.mostMs, ms * ASK_AGAIN.factor)) yield ms;
}
