/** A fleet of its own and the built `hostevac up` for it, as a browser test meets it: a URL, and commands beside it. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, type Ended, userEnv } from '../cli/spawn.ts';

/** Five hosts: node-a has a calm guest and one that must be throttled, node-b one that takes long, node-e two calm ones. */
export function smallFleet(speed: number): string {
  const host = (name: string, vms: string): string => `
  - { name: ${name}, driver: simulated, migrationAddress: 192.0.2.1, egress: 200MiB/s, ingress: 200MiB/s, cpus: 64, memory: 128GiB, simulated: { vms: [${vms}] } }`;
  const vm = (name: string, rest: string): string => `{ name: ${name}, cpus: 2, cpuUse: 0.5, ${rest} }`;
  const calm = 'memory: 2GiB, dirtyRate: 8MiB/s, workingSet: 200MiB';
  const hot = 'memory: 2GiB, dirtyRate: 800MiB/s, workingSet: 600MiB';
  return `name: browser
hosts:${host('node-a', [vm('web-1', calm), vm('db-1', hot)].join(', '))}${host('node-b', vm('large-1', 'memory: 100GiB, dirtyRate: 100MiB/s, workingSet: 1GiB'))}${host('node-c', vm('pinned-1', calm))}${host('node-d', '')}${host('node-e', [vm('app-1', calm), vm('app-2', calm)].join(', '))}
rules: [{ pinned: [pinned-1] }]
simulation: { seed: 1, speed: ${speed} }
`;
}

export class Place {
  readonly #home: string;
  readonly #started: Command[] = [];
  #up: Command | null = null;
  url = '';

  private constructor(home: string) {
    this.#home = home;
  }

  /** `fleet`: a fleet file's text. */
  static async open(fleet: string): Promise<Place> {
    const place = new Place(await mkdtemp(join(tmpdir(), 'hostevac-browser-')));
    await writeFile(join(place.#home, 'fleet.yaml'), fleet);
    await place.up();
    return place;
  }

  /** Starts it; where it was before, at the same address. */
  async up(): Promise<void> {
    const port = this.url === '' ? '0' : new URL(this.url).port;
    const up = this.#start('up', '--port', port);
    this.#up = up;
    await up.says(/^http:\/\/127\.0\.0\.1:\d+\n/);
    this.url = up.stdout.split('\n')[0] ?? '';
  }

  /** As a machine that loses its power. */
  async down(): Promise<void> {
    await this.#up?.kill();
  }

  run(...args: string[]): Promise<Ended> {
    return this.#start(...args).ended;
  }

  async json(...args: string[]): Promise<unknown> {
    const ended = await this.run(...args, '-o', 'json');
    if (ended.code !== 0) throw new Error(`${args.join(' ')} ended with ${ended.code}: ${ended.stdout}${ended.stderr}`);
    return JSON.parse(ended.stdout);
  }

  async close(): Promise<void> {
    await Promise.all(this.#started.splice(0).map((command) => command.kill()));
    await rm(this.#home, { recursive: true, force: true });
  }

  #start(...args: string[]): Command {
    const command = new Command(args, { env: userEnv(this.#home), cwd: this.#home });
    this.#started.push(command);
    return command;
  }
}
