/** The fleet file's JSON Schema for editors: `docs/fleet.schema.json` is this, printed (`npm run schema` writes it). */
import { z } from 'zod';
import { fleetSchema } from './fleet.ts';

/** What an editor needs to complete and check a fleet file while it is written. Checks between parts are not in it. */
export function fleetJsonSchema(): Readonly<Record<string, unknown>> {
  const { $schema, properties, ...rest } = z.toJSONSchema(fleetSchema, { io: 'input' });
  return {
    $schema,
    title: 'hostevac fleet file',
    description: 'The hosts that hostevac may empty or fill, their limits, shared links and rules.',
    ...rest,
    properties: { $schema: { type: 'string', description: "This schema's address, for editors." }, ...properties },
  };
}
