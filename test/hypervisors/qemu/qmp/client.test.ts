/** The client against peers that break: always a clear error, in bounded time and memory. */
import { chmodSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { connectQmp } from '../../../../src/hypervisors/qemu/qmp/client.ts';
import { MAX_IN_FLIGHT } from '../../../../src/hypervisors/qemu/qmp/connection.ts';
import type { Qmp, QmpEvent } from '../../../../src/hypervisors/qemu/qmp/qmp.ts';
import { until } from '../../../support/condition.ts';
import { answer, type Command, GREETING, onCommands, ScriptedServer } from './scripted-server.ts';

const MIB = 1024 * 1024;
const servers: ScriptedServer[] = [];
const clients: Qmp[] = [];

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  for (const server of servers.splice(0)) await server.close();
});

async function serve(server: Promise<ScriptedServer>): Promise<ScriptedServer> {
  servers.push(await server);
  return server;
}

async function connected(onCommand: (socket: Socket, command: Command) => void): Promise<Qmp> {
  const { path } = await serve(ScriptedServer.answering(onCommand));
  const client = await connectQmp(path);
  clients.push(client);
  return client;
}

const unreachable = (message: RegExp) => ({ code: 'hostUnreachable', message: expect.stringMatching(message) });

describe('a socket that is none', () => {
  test('each kind has its words', async () => {
    const server = await serve(ScriptedServer.start(() => undefined));
    await expect(connectQmp(`${server.path}.no`)).rejects.toMatchObject(unreachable(/no QMP socket at .*qmp.sock.no/));
    writeFileSync(`${server.path}.file`, '');
    chmodSync(`${server.path}.file`, 0o666);
    await expect(connectQmp(`${server.path}.file`)).rejects.toMatchObject(unreachable(/nobody listens at .*ended/));
    const long = `/tmp/${'x'.repeat(120)}`;
    await expect(connectQmp(long)).rejects.toMatchObject(unreachable(/has 125 bytes.*at most 107/));
  });
});

