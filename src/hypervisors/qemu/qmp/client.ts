/**
 * How a QMP connection comes about: the socket, the greeting, the negotiation.
 * Source: QEMU's docs/interop/qmp-spec.rst and chardev/char-socket.c (listens with a backlog of one).
 */
import { connect, type Socket } from 'node:net';
import { z } from 'zod';
import { abortableSleep } from '../../../clock/abortable-sleep.ts';
import { HostevacError } from '../../../domain/errors.ts';
import { QmpConnection, unreachable } from './connection.ts';
import type { QmpMessage } from './messages.ts';
import type { Qmp, QmpConnect } from './qmp.ts';
import { afterReading, Wire } from './wire.ts';

const CONNECT_TIMEOUT_MS = 3000;
const BACKLOG_RETRY_MS = 50;
/** `sun_path` has 108 bytes with its final NUL (unix(7)). */
const LONGEST_PATH_BYTES = 107;

const SOMEBODY_HOLDS_IT =
  'QMP serves one client at a time: another one probably holds the socket (a stopped process does, too), or QEMU itself ' +
  'is stopped. `ss -xp` shows who has it';

/** Implements `QmpConnect`. The time limit is for the greeting; whoever greeted gets as long again to negotiate. */
export async function connectQmp(
  path: string,
  { timeoutMs = CONNECT_TIMEOUT_MS, outOfBand = false }: NonNullable<Parameters<QmpConnect>[1]> = {},
): Promise<Qmp> {
  const untilMs = performance.now() + timeoutMs;
  const leftMs = (): number => Math.max(0, untilMs - performance.now());
  const socket = await dial(path, leftMs);
  const connection = await greeted(socket, path, leftMs(), outOfBand);
  try {
    const enable = connection.outOfBand ? { enable: ['oob'] } : undefined;
    await connection.execute('qmp_capabilities', z.object({}), enable, { timeoutMs });
    return connection;
  } catch (error) {
    connection.close();
    if (error instanceof HostevacError && error.code === 'hypervisorRefused') throw unreachable(error.message);
    throw error;
  }
}

/** A unix socket connects at once or not at all; only where too many wait already is it worth trying again. */
async function dial(path: string, leftMs: () => number): Promise<Socket> {
  const bytes = Buffer.byteLength(path);
  if (bytes > LONGEST_PATH_BYTES) {
    throw unreachable(`${path} has ${bytes} bytes; a socket's path has at most ${LONGEST_PATH_BYTES}: shorten runDir`);
  }
  while (true) {
    const outcome = await attempt(path);
    if (outcome.socket !== undefined) return outcome.socket;
    if (outcome.code !== 'EAGAIN') throw unreachable(wordsFor(path, outcome.code));
    const left = leftMs();
    if (left === 0) throw unreachable(`${path}: too many clients wait for it already. ${SOMEBODY_HOLDS_IT}`);
    await abortableSleep(Math.min(BACKLOG_RETRY_MS, left));
  }
}

type Attempt = { readonly socket: Socket } | { readonly socket?: undefined; readonly code: string };

function attempt(path: string): Promise<Attempt> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('error', (error: NodeJS.ErrnoException) => resolve({ code: error.code ?? error.message }));
    socket.once('connect', () => resolve({ socket }));
  });
}

function wordsFor(path: string, code: string): string {
  switch (code) {
    case 'ENOENT':
      return `there is no QMP socket at ${path}: QEMU does not run, or was started with another path`;
    case 'ECONNREFUSED':
      return `nobody listens at ${path}: the QEMU that made it has ended`;
    case 'EACCES':
    case 'EPERM':
      return `${path} may not be opened by user ${process.geteuid?.()} (${code}): run as root or as QEMU's user`;
    default:
      return `${path} cannot be connected: ${code}`;
  }
}

function greeted(socket: Socket, path: string, timeoutMs: number, outOfBand: boolean): Promise<QmpConnection> {
  return new Promise((resolve, reject) => {
    let others = 0;
    const wire = new Wire(socket, path, {
      message(message: QmpMessage) {
        // QEMU may still send what belongs to the client before us (its issue 2176).
        if (message.kind !== 'greeting') others += 1;
        else {
          stopTimer();
          resolve(new QmpConnection(wire, message.greeting, outOfBand));
        }
      },
      ended(why: string) {
        stopTimer();
        reject(unreachable(`${path}: ${why}`));
      },
    });
    const stopTimer = afterReading(timeoutMs, () => {
      const half = wire.unfinished();
      const instead =
        others > 0 ? `, but ${others} other messages` : half === '' ? '' : `, but half a line that begins ${half}`;
      const cause = instead === '' ? `. ${SOMEBODY_HOLDS_IT}` : ': this is no QMP server';
      wire.close(`no greeting came within ${Math.round(timeoutMs)} ms${instead}${cause}`);
    });
  });
}
