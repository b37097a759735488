/** The audit log, as the API shows it. */
import { z } from 'zod';
import { auditEntrySchema } from '../../domain/access.ts';
import { cursorQuery, limitQuery } from './common.ts';

const entrySchema = auditEntrySchema.meta({ id: 'AuditEntry' });

export const auditPageSchema = z
  .object({ items: z.array(entrySchema), next: z.string().nullable() })
  .meta({ id: 'AuditPage' });

export const auditQuery = z.strictObject({ limit: limitQuery.optional(), cursor: cursorQuery.optional() });
