/** A host's capacity as a person sets it in place of the fleet file's: what may be said, and what is answered. */
import { z } from 'zod';
import type { CapacityOverride, CellBudget } from '../bandwidth/cell-budget.ts';
import type { Resource } from '../bandwidth/resources.ts';
import { badInput, parseInput } from '../domain/problems.ts';
import { formatRate, rateText } from '../domain/units.ts';
import type { ControlOutcome, HostStatus } from './producer.ts';

export const capacityInput = z.strictObject({ egress: rateText.optional(), ingress: rateText.optional() });
/** Rates as text (`20MiB/s`) or bytes per second, above zero. */
export type CapacityInput = z.input<typeof capacityInput>;

const LANES = ['egress', 'ingress'] as const;

/** `host` must be one of the fleet. Throws `badInput`. */
export async function setCapacity(
  budget: CellBudget,
  host: string,
  wanted: { readonly capacity: CapacityInput | null; readonly by: string; readonly atMs: number },
): Promise<ControlOutcome> {
  const { by, atMs } = wanted;
  const given = wanted.capacity === null ? {} : parseInput(capacityInput, wanted.capacity, { what: 'the capacity' });
  if (wanted.capacity !== null && given.egress === undefined && given.ingress === undefined) {
    const message = 'says nothing';
    const remedy = "give egress, ingress or both, or set it back to the fleet file's";
    throw badInput([{ path: '(root)', value: '{}', message, remedy }], { what: 'the capacity' });
  }
  const changed = await budget.overrideAll(
    LANES.map((kind): readonly [Resource, CapacityOverride | null] => {
      const bytesPerSec = given[kind];
      return [{ kind, host }, bytesPerSec === undefined ? null : { bytesPerSec, by, atMs }];
    }),
  );
  const said = LANES.flatMap((kind) => (given[kind] === undefined ? [] : [`${kind} ${formatRate(given[kind])}`]));
  const now = said.length === 0 ? "the fleet file's capacity" : said.join(', ');
  return { changed, message: changed ? `${host} has ${now} from now on` : `${host} has ${now} already` };
}

export function overrideOf({
  egress,
  ingress,
}: {
  readonly egress: CapacityOverride | null;
  readonly ingress: CapacityOverride | null;
}): HostStatus['capacityOverride'] {
  const newer = ingress === null || (egress !== null && egress.atMs >= ingress.atMs) ? egress : ingress;
  if (newer === null) return null;
  return {
    ...(egress === null ? {} : { egress: egress.bytesPerSec }),
    ...(ingress === null ? {} : { ingress: ingress.bytesPerSec }),
    by: newer.by,
    atMs: newer.atMs,
  };
}
