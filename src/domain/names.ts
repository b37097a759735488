/** Names of hosts, VMs and operations: what is allowed, and how a name becomes safe inside a key, queue or path. */
import { z } from 'zod';

/**
 * What would break a terminal or a log line (C0, C1, DEL, the Unicode line ends), and half surrogate pairs: those have no
 * bytes of their own, so two of them would encode to the same key.
 */
const UNPRINTABLE = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/u;

/** Anything a hypervisor accepts as a name, but nothing unprintable. */
export const entityName = z
  .string({ error: 'expected a name' })
  .min(1, { error: 'expected a name of 1 to 255 bytes' })
  .refine((name) => Buffer.byteLength(name) <= 255 && !UNPRINTABLE.test(name), {
    error: 'expected a name of 1 to 255 bytes without control characters',
  });

/**
 * A name as it may stand in a BullMQ queue name or job id (no `:`, never an integer) and in a file name: letters, digits,
 * `_`, `-` and `.` stay (a leading `.` does not, nor does the first digit of a number), every other byte becomes `%XX`.
 * Injective on entity names, so two names never collide. Up to three times as long as the name.
 */
export function encodeName(name: string): string {
  const number = /^-?\d+$/.test(name);
  let out = '';
  for (const [index, byte] of [...Buffer.from(name)].entries()) {
    const char = String.fromCharCode(byte);
    const plain = index === 0 ? /[A-Za-z0-9_-]/.test(char) && !number : /[A-Za-z0-9_.-]/.test(char);
    out += plain ? char : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return out;
}
