/**
 * Which of a VM's monitor sockets is asked. Each serves one client at a time, so reading goes to the spare one where
 * there is one, and driving to the main one; either stands in for the other when it is held by somebody else.
 */
import { existsSync } from 'node:fs';
import { HostevacError } from '../../domain/errors.ts';
import type { Fence } from '../../store/lease.ts';
import { connectQmp } from './qmp/client.ts';
import { QmpPool } from './qmp/pool.ts';
import type { Qmp } from './qmp/qmp.ts';
import { assertMayDrive } from './token-file.ts';
import type { VmDir } from './vm-dir.ts';

/** QEMU greets within milliseconds, and others who look hold a socket for about 100 ms: we wait in line that long. */
const GREETING_MS = 1_500;

/** `execute` of a QMP connection, for commands that change something. */
export type Send = Qmp['execute'];

export class Monitors {
  /** Main monitors that this process holds: nothing need be connected to ask them. */
  readonly #held = new Set<string>();
  /** Main monitors that a connection of this process outside the pool holds. */
  readonly #occupied = new Set<string>();
  readonly #pool = new QmpPool({ connect: (path) => connectQmp(path, { timeoutMs: GREETING_MS }) });

  /** Asks something that changes nothing. Throws as connecting does, `hostUnreachable`, when no socket answers. */
  read<T>(dir: VmDir, work: (qmp: Qmp) => Promise<T>): Promise<T> {
    const mainFirst = this.#held.has(dir.monitor) || !existsSync(dir.spare);
    return this.#onFirst(this.#free(mainFirst ? [dir.monitor, dir.spare] : [dir.spare, dir.monitor]), work);
  }

  /** Each command that `work` sends is fenced in the tick in which it is sent. */
  drive<T>(fence: Fence, dir: VmDir, vm: string, work: (send: Send, qmp: Qmp) => Promise<T>): Promise<T> {
    return this.#onFirst(this.#free([dir.monitor, dir.spare]), (qmp) => {
      const send: Send = (command, answer, args, options) => {
        assertMayDrive(fence, dir, vm);
        return qmp.execute(command, answer, args, options);
      };
      return work(send, qmp);
    });
  }

  /** Keeps the main monitor, for its events. */
  async hold({ monitor }: VmDir): ReturnType<QmpPool['hold']> {
    const { qmp, release } = await this.#pool.hold(monitor);
    this.#held.add(monitor);
    qmp.onClose(() => this.#held.delete(monitor));
    return {
      qmp,
      release: () => {
        this.#held.delete(monitor);
        release();
      },
    };
  }

  /** The main monitor is held by a connection of the caller's own: nobody here waits for it until the answer is called. */
  occupy({ monitor }: VmDir): () => void {
    this.#occupied.add(monitor);
    return () => void this.#occupied.delete(monitor);
  }

  #free(paths: readonly string[]): readonly string[] {
    return paths.filter((path) => !this.#occupied.has(path));
  }

  close(): void {
    this.#pool.close();
  }

  /** Another socket is tried only as long as nothing was sent: a command may have been carried out. */
  async #onFirst<T>(paths: readonly string[], work: (qmp: Qmp) => Promise<T>): Promise<T> {
    let unreachable: unknown;
    for (const path of paths) {
      let connected = false;
      try {
        return await this.#pool.use(path, (qmp) => {
          connected = true;
          return work(qmp);
        });
      } catch (error) {
        if (connected || !(error instanceof HostevacError) || error.code !== 'hostUnreachable') throw error;
        unreachable ??= error;
      }
    }
    throw unreachable;
  }
}
