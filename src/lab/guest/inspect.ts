/**
 * A lab guest seen from outside, over QMP: how far it has come, and whether every page of its memory is what it must be.
 * What a page must be is layout.ts's.
 */
import { randomUUID } from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { HostevacError } from '../../domain/errors.ts';
import type { Qmp } from '../../hypervisors/qemu/qmp/qmp.ts';
import {
  ADDRESS_WORDS,
  BASE,
  COUNT_WORDS,
  type GuestParameters,
  type GuestState,
  PAGE_BYTES,
  PARAMETER_BYTES,
  PARAMETERS,
  parseParameters,
  parseState,
  SALT,
  SECTOR,
  STATE,
  STATE_BYTES,
} from './layout.ts';

/** What is read at once: bounds both the time for one command and the room on disk. */
const CHUNK_BYTES = 64 * 2 ** 20;
const SAVE_TIMEOUT_MS = 60_000;
/** Enough to see a pattern in what is wrong. */
const MOST_FAULTS_TOLD = 20;

const statusSchema = z.looseObject({ running: z.boolean(), status: z.string() });
const emptySchema = z.looseObject({});

export interface MemoryReport {
  /** The guest's own count of its writes. */
  readonly progress: number;
  /** The sum of the counts in its pages: `progress`, or one more. */
  readonly writes: number;
  readonly pages: number;
  readonly wrongPages: number;
  /** The first of what is wrong, one sentence each; empty: the memory is whole. */
  readonly faults: readonly string[];
}

/** What is needed of a monitor, however it is reached. */
export type Monitor = Pick<Qmp, 'execute' | 'closed'>;

/** What the guest says of itself now, without stopping it. Throws what QMP throws. */
export async function readState(qmp: Monitor): Promise<GuestState> {
  return parseState(await readWords(qmp, STATE, STATE_BYTES));
}

/** Undefined when no guest of ours runs in it (yet). */
export async function readParameters(qmp: Monitor): Promise<GuestParameters | undefined> {
  return parseParameters(await readWords(qmp, SECTOR + PARAMETERS, PARAMETER_BYTES));
}

async function readWords(qmp: Monitor, address: number, bytes: number): Promise<Buffer> {
  const command = `xp /${bytes / 4}wx 0x${address.toString(16)}`;
  const text = await qmp.execute('human-monitor-command', z.string(), { 'command-line': command });
  // `0000000000009000: 0x00000001 0x00000000 ...`
  const words = text.split('\n').flatMap((line) => line.slice(line.indexOf(':') + 1).match(/0x[0-9a-f]{8}\b/g) ?? []);
  if (words.length !== bytes / 4) {
    throw new HostevacError('hypervisorRefused', `"${command}" gave ${words.length} words: ${text.slice(0, 200)}`);
  }
  const block = Buffer.alloc(bytes);
  words.forEach((word, index) => {
    block.writeUInt32LE(Number(word), 4 * index);
  });
  return block;
}

/**
 * Stops the guest if it runs, reads every page that it fills, and lets it go on: about a second for each GiB. QEMU writes
 * what it reads to `scratch`, a directory that both may use. Not while it is being migrated: that would be a part of its
 * downtime. Throws `hypervisorRefused` when there is no booted guest of ours, and what QMP throws.
 */
export async function checkMemory(qmp: Monitor, scratch: string): Promise<MemoryReport> {
  const { running, status } = await qmp.execute('query-status', statusSchema);
  if (status === 'inmigrate') {
    throw new HostevacError('hypervisorRefused', 'its memory is still arriving: it can be checked when the guest runs');
  }
  if (running) await qmp.execute('stop', emptySchema);
  try {
    const parameters = await readParameters(qmp);
    const state = await readState(qmp);
    if (parameters === undefined || !state.booted) {
      throw new HostevacError('hypervisorRefused', 'there is no booted guest of the lab in this memory');
    }
    return await checkPages(qmp, scratch, parameters.touchedBytes, state.progress);
  } finally {
    if (running && !qmp.closed) await qmp.execute('cont', emptySchema);
  }
}

async function checkPages(
  qmp: Monitor,
  scratch: string,
  touchedBytes: number,
  progress: number,
): Promise<MemoryReport> {
  const file = join(scratch, `memory-${randomUUID()}`);
  const faults: string[] = [];
  let wrongPages = 0;
  let writes = 0;
  /** A page that has its first count already, and not yet its last one. */
  let halfWritten = 0;
  try {
    for (let from = BASE; from < BASE + touchedBytes; from += CHUNK_BYTES) {
      const size = Math.min(CHUNK_BYTES, BASE + touchedBytes - from);
      await qmp.execute('pmemsave', emptySchema, { val: from, size, filename: file }, { timeoutMs: SAVE_TIMEOUT_MS });
      const chunk = await readFile(file);
      for (let at = 0; at < size; at += PAGE_BYTES) {
        const page = readPage(chunk, at, from + at);
        writes += page.first;
        if (page.first === page.last + 1) halfWritten += 1;
        if (page.fault === null) continue;
        wrongPages += 1;
        if (faults.length < MOST_FAULTS_TOLD) faults.push(page.fault);
      }
    }
  } finally {
    await rm(file, { force: true });
  }
  if (halfWritten > 1) faults.push(`${halfWritten} pages have been written by halves, where there can be one`);
  if (writes !== progress && writes !== progress + 1) {
    faults.push(`the pages count ${writes} writes, the guest ${progress}: ${progress - writes} are lost`);
  }
  return { progress, writes, pages: touchedBytes / PAGE_BYTES, wrongPages, faults };
}

function readPage(chunk: Buffer, at: number, address: number): { first: number; last: number; fault: string | null } {
  const [firstWord, lastWord] = COUNT_WORDS;
  const first = chunk.readUInt32LE(at + firstWord);
  const last = chunk.readUInt32LE(at + lastWord);
  const where = `page 0x${address.toString(16)}`;
  for (const offset of ADDRESS_WORDS) {
    const expected = ((address + offset) ^ SALT) >>> 0;
    const found = chunk.readUInt32LE(at + offset);
    if (found === expected) continue;
    return { first, last, fault: `${where} has 0x${found.toString(16)} at ${offset}, not 0x${expected.toString(16)}` };
  }
  const torn = first !== last && first !== last + 1;
  return { first, last, fault: torn ? `${where} counts ${first} writes at its start and ${last} at its end` : null };
}
