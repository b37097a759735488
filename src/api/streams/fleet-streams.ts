/**
 * The fleet's stream: every operation's events from one tail, and beside them, at most once a second, a hint at what else has
 * changed. A hint has no id and is never owed twice: who does not read fast gets one for all that it missed.
 */

import type { Backend } from '../backend.ts';
import type { Reader } from '../reader.ts';
import type { Recorder } from '../recorder.ts';
import type { Host } from '../schemas/fleet.ts';
import { frameOf, type SseStream } from './sse.ts';
import type { TailEntry, TailSource } from './tail.ts';

const LOOK_MS = 1_000;

interface Owed {
  hosts: boolean;
  readonly operations: Set<string>;
}

export class FleetStreams {
  readonly #reader: Reader;
  readonly #owed = new Map<SseStream, Owed>();
  readonly #report: (error: unknown) => void;
  readonly #timer: NodeJS.Timeout;
  readonly #unlisten: () => void;
  #items: readonly Host[] | null = null;
  #hosts: string | null = null;
  #looking = false;

  constructor(reader: Reader, recorder: Recorder, report: (error: unknown) => void) {
    this.#reader = reader;
    this.#report = report;
    this.#unlisten = recorder.onChanged((operations) => {
      // Who is told reads it then, and must not be given what it was before.
      reader.operationsChanged(operations);
      for (const owed of this.#owed.values()) for (const id of operations) owed.operations.add(id);
    });
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
    this.#timer.unref();
  }

  /** Tells this stream from now on; the result ends that. */
  add(stream: SseStream): () => void {
    this.#owed.set(stream, { hosts: false, operations: new Set() });
    return () => this.#owed.delete(stream);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#unlisten();
    this.#owed.clear();
  }

  #look(): void {
    if (this.#owed.size === 0 || this.#looking) return;
    this.#looking = true;
    this.#tell()
      .catch(this.#report)
      .finally(() => {
        this.#looking = false;
      });
  }

  /** Whether the hosts are not as they were at the look before. */
  #areOthers(items: readonly Host[]): boolean {
    // Read no more often than they change: mostly it is the very list of the look before.
    if (items === this.#items) return false;
    this.#items = items;
    // Ages change all the time; that they do is no news.
    const hosts = JSON.stringify(items.map(({ inventoryAgeMs, ...host }) => [host, inventoryAgeMs === null]));
    const changed = this.#hosts !== null && this.#hosts !== hosts;
    this.#hosts = hosts;
    return changed;
  }

  async #tell(): Promise<void> {
    const { items } = await this.#reader.hosts();
    const changed = this.#areOthers(items);
    for (const [stream, owed] of this.#owed) {
      owed.hosts ||= changed;
      if (!stream.idle || (!owed.hosts && owed.operations.size === 0)) continue;
      const data = {
        ...(owed.hosts ? { hosts: true } : {}),
        ...(owed.operations.size === 0 ? {} : { operations: [...owed.operations] }),
      };
      stream.write(frameOf({ event: 'changed', data }));
      owed.hosts = false;
      owed.operations.clear();
    }
  }
}

type Stored = Awaited<ReturnType<Backend['stores']['events']['read']>>[number];

function entryOf({ streamId, ...event }: Stored): TailEntry {
  return { id: streamId, frame: frameOf({ id: streamId, event: event.kind, data: event }) };
}

/** Events of all operations, for as long as somebody follows them. */
export function fleetSource({ producer, stores }: Backend): TailSource {
  return {
    async *follow(after, signal) {
      for await (const event of producer.fleetEvents({ after, signal })) yield entryOf(event);
    },
    page: async (after, limit) => (await stores.events.readFleet(after, 0, undefined, limit)).map(entryOf),
  };
}

/** Events of one operation, to its end. */
export function operationSource({ producer, stores }: Backend, id: string): TailSource {
  return {
    async *follow(after, signal) {
      const handle = await producer.operation(id);
      for await (const event of handle.events({ after, signal })) yield entryOf(event);
    },
    page: async (after, limit) => (await stores.events.read(id, after, 0, undefined, limit)).map(entryOf),
  };
}