describe('the greeting', () => {
  async function greetedWith(script: (socket: Socket) => void, timeoutMs = 2000): Promise<unknown> {
    const server = await serve(ScriptedServer.start(script));
    const start = performance.now();
    try {
      clients.push(await connectQmp(server.path, { timeoutMs }));
      return null;
    } catch (error) {
      expect(performance.now() - start).toBeLessThan(timeoutMs + 5000);
      await until(() => server.open === 0, 2000, 'the client closes its end');
      return error;
    }
  }

  test('nothing at all: probably another client holds the socket', async () => {
    expect(await greetedWith(() => undefined, 150)).toMatchObject(
      unreachable(/no greeting came within \d+ ms.*another one probably holds the socket/),
    );
  });

  test.each<[string, (socket: Socket) => void, RegExp]>([
    ['garbage', (s) => s.write('\u0007SSH-2.0-OpenSSH\r\n'), /it said "\\u0007SSH-2.0-OpenSSH", which is no JSON/],
    ['binary garbage', (s) => s.write(Buffer.from([0xff, 0, 0x80, 10])), /which is no JSON/],
    ['pretty JSON', (s) => s.write('{\r\n    "QMP": {'), /pretty=on/],
    ['JSON, no object', (s) => s.write('[1]\n'), /it said "\[1\]", which is no JSON object/],
    ['JSON, not QMP', (s) => s.write('{"hello":1}\n'), /"\{\\"hello\\":1\}", which has not exactly one of QMP, event/],
    ['no version', (s) => s.write('{"QMP":{"capabilities":[]}}\n'), /QMP.version: /],
    ['half a line and the end', (s) => s.end('{"QMP": {"ver'), /closed .* in the middle of a line that begins "\{/],
    ['the end at once', (s) => s.end(), /it closed the connection$/],
    ['a greeting, then the end', (s) => s.end(GREETING), /it closed the connection.*qmp_capabilities was not answered/],
    ['two greetings', (s) => s.write(GREETING + GREETING), /a second greeting/],
    ['a greeting too long', (s) => s.write(`{"QMP":"${'x'.repeat(3 * MIB)}"}\n`), /more than 2097152 bytes.*"\{\\"QMP/],
  ])('%s', async (_name, script, words) => {
    expect(await greetedWith(script)).toMatchObject(unreachable(words));
  });

  test('half a line and then nothing: what came is named, and nobody else is blamed', async () => {
    const error = await greetedWith((socket) => socket.write("QEMU 10.0.2 monitor - type 'help'"), 150);
    expect(error).toMatchObject(unreachable(/half a line that begins "QEMU 10.0.2 monitor.*this is no QMP server/));
  });

  test('a server that will not negotiate', async () => {
    const refusing = (socket: Socket): void => {
      socket.write(GREETING);
      onCommands(socket, ({ id }) => {
        socket.write(`{"error":{"class":"CommandNotFound","desc":"no"},"id":"${id}"}\n`);
      });
    };
    expect(await greetedWith(refusing)).toMatchObject(unreachable(/refused qmp_capabilities: CommandNotFound: no/));
    expect(await greetedWith((s) => s.write(GREETING), 150)).toMatchObject(
      unreachable(/qmp_capabilities within 1\d\d/),
    );
  });

  test('what was meant for the client before us may come first', async () => {
    const script = (socket: Socket): void => {
      socket.write(`{"return":{},"id":1}\n{"event":"STOP","timestamp":{"seconds":1,"microseconds":0}}\n${GREETING}`);
      onCommands(socket, (command) => answer(socket, command, {}));
    };
    expect(await greetedWith(script)).toBeNull();
    expect(clients[0]?.greeting).toEqual({ version: { major: 10, minor: 0, micro: 2 }, capabilities: ['oob'] });
  });
});

describe('answers', () => {
  test('out of order, each reaches its command', async () => {
    const waiting: Command[] = [];
    const qmp = await connected((socket, command) => {
      waiting.push(command);
      if (waiting.length === 3) for (const one of waiting.reverse()) answer(socket, one, one.execute);
    });
    const asked = ['a', 'b', 'c'].map((name) => qmp.execute(name, z.string()));
    expect(await Promise.all(asked)).toEqual(['a', 'b', 'c']);
  });

  test("an error from QEMU names the command and QEMU's words, and the connection goes on", async () => {
    const qmp = await connected((socket, command) => {
      if (command.execute === 'good') answer(socket, command, 1);
      else socket.write(`{"error":{"class":"GenericError","desc":"not today"},"id":"${command.id}"}\n`);
    });
    await expect(qmp.execute('migrate', z.object({}))).rejects.toMatchObject({
      code: 'hypervisorRefused',
      message: expect.stringMatching(/refused migrate: GenericError: not today$/),
    });
    expect(await qmp.execute('good', z.number())).toBe(1);
  });

  test('to ids that nobody used, or to none, are passed over: a client that has gone asked them', async () => {
    const qmp = await connected((socket, command) => {
      socket.write(
        '{"return":"old","id":1}\n{"return":"old"}\n{"error":{"class":"GenericError","desc":"old"},"id":"x"}\n',
      );
      answer(socket, command, 'mine');
    });
    expect(await qmp.execute('query-name', z.string())).toBe('mine');
  });

  test('two connections never use the same id', async () => {
    const ids: string[] = [];
    for (let client = 0; client < 2; client += 1) {
      const qmp = await connected((socket, command) => {
        ids.push(command.id);
        answer(socket, command, {});
      });
      await qmp.execute('a', z.object({}));
      await qmp.execute('b', z.object({}));
    }
    expect(new Set(ids).size).toBe(4);
  });

  test.each<[string, (id: string) => string, RegExp]>([
    ['garbage', () => 'HTTP/1.1 400 Bad Request\r\n', /it said "HTTP\/1.1 400 Bad Request", which is no JSON/],
    ['without return or error', (id) => `{"id":"${id}"}\n`, /has not exactly one of/],
    [
      'with return and error',
      (id) => `{"return":1,"error":{"class":"","desc":""},"id":"${id}"}\n`,
      /not exactly one of/,
    ],
    ['an error without words', (id) => `{"error":"no","id":"${id}"}\n`, /no QMP server says this.*error: /],
    ['an event without a time', () => '{"event":"STOP"}\n', /no QMP server says this.*timestamp: /],
    ['of another shape', (id) => `{"return":{"status":7},"id":"${id}"}\n`, /answer to query-status is not.*status: /],
    ['brackets up to the limit', () => `${'['.repeat(MIB - 1)}${']'.repeat(MIB - 1)}\n`, /which is no JSON object/],
  ])('that no QMP server gives, %s: the connection is closed and everybody hears why', async (_name, line, words) => {
    const qmp = await connected((socket, command) => {
      if (command.execute === 'query-status') socket.write(line(command.id));
    });
    let closed = 0;
    qmp.onClose(() => {
      closed += 1;
    });
    const other = qmp.execute('other', z.unknown());
    const [asked, bystander] = await Promise.allSettled([
      qmp.execute('query-status', z.object({ status: z.string() })),
      other,
    ]);
    expect(asked).toMatchObject({ reason: unreachable(words) });
    expect(bystander).toMatchObject({ reason: unreachable(/other was not answered: it may or may not/) });
    expect({ closed, open: qmp.closed }).toEqual({ closed: 1, open: true });
    await expect(qmp.execute('later', z.unknown())).rejects.toMatchObject(unreachable(/later was not sent/));
  });

  test('a line of 100 MB is refused in bounded memory and time', async () => {
    let sentBytes = 0;
    const qmp = await connected((socket) => {
      const chunk = Buffer.alloc(65536, '[');
      const flood = (): void => {
        while (sentBytes < 100e6 && !socket.destroyed) {
          sentBytes += chunk.length;
          if (!socket.write(chunk)) break;
        }
      };
      socket.on('drain', flood);
      flood();
    });
    const before = process.memoryUsage();
    const start = performance.now();
    await expect(qmp.execute('query-status', z.unknown())).rejects.toMatchObject(
      unreachable(/a line of more than 2097152 bytes, which begins "\[\[/),
    );
    const after = process.memoryUsage();
    expect(after.rss - before.rss).toBeLessThan(40 * MIB);
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(16 * MIB);
    expect(performance.now() - start).toBeLessThan(2000);
    expect(sentBytes).toBeLessThan(10 * MIB);
  });

  test('integers beyond 2^53 are rounded: a schema of whole numbers refuses them, one of numbers takes what is left', async () => {
    const qmp = await connected((socket, { id }) => {
      socket.write(`{"return":{"bytes":9007199254740993},"id":"${id}"}\n`);
    });
    expect(await qmp.execute('a', z.object({ bytes: z.number() }))).toEqual({ bytes: 2 ** 53 });
    await expect(qmp.execute('b', z.object({ bytes: z.int() }))).rejects.toMatchObject(unreachable(/bytes: /));
  });

  test('none: the time limit names the command, what came instead, and closes the connection', async () => {
    const qmp = await connected((socket) => socket.write('{"return":{},"id":"else"}\n{"ret'));
    await expect(qmp.execute('migrate_cancel', z.object({}), {}, { timeoutMs: 100 })).rejects.toMatchObject(
      unreachable(
        /did not answer migrate_cancel within 100 ms \(but 1 answers came.*begins "\{\\"ret".*may or may not/,
      ),
    );
    expect(qmp.closed).toBe(true);
  });

  test('the peer goes in the middle of a command', async () => {
    const ended = await connected((socket, { id }) => socket.end(`{"id":"${id}","return":{"sta`));
    await expect(ended.execute('query-status', z.unknown())).rejects.toMatchObject(
      unreachable(/closed the connection in the middle of a line.*query-status was not answered/),
    );
  });

  test.each([
    ['before it has read the command', true, /the connection broke: .*ECONNRESET/],
    ['before the command is sent', false, /the connection broke: .*EPIPE/],
  ])('the peer goes %s', async (_name, sentFirst, words) => {
    const sockets: Socket[] = [];
    const qmp = await connected((socket, command) => {
      sockets.push(socket);
      answer(socket, command, {});
    });
    await qmp.execute('a', z.object({}));
    // In one tick, so that neither side has heard of the other's doing.
    if (!sentFirst) sockets[0]?.destroy();
    const asked = qmp.execute('query-status', z.unknown());
    sockets[0]?.destroy();
    await expect(asked).rejects.toMatchObject(unreachable(words));
    expect(qmp.closed).toBe(true);
  });
});

describe('commands', () => {
  test('more than the limit under way: that one is refused, the others go on', async () => {
    const waiting: [Socket, Command][] = [];
    const qmp = await connected((socket, command) => waiting.push([socket, command]));
    const asked = Array.from({ length: MAX_IN_FLIGHT }, () => qmp.execute('a', z.number()));
    await expect(qmp.execute('b', z.number())).rejects.toMatchObject({
      code: 'internal',
      message: expect.stringMatching(/b was not sent: 64 commands wait/),
    });
    await until(() => waiting.length === MAX_IN_FLIGHT, 2000, 'all commands come');
    for (const [socket, command] of waiting) answer(socket, command, 1);
    expect(await Promise.all(asked)).toEqual(Array(MAX_IN_FLIGHT).fill(1));
  });

  test('what the kernel does not take at once is never sent later', async () => {
    const { path } = await serve(
      ScriptedServer.start((socket) => {
        socket.write(GREETING);
        onCommands(socket, (command) => {
          answer(socket, command, {});
          socket.pause();
        });
      }),
    );
    const qmp = await connectQmp(path);
    clients.push(qmp);
    const large = { text: 'x'.repeat(150_000) };
    const asked = await Promise.allSettled([1, 2, 3, 4].map(() => qmp.execute('a', z.unknown(), large)));
    expect(asked.map(({ status }) => status)).toEqual(Array(4).fill('rejected'));
    expect(asked[0]).toMatchObject({ reason: unreachable(/does not read what is sent to it. a was not answered/) });
    expect(asked[3]).toMatchObject({ reason: unreachable(/does not read what is sent to it. a was not sent/) });
  });

  test('closing twice is closing once; what waits hears it, and so does who asks afterwards', async () => {
    const qmp = await connected(() => undefined);
    const asked = qmp.execute('a', z.unknown());
    let closed = 0;
    qmp.onClose(() => {
      closed += 1;
    });
    qmp.close();
    qmp.close();
    await expect(asked).rejects.toMatchObject(unreachable(/this process closed the connection. a was not answered/));
    await new Promise<void>((resolve) => qmp.onClose(resolve));
    expect(closed).toBe(1);
  });

  test('arguments that are no JSON are refused before anything is sent', async () => {
    const qmp = await connected((socket, command) => answer(socket, command, command.execute));
    await expect(qmp.execute('a', z.unknown(), { bytes: 1n })).rejects.toThrow(/BigInt/);
    expect(await qmp.execute('b', z.string())).toBe('b');
  });
});

describe('events', () => {
  const event = (name: string, data = '') =>
    `{"event":"${name}",${data}"timestamp":{"seconds":2,"microseconds":500}}\n`;

  test('unknown ones are passed on as they are, until somebody stops listening', async () => {
    const qmp = await connected((socket, command) => {
      socket.write(event(command.execute, '"data":{"x":[1]},"new-member":1,'));
      answer(socket, command, {});
    });
    const seen: QmpEvent[] = [];
    const stop = qmp.onEvent((one) => seen.push(one));
    await qmp.execute('NEVER_HEARD_OF', z.object({}));
    stop();
    await qmp.execute('AGAIN', z.object({}));
    expect(seen).toEqual([{ name: 'NEVER_HEARD_OF', atMs: 2000.5, data: { x: [1] } }]);
  });

  test('a storm of 100,000 delays answers but loses nothing and piles up nothing', async () => {
    const storm = event('STORM').repeat(1000);
    const qmp = await connected((socket, command) => {
      let left = 100;
      const blow = (): void => {
        while (left > 0) {
          left -= 1;
          if (!socket.write(storm)) return;
        }
        socket.off('drain', blow);
        answer(socket, command, {});
      };
      socket.on('drain', blow);
      blow();
    });
    let seen = 0;
    qmp.onEvent(() => {
      seen += 1;
    });
    const before = process.memoryUsage().arrayBuffers;
    await qmp.execute('query-status', z.object({}));
    expect(seen).toBe(100_000);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(40 * MIB);
  });

  test("a listener's fault ends up where uncaught errors do; other listeners and the connection go on", async () => {
    const qmp = await connected((socket, command) => {
      socket.write(event('STOP'));
      answer(socket, command, {});
    });
    qmp.onEvent(() => {
      throw new Error('listener fault');
    });
    let seen = 0;
    qmp.onEvent(() => {
      seen += 1;
    });
    const uncaught: unknown[] = [];
    const others = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', (error) => uncaught.push(error));
    try {
      await qmp.execute('a', z.object({}));
      await qmp.execute('b', z.object({}));
    } finally {
      process.removeAllListeners('uncaughtException');
      for (const other of others) process.on('uncaughtException', other);
    }
    expect(uncaught.map(String)).toEqual(['Error: listener fault', 'Error: listener fault']);
    expect(seen).toBe(2);
  });
});
