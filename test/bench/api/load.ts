/**
 * The other end of `npm run bench:api`: followers that read streams and a steady rate of reads beside them, from one process.
 * Usage: load.js <orders as JSON>; prints what it saw as one line of JSON.
 */
import { Agent, type ClientRequest, get } from 'node:http';
import { ordersSchema } from './orders.ts';

const orders = ordersSchema.parse(JSON.parse(process.argv[2] ?? ''));
const seen = {
  latencies: [] as number[],
  answers: {} as Record<string, number>,
  slowest: {} as Record<string, number>,
};
let [events, lostStreams, latestSendMs] = [0, 0, 0];
let isOver = false;

interface Follower {
  readonly request: ClientRequest;
  /** By us: not a loss. */
  isCut: boolean;
}

function follow(path: string): Follower {
  const request = get(`${orders.url}${path}`, { agent: false, headers: { accept: 'text/event-stream' } });
  const follower: Follower = { request, isCut: false };
  const over = (): void => {
    if (!isOver && !follower.isCut) lostStreams += 1;
    follower.isCut = true;
  };
  request.on('response', (response) => {
    response.setEncoding('utf8').on('data', (text: string) => {
      for (let at = text.indexOf('\ndata:'); at >= 0; at = text.indexOf('\ndata:', at + 1)) events += 1;
    });
    if (response.statusCode !== 200) over();
    response.on('error', over).on('close', over);
  });
  request.on('error', over);
  return follower;
}

const agent = new Agent({ keepAlive: true, maxSockets: 200 });

function read(path: string): Promise<void> {
  const sentAt = performance.now();
  return new Promise((resolve) => {
    const done = (answer: string): void => {
      const ms = performance.now() - sentAt;
      seen.latencies.push(ms);
      seen.answers[answer] = (seen.answers[answer] ?? 0) + 1;
      const kind = path.replace(/\?.*/, '?').replace(/(hosts|vms|operations)\/[^/?]+/, '$1/:id');
      seen.slowest[kind] = Math.max(seen.slowest[kind] ?? 0, ms);
      resolve();
    };
    get(`${orders.url}${path}`, { agent }, (response) => {
      response.on('data', () => undefined);
      response.once('end', () => done(String(response.statusCode)));
      response.once('error', (error) => done(error.message));
    }).once('error', (error) => done(error.message));
  });
}

const followers = orders.streams.map(follow);
await new Promise((resolve) => setTimeout(resolve, 2_000));

const begun = performance.now();
const pending: Promise<void>[] = [];
const wanted = orders.seconds * orders.perSecond;
for (let sent = 0; sent < wanted; ) {
  const elapsed = performance.now() - begun;
  for (; sent < wanted && (sent * 1_000) / orders.perSecond <= elapsed; sent += 1) {
    latestSendMs = Math.max(latestSendMs, elapsed - (sent * 1_000) / orders.perSecond);
    pending.push(read(orders.paths[sent % orders.paths.length] ?? '/'));
  }
  if (elapsed > (orders.seconds * 1_000) / 2) for (const one of followers.slice(0, orders.cut)) cutOff(one);
  await new Promise((resolve) => setTimeout(resolve, 5));
}
await Promise.all(pending);
isOver = true;
for (const one of followers) one.request.destroy();
agent.destroy();
const latencies = seen.latencies.map((ms) => Math.round(ms * 100) / 100).sort((a, b) => a - b);
process.stdout.write(`${JSON.stringify({ ...seen, latencies, events, lostStreams, latestSendMs })}\n`);

function cutOff(follower: Follower): void {
  follower.isCut = true;
  follower.request.destroy();
}
