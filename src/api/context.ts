/** What the routes share. Whatever needs Redis is there once the server was given a backend; until then it is `unavailable`. */
import { HostevacError } from '../domain/errors.ts';
import type { Fleet } from '../domain/fleet.ts';
import type { TokenTable } from '../store/tokens.ts';
import type { Backend } from './backend.ts';
import type { Cached } from './cache.ts';
import type { Reader } from './reader.ts';
import type { Recorder } from './recorder.ts';
import type { FleetStreams } from './streams/fleet-streams.ts';
import type { StreamHub } from './streams/hub.ts';

/** Everything that lives as long as the backend does. */
export interface Live {
  readonly backend: Backend;
  readonly reader: Reader;
  readonly recorder: Recorder;
  readonly fleetStreams: FleetStreams;
  readonly tokens: Cached<TokenTable>;
}

export class ApiContext {
  readonly fleet: Fleet;
  /** Names of policies that a request may use. */
  readonly policies: readonly string[];
  readonly hub: StreamHub;
  #live: Live | null = null;

  constructor(given: { fleet: Fleet; policies: readonly string[]; hub: StreamHub }) {
    this.fleet = given.fleet;
    this.policies = given.policies;
    this.hub = given.hub;
  }

  get attached(): Live | null {
    return this.#live;
  }

  /** Throws `unavailable` while the server is starting. */
  live(): Live {
    if (this.#live === null) throw new HostevacError('unavailable', 'the server is starting; try again in a moment');
    return this.#live;
  }

  attach(live: Live): void {
    this.#live = live;
  }

  detach(): void {
    this.#live = null;
  }
}
