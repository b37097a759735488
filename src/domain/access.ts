/** Who may do what through the API, and what is written down of who did what. */
import { z } from 'zod';

/** Each may what those before it may. */
export const roles = ['viewer', 'operator', 'admin'] as const;
export type Role = (typeof roles)[number];

/** `none`: anybody may. */
export type WantedRole = Role | 'none';

export function mayAs(role: Role, wanted: WantedRole): boolean {
  return wanted === 'none' || roles.indexOf(role) >= roles.indexOf(wanted);
}

/** One line of the audit log. */
export const auditEntrySchema = z.object({
  atMs: z.number().describe('Wall-clock time, ms since 1970.'),
  actor: z.string().describe("A token's name; the user of the operating system for the command line."),
  role: z.enum(roles).nullable().describe('null: it was not known who asked.'),
  via: z.enum(['api', 'cli']),
  action: z.string().describe('`operation.cancel`, `host.cordon`, `token.create`.'),
  target: z.string().nullable(),
  outcome: z.enum(['done', 'unchanged', 'refused', 'failed']),
  detail: z.string(),
});
export type AuditEntry = z.infer<typeof auditEntrySchema>;
