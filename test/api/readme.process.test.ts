/** What the README says to paste, pasted: its fleet, `up`, its `curl`s; and the end is told by the stream and by a webhook. */
import { type ChildProcess, spawn } from 'node:child_process';
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { z } from 'zod';
import { Command, userEnv } from '../cli/spawn.ts';
import { until } from '../support/condition.ts';
import { Receiver } from '../webhooks/receiver.ts';

const SECRET = 'hunter2hunter2hunter2';
const root = (path: string): URL => new URL(`../../${path}`, import.meta.url);
let home = '';
let receiver: Receiver;
let up: Command | undefined;
const children: ChildProcess[] = [];

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'hostevac-readme-'));
  receiver = await Receiver.start(SECRET);
});
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  await up?.kill();
  await receiver.close();
  await rm(home, { recursive: true, force: true });
});

/** The lines of the section that begin with `curl`. The default port may be another test's: that is all that is changed. */
async function curls(port: string): Promise<string[]> {
  const readme = await readFile(root('README.md'), 'utf8');
  const section = /^## Over HTTP$(.*?)^## /ms.exec(readme)?.[1] ?? '';
  return [...section.matchAll(/^curl .*$/gm)].map(([line]) => line.replaceAll(':7460', `:${port}`));
}

function shell(line: string): { readonly child: ChildProcess; readonly out: () => string } {
  const child = spawn('sh', ['-c', line], { stdio: ['ignore', 'pipe', 'inherit'], env: { PATH: process.env['PATH'] } });
  children.push(child);
  let text = '';
  child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  return { child, out: () => text };
}

it('an evacuation started by curl ends, and its end arrives by the stream and by the webhook', {
  timeout: 120_000,
}, async () => {
  await copyFile(root('docs/examples/fleet.yaml'), join(home, 'fleet.yaml'));
  const fleet = await readFile(join(home, 'fleet.yaml'), 'utf8');
  const webhook = `webhooks:\n  - { name: pager, url: '${receiver.url}', secretFile: pager.secret, events: [operation.*] }\n`;
  // Five times its speed: nobody has to watch.
  await writeFile(join(home, 'fleet.yaml'), `${fleet.replace('speed: 4 ', 'speed: 20 ')}\n${webhook}`);
  await writeFile(join(home, 'pager.secret'), `${SECRET}\n`);
  up = new Command(['up', '--port', '0'], { env: userEnv(home), cwd: home });
  await up.says(/^http:\/\/\S+\n/);
  const lines = await curls(new URL(up.stdout.trim()).port);
  expect(lines).toHaveLength(2);
  const [start = '', follow = ''] = lines;
  const stream = shell(follow);
  await until(() => stream.out() !== '', 20_000, 'the stream is open');
  const asked = shell(start);
  await until(() => asked.child.exitCode !== null, 20_000, 'an answer');
  const { id } = z.object({ id: z.string(), acceptance: z.literal('created') }).parse(JSON.parse(asked.out()));
  await until(() => stream.out().includes('event: operation.done\n'), 90_000, 'the end by the stream');
  const told = /^event: operation\.done\ndata: (.*)$/m.exec(stream.out())?.[1] ?? '{}';
  expect(JSON.parse(told)).toMatchObject({ operationId: id, kind: 'operation.done' });
  await until(() => receiver.taken.some(({ kind }) => kind === 'operation.done'), 20_000, 'the end by the webhook');
  expect(receiver.taken.every(({ signed }) => signed)).toBe(true);
});
