/** One connection per socket in this process: shared while somebody uses it, gone soon after. */
import type { Socket } from 'node:net';
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { connectQmp } from '../../../../src/hypervisors/qemu/qmp/client.ts';
import { QmpPool } from '../../../../src/hypervisors/qemu/qmp/pool.ts';
import type { Qmp } from '../../../../src/hypervisors/qemu/qmp/qmp.ts';
import { until } from '../../../support/condition.ts';
import { answer, GREETING, onCommands, ScriptedServer } from './scripted-server.ts';

let server: ScriptedServer;
let sockets: Socket[];
let pool: QmpPool;
const unhandled: unknown[] = [];
const onUnhandled = (error: unknown): void => {
  unhandled.push(error);
};

beforeEach(async () => {
  process.on('unhandledRejection', onUnhandled);
  sockets = [];
  server = await ScriptedServer.start((socket) => {
    sockets.push(socket);
    socket.write(GREETING);
    onCommands(socket, (command) => answer(socket, command, {}));
  });
  pool = new QmpPool({ idleMs: 30 });
});

afterEach(async () => {
  pool.close();
  await server.close();
  process.off('unhandledRejection', onUnhandled);
  expect(unhandled.splice(0)).toEqual([]);
});

const ping = (qmp: Qmp) => qmp.execute('ping', z.object({}));

test('users at the same time share a connection, also while it is being made', async () => {
  const seen = new Set<Qmp>();
  const work = async (qmp: Qmp): Promise<void> => {
    seen.add(qmp);
    await ping(qmp);
  };
  await Promise.all([pool.use(server.path, work), pool.use(server.path, work), pool.use(server.path, work)]);
  await pool.use(server.path, work);
  expect(server.connections).toBe(1);
  expect(seen.size).toBe(1);
});

test('an idle connection is closed soon, so that other processes are greeted; the next user gets a new one', async () => {
  await pool.use(server.path, ping);
  await until(() => server.open === 0, 2000, 'the idle connection closes');
  await pool.use(server.path, ping);
  expect(server.connections).toBe(2);
});

test('a connection that somebody holds stays open for events until it is released, once or twice', async () => {
  // Held while it idles already.
  await pool.use(server.path, ping);
  const held = await pool.hold(server.path);
  const another = await pool.hold(server.path);
  await pool.use(server.path, ping);
  another.release();
  another.release();
  const events: string[] = [];
  held.qmp.onEvent(({ name }) => events.push(name));
  // When another pool has idled for twice as long, this one would have closed.
  const shorter = new QmpPool({ idleMs: 60 });
  await shorter.use(server.path, ping);
  await until(() => server.open === 1, 2000, 'the connection that nobody holds closes');
  expect(held.qmp.closed).toBe(false);
  sockets[0]?.write('{"event":"STOP","timestamp":{"seconds":1,"microseconds":0}}\n');
  await until(() => events.length === 1, 2000, 'the event comes');
  held.release();
  await until(() => server.open === 0, 2000, 'the released connection closes');
});

test('when QEMU has closed it, the next user connects anew, even while somebody still has the old one', async () => {
  const held = await pool.hold(server.path);
  const closed = new Promise<void>((resolve) => held.qmp.onClose(resolve));
  sockets[0]?.destroy();
  await closed;
  await expect(ping(held.qmp)).rejects.toMatchObject({ code: 'hostUnreachable' });
  const next = await pool.hold(server.path);
  held.release();
  await ping(next.qmp);
  expect(server.connections).toBe(2);
  next.release();
});

test('a failed connect reaches all who waited for it and is not remembered', async () => {
  let attempts = 0;
  const failing = new QmpPool({
    idleMs: 30,
    connect: (path) => {
      attempts += 1;
      return connectQmp(attempts === 1 ? `${path}.no` : path);
    },
  });
  const outcomes = await Promise.allSettled([failing.use(server.path, ping), failing.use(server.path, ping)]);
  expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  expect(attempts).toBe(1);
  await failing.use(server.path, ping);
  expect(attempts).toBe(2);
  failing.close();
});

test('work that fails gives the connection back', async () => {
  await expect(
    pool.use(server.path, async () => {
      throw new Error('work');
    }),
  ).rejects.toThrow('work');
  await until(() => server.open === 0, 2000, 'the idle connection closes');
});

test('closing ends everything: what is open, what is being made, and what comes later', async () => {
  const held = await pool.hold(server.path);
  const other = await ScriptedServer.start((socket) => {
    socket.write(GREETING);
    onCommands(socket, (command) => answer(socket, command, {}));
  });
  onTestFinished(() => other.close());
  const made = pool.use(other.path, ping);
  pool.close();
  await new Promise<void>((resolve) => held.qmp.onClose(resolve));
  await expect(made).rejects.toMatchObject({ code: 'hostUnreachable' });
  await expect(pool.use(server.path, ping)).rejects.toMatchObject({
    code: 'hostUnreachable',
    message: expect.stringMatching(/has closed its QMP connections/),
  });
  expect(server.connections).toBe(1);
  await until(() => server.open === 0 && other.open === 0, 2000, 'every connection is closed');
});

test('it leaves no timer behind that would keep the process alive', async () => {
  const timers = (): number => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
  const before = timers();
  await pool.use(server.path, ping);
  expect(timers()).toBe(before + 1);
  pool.close();
  expect(timers()).toBe(before);
});
