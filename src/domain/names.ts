/** Names of hosts, VMs and operations: what is allowed, and how a name becomes safe inside a key, queue or path. */
import { z } from 'zod';

/** Anything a hypervisor accepts as a name, but no control characters: those would break a terminal or a log line. */
export const entityName = z
  .string({ error: 'expected a name' })
  .min(1, { error: 'expected a name of 1 to 255 bytes' })
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this refuses
  .refine((name) => Buffer.byteLength(name) <= 255 && !/[\u0000-\u001f\u007f]/.test(name), {
    error: 'expected a name of 1 to 255 bytes without control characters',
  });

/**
 * A name as it may stand in a BullMQ queue name or job id (no `:`, never an integer) and in a file name: letters, digits, `_`, `-`
 * and `.` stay (a leading `.` does not), every other byte becomes `%XX`. Injective, so two names never collide.
 */
export function encodeName(name: string): string {
  let out = '';
  for (const [index, byte] of [...Buffer.from(name)].entries()) {
    const char = String.fromCharCode(byte);
    const plain = /[A-Za-z0-9_-]/.test(char) || (char === '.' && index > 0);
    out += plain ? char : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return out;
}
