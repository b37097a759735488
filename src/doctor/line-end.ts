/**
 * One end of a connection that doctor tries, as a process of its own so that it can be in another network namespace:
 *   listen <address> <first port> <last port> <measure ms>   takes connections on the first free port, counts what comes
 *   connect <address> <port> <timeout ms>                    says how it ended
 *   send <address> <port> <ms>                               sends as fast as it goes for so long
 * Each says what it found as JSON lines on stdout, and ends with its stdin: no end outlives the doctor.
 */
import { connect, createServer, type Socket } from 'node:net';

const [mode = '', address = '', ...numbers] = process.argv.slice(2);
const [one = 0, two = 0, three = 0] = numbers.map(Number);
/** The first part of a stream says nothing: TCP is still finding its rate, and buckets let a burst through. */
const WARM_UP = 0.3;
const CHUNK = Buffer.alloc(256 * 1_024);

const say = (line: object): void => void process.stdout.write(`${JSON.stringify(line)}\n`);
const codeOf = (error: Error): string => ('code' in error ? String(error.code) : error.message);
/** Cores used since the process began to measure. */
const coresSince = (cpu: NodeJS.CpuUsage, ms: number): number => {
  const { user, system } = process.cpuUsage(cpu);
  return (user + system) / 1_000 / Math.max(1, ms);
};

process.stdin
  .resume()
  .once('end', () => process.exit(0))
  .once('error', () => process.exit(0));

if (mode === 'listen') listen(one);
else if (mode === 'connect') tryToConnect();
else if (mode === 'send') send();
else throw new Error('usage: listen | connect | send');

function listen(port: number): void {
  const server = createServer((socket) => measure(socket));
  server.once('error', (error) => {
    if (codeOf(error) === 'EADDRINUSE' && port < two) listen(port + 1);
    else say({ event: 'failed', code: codeOf(error) });
  });
  server.listen({ host: address, port, exclusive: true }, () => say({ event: 'listening', port }));
}

function measure(socket: Socket): void {
  let beganMs: number | null = null;
  let counted = 0;
  let cpu = process.cpuUsage();
  let told = false;
  const tell = (): void => {
    if (told || beganMs === null) return;
    told = true;
    const ms = Math.min(three, performance.now() - beganMs);
    const windowMs = ms - WARM_UP * three;
    say({
      event: 'received',
      bytesPerSec: windowMs > 0 ? (1_000 * counted) / windowMs : null,
      cores: coresSince(cpu, ms),
    });
  };
  socket.on('data', (data: Buffer) => {
    const now = performance.now();
    if (beganMs === null) {
      beganMs = now;
      cpu = process.cpuUsage();
    }
    const atMs = now - beganMs;
    if (atMs > three) tell();
    else if (atMs >= WARM_UP * three) counted += data.length;
  });
  socket.on('error', tell).on('close', tell);
}

function tryToConnect(): void {
  const socket = connect({ host: address, port: one });
  const done = (line: object): void => {
    say(line);
    process.exit(0);
  };
  socket.setTimeout(two, () => done({ event: 'failed', code: 'ETIMEDOUT' }));
  socket.once('connect', () => done({ event: 'connected' }));
  socket.once('error', (error) => done({ event: 'failed', code: codeOf(error) }));
}

function send(): void {
  const socket = connect({ host: address, port: one });
  const cpu = process.cpuUsage();
  const began = performance.now();
  let over = false;
  const fill = (): void => {
    while (!over && socket.write(CHUNK));
  };
  socket.once('connect', () => {
    fill();
    // A little longer than is measured: the other end stops counting first.
    setTimeout(() => {
      over = true;
      say({ event: 'sent', cores: coresSince(cpu, performance.now() - began) });
      socket.destroy();
    }, two + 200);
  });
  socket.on('drain', fill);
  socket.on('error', (error) => {
    if (!over) say({ event: 'failed', code: codeOf(error) });
    over = true;
  });
}
