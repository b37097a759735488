/**
 * Which migration is ours: libvirt carries no id of anybody's, so it stands in the metadata of the live domain, written
 * right before the migration begins and taken out at its end. It goes with the domain and outlives every daemon. A
 * migration that began at another time than the record says was started by somebody else. Pure.
 */
import { XMLParser } from 'fast-xml-parser';
import { z } from 'zod';
import { escapeXml } from './xml.ts';

/** One element for each address is what libvirt keeps. */
export const RECORD_URI = 'urn:hostevac:migration';
/** Of `virsh metadata`, which changes it. */
export const RECORD_ARGUMENTS = ['--uri', RECORD_URI, '--key', 'hostevac'] as const;

export interface MigrationRecord {
  readonly migrationId: string;
  readonly destination: string;
  /** Wall clock, ms. */
  readonly writtenAtMs: number;
  /** libvirt does not carry it to the destination. */
  readonly autostart: boolean;
  /** It may be switched to post-copy, whose limit libvirt keeps apart. */
  readonly postCopy: boolean;
}

const yes = z.enum(['yes', 'no']).transform((text) => text === 'yes');
const schema = z.object({
  migration: z.object({
    id: z.string().min(1),
    to: z.string().min(1),
    at: z.string().regex(/^\d+$/).transform(Number),
    autostart: yes,
    postcopy: yes,
  }),
});

export function recordText({ migrationId, destination, writtenAtMs, autostart, postCopy }: MigrationRecord): string {
  const word = (is: boolean): string => (is ? 'yes' : 'no');
  const at = `at="${Math.round(writtenAtMs)}" autostart="${word(autostart)}" postcopy="${word(postCopy)}"`;
  return `<migration id="${escapeXml(migrationId)}" to="${escapeXml(destination)}" ${at}/>`;
}

/** null: there is none, or what stands there is no record. */
export function recordIn(text: string): MigrationRecord | null {
  if (text.trim() === '') return null;
  const parser = new XMLParser({
    ignoreAttributes: false,
    attributeNamePrefix: '',
    parseAttributeValue: false,
    htmlEntities: true,
  });
  let read: unknown;
  try {
    read = parser.parse(text);
  } catch {
    return null;
  }
  const { success, data } = schema.safeParse(read);
  if (!success) return null;
  const { id, to, at, autostart, postcopy } = data.migration;
  return { migrationId: id, destination: to, writtenAtMs: at, autostart, postCopy: postcopy };
}

/** What two clocks, two questions and a daemon's start of a job take; a destination that is far away is connected to later. */
const BEFORE_MS = 5_000;
const AFTER_MS = 60_000;

/** Whether a migration that has run for `elapsedMs` is the one that the record was written for. */
export function isOf(record: MigrationRecord, nowMs: number, elapsedMs: number): boolean {
  const sinceMs = nowMs - elapsedMs - record.writtenAtMs;
  return sinceMs >= -BEFORE_MS && sinceMs <= AFTER_MS;
}
