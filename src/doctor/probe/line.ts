/** The two ends of a connection (`line-end.ts`) as processes: started where the fleet file says, bounded, ended for certain. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { abortableSleep } from '../../clock/abortable-sleep.ts';
import { entering } from '../../runtime/network-namespace.ts';

const ENTRY = fileURLToPath(new URL('../line-end.js', import.meta.url));

const said = z.discriminatedUnion('event', [
  z.object({ event: z.literal('listening'), port: z.number() }),
  z.object({ event: z.literal('connected') }),
  z.object({ event: z.literal('failed'), code: z.string() }),
  z.object({ event: z.literal('received'), bytesPerSec: z.number().nullable(), cores: z.number() }),
  z.object({ event: z.literal('sent'), cores: z.number() }),
]);
type Said = z.infer<typeof said>;
type Event = Said['event'];

/** Where an end is; null: here. */
export type Where = string | null;

export class LineEnd {
  readonly #child: ChildProcess;
  readonly #lines: Said[] = [];
  readonly #news = new Set<() => void>();
  #ended: string | null = null;
  #complaint = '';

  constructor(where: Where, args: readonly (string | number)[], signal: AbortSignal) {
    const [program = process.execPath, ...rest] = [...entering(where), process.execPath, ENTRY, ...args.map(String)];
    this.#child = spawn(program, rest, { stdio: ['pipe', 'pipe', 'pipe'], signal, killSignal: 'SIGKILL' });
    const { stdout, stderr, stdin } = this.#child;
    stdin?.on('error', () => undefined);
    stderr?.on('data', (data: Buffer) => {
      this.#complaint = (this.#complaint + data.toString()).slice(-500);
    });
    if (stdout !== null) {
      createInterface({ input: stdout }).on('line', (line) => {
        this.#lines.push(said.parse(JSON.parse(line)));
        this.#tell();
      });
    }
    this.#child.once('error', (error) => this.#end(error.message));
    this.#child.once('close', () => this.#end(this.#complaint.trim()));
  }

  /** What it says of these; a `failed` of its own with why where it says nothing in time. */
  async says(events: readonly Event[], limitMs: number): Promise<Said> {
    const since = performance.now();
    for (;;) {
      const line = this.#lines.find(({ event }) => events.includes(event) || event === 'failed');
      if (line !== undefined) return line;
      if (this.#ended !== null) return { event: 'failed', code: this.#ended || 'it ended without a word' };
      const leftMs = limitMs - (performance.now() - since);
      if (leftMs <= 0) return { event: 'failed', code: 'ETIMEDOUT' };
      const heard = new AbortController();
      const wake = (): void => heard.abort();
      this.#news.add(wake);
      await abortableSleep(leftMs, heard.signal);
      this.#news.delete(wake);
    }
  }

  async close(): Promise<void> {
    if (this.#ended !== null) return;
    const gone = new Promise<void>((resolve) => this.#child.once('close', () => resolve()));
    this.#child.kill('SIGKILL');
    await gone;
  }

  #end(why: string): void {
    this.#ended ??= why;
    this.#tell();
  }

  #tell(): void {
    for (const wake of [...this.#news]) wake();
  }
}
