/** Hosts that do not answer: what is asked of them fails while they are not to be heard. */
import { z } from 'zod';
import type { Hypervisor } from '../../src/hypervisors/hypervisor.ts';
import type { Throttle } from '../../src/throttling/throttle.ts';

/** Throws while nothing is heard of the host. */
export type Hearing = (host: string) => void;

export function silentHypervisor(real: Hypervisor, hearing: Hearing): Hypervisor {
  return new Proxy(real, {
    get: (target, key) => {
      const value: unknown = Reflect.get(target, key, target);
      if (typeof value !== 'function') return value;
      if (key === 'statusChange') return value.bind(target);
      return async (...args: unknown[]): Promise<unknown> => {
        hearing(hostAsked(key, args));
        return Reflect.apply(value, target, args);
      };
    },
  });
}

export function silentThrottle(real: Throttle, hearing: Hearing): Throttle {
  return {
    unavailable: async (host) => {
      hearing(host);
      return real.unavailable(host);
    },
    set: async (fence, target) => {
      hearing(target.host);
      return real.set(fence, target);
    },
    release: async (fence, target) => {
      hearing(target.host);
      return real.release(fence, target);
    },
    guestCpu: async (target) => {
      hearing(target.host);
      return real.guestCpu(target);
    },
  };
}

/** `look(host, ...)`, `setBandwidth(fence, source, ...)`, `startMigration(fence, target)`. */
function hostAsked(method: string | symbol, [first, second]: readonly unknown[]): string {
  if (typeof first === 'string') return first;
  if (typeof second === 'string') return second;
  const { source, destination } = z.object({ source: z.string(), destination: z.string() }).parse(second);
  return method === 'prepareDestination' ? destination : source;
}
