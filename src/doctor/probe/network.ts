/** Tries names, ports and bandwidth, from here or from the network namespace that a host has. */
import { lookup } from 'node:dns/promises';
import { connect } from 'node:net';
import { settledWithin } from '../../clock/abortable-sleep.ts';
import type { Connecting } from '../judge/network.ts';
import { LineEnd, type Where } from './line.ts';

const LOOKUP_MS = 4_000;
const CONNECT_MS = 2_000;
/** Node takes its time to start on a busy machine. */
const START_MS = 8_000;
/** What one stream is measured for. */
export const MEASURE_MS = 2_500;

export async function resolveName(name: string): Promise<{ addresses: string[] | null; why: string }> {
  try {
    const found = await settledWithin(lookup(name, { all: true }), LOOKUP_MS);
    if (found === undefined) return { addresses: null, why: `no answer within ${LOOKUP_MS / 1_000}s` };
    return { addresses: found.value.map(({ address }) => address), why: '' };
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    return { addresses: null, why: code === 'ENOTFOUND' ? 'nobody knows it (ENOTFOUND)' : code };
  }
}

export function tryPort(where: Where, address: string, port: number, signal: AbortSignal): Promise<Connecting> {
  return where === null ? tryFromHere(address, port) : tryFrom(where, address, port, signal);
}

function tryFromHere(host: string, port: number): Promise<Connecting> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const done = (outcome: Connecting): void => {
      socket.destroy();
      resolve(outcome);
    };
    socket.setTimeout(CONNECT_MS, () => done('ETIMEDOUT'));
    socket.once('connect', () => done('connected'));
    socket.once('error', (error) => done('code' in error ? String(error.code) : error.message));
  });
}

async function tryFrom(where: Where, address: string, port: number, signal: AbortSignal): Promise<Connecting> {
  const end = new LineEnd(where, ['connect', address, port, CONNECT_MS], signal);
  try {
    const answer = await end.says(['connected'], START_MS + CONNECT_MS);
    return answer.event === 'failed' ? answer.code : 'connected';
  } finally {
    await end.close();
  }
}

export interface Range {
  readonly first: number;
  readonly last: number;
}

/** A listener of ours at a host's migration address; `failure` where it could not be opened. */
export async function openListener(
  where: Where,
  address: string,
  { first, last }: Range,
  signal: AbortSignal,
): Promise<{ readonly end: LineEnd; readonly port: number } | { readonly failure: string }> {
  const end = new LineEnd(where, ['listen', address, first, last, MEASURE_MS], signal);
  const answer = await end.says(['listening'], START_MS);
  if (answer.event === 'listening') return { end, port: answer.port };
  await end.close();
  return { failure: answer.event === 'failed' ? answer.code : 'it does not listen' };
}

export interface Measured {
  readonly bytesPerSec: number | null;
  readonly why: string;
  readonly busiestEnd: number;
}

/** One stream to a listener of ours. */
export async function measureBandwidth(
  from: Where,
  listener: { readonly end: LineEnd; readonly port: number },
  address: string,
  signal: AbortSignal,
): Promise<Measured> {
  const sender = new LineEnd(from, ['send', address, listener.port, MEASURE_MS], signal);
  try {
    const [sent, received] = await Promise.all([
      sender.says(['sent'], START_MS + 2 * MEASURE_MS),
      listener.end.says(['received'], START_MS + 2 * MEASURE_MS),
    ]);
    if (sent.event !== 'sent' || received.event !== 'received' || received.bytesPerSec === null) {
      const code =
        sent.event === 'failed' ? sent.code : received.event === 'failed' ? received.code : 'nothing arrived';
      return { bytesPerSec: null, why: `the stream did not last: ${code}`, busiestEnd: 0 };
    }
    return { bytesPerSec: received.bytesPerSec, why: '', busiestEnd: Math.max(sent.cores, received.cores) };
  } finally {
    await sender.close();
  }
}
