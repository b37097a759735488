/** What the routes share. Whatever needs Redis is there once the server was given a backend; until then it is `unavailable`. */
import { settledWithin } from '../clock/abortable-sleep.ts';
import { HostevacError } from '../domain/errors.ts';
import type { Fleet } from '../domain/fleet.ts';
import type { LoadedPolicies } from '../runtime/policy-modules.ts';
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
  /** Those that a request may use. */
  readonly policies: LoadedPolicies;
  readonly hub: StreamHub;
  readonly #changes = new Set<Promise<void>>();
  #live: Live | null = null;
  #ending = false;

  constructor(given: { fleet: Fleet; policies: LoadedPolicies; hub: StreamHub }) {
    this.fleet = given.fleet;
    this.policies = given.policies;
    this.hub = given.hub;
  }

  /** What a body may say. */
  get policyNames(): readonly string[] {
    return [...this.policies.catalogue.keys()];
  }

  get attached(): Live | null {
    return this.#live;
  }

  /** Throws `unavailable` while the server is starting. */
  live(): Live {
    if (this.#live === null) throw new HostevacError('unavailable', 'the server is starting; try again in a moment');
    return this.#live;
  }

  /** For a request that comes now. Throws `unavailable`. */
  enter(): Live {
    if (this.#ending) throw new HostevacError('unavailable', 'the server is ending; try again in a moment');
    return this.live();
  }

  /** A request that changes something is carried out from now on, until what is given back is called. */
  begin(): () => void {
    let end: () => void = () => undefined;
    const change = new Promise<void>((resolve) => {
      end = resolve;
    });
    this.#changes.add(change);
    return () => {
      end();
      this.#changes.delete(change);
    };
  }

  attach(live: Live): void {
    this.#live = live;
    this.#ending = false;
  }

  /** Lets nobody in any more, and resolves when every change that had begun was answered, or after so long (real ms). */
  async drain(limitMs: number): Promise<void> {
    this.#ending = true;
    await settledWithin(Promise.all(this.#changes), limitMs);
  }

  detach(): void {
    this.#live = null;
  }
}
