/** A request made through the library of the build while nothing but Redis runs. */
import { realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, expect, it } from 'vitest';
import type { createProducer } from '../../src/queue/create-producer.ts';
import { connectionSource } from '../../src/runtime/redis-connection.ts';
import { PROGRAM, userEnv } from '../cli/spawn.ts';
import { expectCleanEnd } from './aftermath.ts';
import { fleetText, Place } from './place.ts';

const FLEET = fleetText({
  speed: 20,
  bandwidth: '1GiB/s',
  memory: '64GiB',
  hosts: {
    'node-a': [
      { name: 'vm-1', memory: '4GiB' },
      { name: 'vm-2', memory: '4GiB' },
    ],
    'node-b': [],
    'node-c': [],
  },
});

let place: Place;
afterEach(() => place.close());

interface Library {
  readonly createProducer: typeof createProducer;
}

it.each([[['up', '--port', '0']], [['worker', '--hosts', 'node-a,node-b,node-c', '--operations']]])(
  'is kept, also when Redis ends in between, and carried out when %j starts',
  async (args) => {
    place = new Place(FLEET);
    const library: Library = await import(pathToFileURL(join(dirname(realpathSync(PROGRAM)), '..', 'index.js')).href);
    const source = await connectionSource(userEnv(place.home), { stateDir: place.home, log: () => undefined });
    let id = '';
    try {
      const producer = await library.createProducer({ connection: source.target.options, fleetName: 'chaos' });
      const handle = await producer.evacuateNode({ host: 'node-a' });
      id = handle.id;
      expect(await producer.hasWorkers()).toBe(false);
      expect((await handle.record()).state).toBe('queued');
      await producer.close();
    } finally {
      await source.close();
    }

    const worker = place.start(...args);
    await worker.says('\n');
    const ended = await place.run('watch', id, '--timeout', '60s');
    expect(ended.code, ended.stdout + ended.stderr).toBe(0);
    const eyes = await place.eyes();
    await expectCleanEnd(eyes, id);
    expect(Object.keys((await eyes.view()).hosts['node-a']?.copies ?? {})).toEqual([]);
    await eyes.close();
  },
  90_000,
);
