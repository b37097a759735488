/**
 * The peer: bare Fastify that answers the same paths with the same bytes, kept as text, and tells its followers the time as often
 * as ours tells them anything. Usage: bare.js <file with { answers: { path: { type, body } }, eventsPerSecond }>
 */
import { readFileSync } from 'node:fs';
import Fastify from 'fastify';
import { z } from 'zod';

const recorded = z
  .object({
    answers: z.record(z.string(), z.object({ type: z.string(), body: z.string() })),
    eventsPerSecond: z.number(),
    eventBytes: z.number(),
  })
  .parse(JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')));

const app = Fastify();
const followers = new Set<NodeJS.WritableStream>();
app.get('/*', (request, reply) => {
  if (request.headers.accept === 'text/event-stream') {
    reply.hijack();
    reply.raw.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
    followers.add(reply.raw);
    reply.raw.on('close', () => followers.delete(reply.raw));
    return;
  }
  const answer = recorded.answers[request.url];
  if (answer === undefined) return reply.code(404).send();
  return reply.type(answer.type).send(answer.body);
});
const filler = 'x'.repeat(recorded.eventBytes);
setInterval(() => {
  for (const one of followers) one.write(`event: tick\ndata: ${filler}\n\n`);
}, 1_000 / Math.max(0.1, recorded.eventsPerSecond));
process.stdout.write(`${await app.listen({ port: 0, host: '127.0.0.1' })}\n`);
