/**
 * What a QMP server may say, as zod schemas: one line in, one message out, or why it is none.
 * Source: QEMU's docs/interop/qmp-spec.rst. Members that we do not know are allowed, as the specification asks.
 */
import { z } from 'zod';
import type { QmpEvent, QmpGreeting } from './qmp.ts';

export type QmpMessage =
  | { readonly kind: 'greeting'; readonly greeting: QmpGreeting }
  | { readonly kind: 'event'; readonly event: QmpEvent }
  | { readonly kind: 'return'; readonly id: unknown; readonly value: unknown }
  | { readonly kind: 'error'; readonly id: unknown; readonly errorClass: string; readonly description: string };

/** A line that no QMP server says, and why. */
export interface QmpFault {
  readonly kind: 'fault';
  readonly fault: string;
}

const versionNumber = z.int().nonnegative();
const greeting = z
  .object({
    QMP: z.object({
      version: z.object({ qemu: z.object({ major: versionNumber, minor: versionNumber, micro: versionNumber }) }),
      capabilities: z.array(z.string()),
    }),
  })
  .transform(({ QMP }): QmpMessage => {
    return { kind: 'greeting', greeting: { version: QMP.version.qemu, capabilities: QMP.capabilities } };
  });

const event = z
  .object({
    event: z.string().min(1),
    // Both are -1 when QEMU could not read its clock.
    timestamp: z.object({ seconds: z.int(), microseconds: z.int() }),
    data: z.record(z.string(), z.unknown()).default({}),
  })
  .transform(({ event: name, timestamp, data }): QmpMessage => {
    return { kind: 'event', event: { name, atMs: timestamp.seconds * 1000 + timestamp.microseconds / 1000, data } };
  });

const answer = z
  .object({ return: z.unknown(), id: z.unknown().optional() })
  .transform((message): QmpMessage => ({ kind: 'return', id: message.id, value: message.return }));

const refusal = z
  .object({ error: z.object({ class: z.string(), desc: z.string() }), id: z.unknown().optional() })
  .transform((message): QmpMessage => {
    return { kind: 'error', id: message.id, errorClass: message.error.class, description: message.error.desc };
  });

/** The member that says what a message is; every message has exactly one of them. */
const KINDS = { QMP: greeting, event, return: answer, error: refusal } as const;
const KIND_NAMES = ['QMP', 'event', 'return', 'error'] as const;
const jsonObject = z.record(z.string(), z.unknown());

/**
 * Integers beyond 2^53 come out as the nearest double, as JSON.parse has it (Node 20 gives no way to see the digits):
 * `z.int()` then refuses the answer, `z.number()` takes the rounded value. QEMU counts bytes in 64 bits, but none that
 * we read come near.
 */
export function parseMessage(line: string): QmpMessage | QmpFault {
  const came = `it said ${quoted(line)}`;
  let json: unknown;
  try {
    json = JSON.parse(line);
  } catch {
    const hint = line.trim() === '{' ? ' (a monitor with pretty=on? it must be off)' : '';
    return { kind: 'fault', fault: `${came}, which is no JSON on one line${hint}` };
  }
  const object = jsonObject.safeParse(json);
  if (!object.success) return { kind: 'fault', fault: `${came}, which is no JSON object` };
  const [kind, ...others] = KIND_NAMES.filter((name) => Object.hasOwn(object.data, name));
  if (kind === undefined || others.length > 0) {
    return { kind: 'fault', fault: `${came}, which has not exactly one of ${KIND_NAMES.join(', ')}` };
  }
  const message = KINDS[kind].safeParse(json);
  if (!message.success) return { kind: 'fault', fault: `${came}: ${issuesOf(message.error)}` };
  return message.data;
}

/** What came, for a message to people: cut, in quotes, control characters escaped. */
export function quoted(text: string): string {
  const longest = 160;
  return text.length <= longest ? JSON.stringify(text) : `${JSON.stringify(text.slice(0, longest))}...`;
}

export function issuesOf(error: z.ZodError): string {
  return error.issues
    .slice(0, 3)
    .map(({ path, message }) => `${path.map(String).join('.') || 'the value'}: ${message}`)
    .join('; ');
}
