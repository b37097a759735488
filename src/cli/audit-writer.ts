/** Writes what a command did to the fleet's audit log, as the user of the operating system. Opened at the first word. */
import { userInfo } from 'node:os';
import type { Redis } from 'ioredis';
import type { Fleet } from '../domain/fleet.ts';
import { openRedis, type RedisTarget } from '../runtime/redis-connection.ts';
import { fleetPrefix } from '../runtime/stores.ts';
import { AuditLog } from '../store/audit-log.ts';
import type { AuditWord } from './audited-producer.ts';

export interface AuditWriter {
  /** Never throws: what was done was done; `remark` tells of what could not be written down. */
  write(word: AuditWord): Promise<void>;
  close(): void;
}

export function auditWriter(target: RedisTarget, fleet: Fleet | null, remark: (line: string) => void): AuditWriter {
  let opened: Promise<Redis> | null = null;
  return {
    async write(word) {
      try {
        opened ??= openRedis(target, 'producer');
        const log = new AuditLog(await opened, fleetPrefix(fleet?.name ?? 'default'));
        await log.append({ atMs: Date.now(), actor: userName(), role: 'admin', via: 'cli', ...word });
      } catch (error) {
        remark(`warning: not written to the audit log: ${error instanceof Error ? error.message : String(error)}`);
      }
    },
    close() {
      opened?.then(
        (redis) => redis.disconnect(),
        () => undefined,
      );
    },
  };
}

/** In a container a user may have no name. */
export function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid ${process.getuid?.() ?? '?'}`;
  }
}
