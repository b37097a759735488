/** The policies that a request may name. */
import { z } from 'zod';
import { policySchema } from '../../domain/policy.ts';

export const policiesSchema = z
  .object({
    items: z
      .array(
        z
          .object({
            name: z.string(),
            what: z.string().describe('What it is for, and how it chooses.'),
            requirements: policySchema.describe('What holds where a request does not say otherwise. Times in ms.'),
          })
          .meta({ id: 'Policy' }),
      )
      .describe("The presets, then those of the fleet file's modules."),
  })
  .meta({ id: 'Policies' });
