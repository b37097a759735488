/** The options of `lab up` as texts, and what they ask for; every fault at once. */
import { resolve } from 'node:path';
import { z } from 'zod';
import { badInput, printValue, problemsOf } from '../domain/problems.ts';
import { nearest } from '../domain/suggest.ts';
import { rateText } from '../domain/units.ts';
import { fleetFileFault } from '../lab/fleet-file.ts';
import { LAB_DRIVERS, type LabDriver, type LabOptions, MOST_GUESTS, MOST_HOSTS } from '../lab/plan.ts';
import { PROFILE_NAMES, type ProfileName } from '../lab/profiles.ts';

/** What commander hands over. */
export interface LabUpFlags {
  readonly driver: string;
  readonly hosts: string;
  readonly guests?: string;
  readonly profile: string;
  readonly egress: string;
  readonly accel: string;
  readonly fleetFile: string;
  readonly network?: boolean;
  readonly spread?: boolean;
  readonly serve: boolean;
}

export interface LabUpOptions extends LabOptions {
  readonly driver: LabDriver;
  readonly accel: 'auto' | 'tcg' | 'kvm';
  /** Absolute. */
  readonly fleetFile: string;
  readonly serve: boolean;
}

function count(least: number, most: number) {
  const error = `expected a whole number from ${least} to ${most}`;
  const digits = z.string().regex(/^\d+$/, { error }).transform(Number);
  return digits.pipe(z.int({ error }).min(least, { error }).max(most, { error }));
}

/** All unknown names in one problem: a problem points at an option, and this is one. */
const profiles = z.string().transform((text, context): ProfileName[] => {
  const given = text.split(',').map((name) => name.trim());
  const unknown = given.filter((name) => !isProfile(name));
  if (unknown.length > 0) {
    const meant = unknown.flatMap((name) => nearest(name, PROFILE_NAMES) ?? []);
    const known = `the profiles are ${PROFILE_NAMES.join(', ')}`;
    context.addIssue({
      code: 'custom',
      message: `there is no profile ${unknown.map((name) => printValue(name)).join(', ')}`,
      params: { remedy: meant.length === 0 ? known : `did you mean ${meant.join(', ')}? ${known}` },
    });
  }
  return given.filter(isProfile);
});

function isProfile(name: string): name is ProfileName {
  return PROFILE_NAMES.some((known) => known === name);
}

const schema = z.strictObject({
  driver: z.enum(LAB_DRIVERS, { error: 'expected qemu or libvirt' }),
  hosts: count(2, MOST_HOSTS),
  guests: count(1, MOST_GUESTS).optional(),
  profile: profiles,
  egress: rateText,
  accel: z.enum(['auto', 'tcg', 'kvm'], { error: 'expected auto, tcg or kvm' }),
  fleetFile: z
    .string()
    .regex(/\.(ya?ml)$/, { error: 'expected a name that ends in .yaml' })
    .transform((path) => resolve(path))
    .superRefine((path, context) => {
      const fault = fleetFileFault(path);
      if (fault === null) return;
      context.addIssue({ code: 'custom', message: fault.message, params: { remedy: fault.remedy } });
    }),
  network: z.boolean().default(false),
  spread: z.boolean().default(false),
  serve: z.boolean(),
});

/** Throws `badInput`; a fleet file that cannot be written counts, so that it is known before guests are started. */
export function labUpOptions(flags: LabUpFlags): LabUpOptions {
  const parsed = schema.safeParse(flags);
  if (!parsed.success) throw badInput(problemsOf(schema, flags, parsed.error, '--'), { what: 'the command line' });
  const { profile, guests, ...rest } = parsed.data;
  const { egress, ...others } = rest;
  return { ...others, profiles: profile, guests: guests ?? profile.length, egressBytesPerSec: egress };
}
