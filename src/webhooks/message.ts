/** What is posted: the event as JSON, an id by which a receiver knows it again, and a signature over time and body. */
import { createHash, createHmac } from 'node:crypto';
import type { OperationEvent } from '../domain/operation.ts';
import { NOTICE_EVENT } from '../domain/webhook.ts';

export interface Message {
  readonly id: string;
  readonly body: string;
}

/**
 * The same event has the same id whoever sends it and how often, also where it stands in the stream twice (an append
 * whose reply got lost). A move has one notice.
 */
export function eventId(event: OperationEvent): string {
  const { operationId, atMs, kind, vm, moveId, message } = event;
  const what = kind === NOTICE_EVENT ? [kind, moveId] : [operationId, atMs, kind, vm, moveId, message];
  return `evt_${createHash('sha256').update(JSON.stringify(what)).digest('hex').slice(0, 32)}`;
}

export function messageOf(fleet: string, event: OperationEvent): Message {
  const { operationId: operation, atMs, kind, vm, moveId: move, message, notice } = event;
  const id = eventId(event);
  return { id, body: JSON.stringify({ id, kind, fleet, atMs, operation, vm, move, message, ...notice }) };
}

/** `t=<unix seconds>,v1=<hex of HMAC-SHA256 over "<t>.<body>">`: a receiver refuses what is old, and what was not signed by us. */
export function signature(secret: string, body: string, atSeconds: number): string {
  return `t=${atSeconds},v1=${createHmac('sha256', secret).update(`${atSeconds}.${body}`).digest('hex')}`;
}
