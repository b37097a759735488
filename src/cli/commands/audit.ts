/** `hostevac audit`: who asked for what, through the API or the command line. */
import type { Command } from 'commander';
import { z } from 'zod';
import { EXIT } from '../../domain/errors.ts';
import { parseInput } from '../../domain/problems.ts';
import { openRedis } from '../../runtime/redis-connection.ts';
import { fleetPrefix } from '../../runtime/stores.ts';
import { AUDIT_KEPT, AuditLog } from '../../store/audit-log.ts';
import type { Cli, Run } from '../cli.ts';
import { helpAfter, SIMPLE_CODES } from '../help.ts';
import { numberOrText } from '../policy-options.ts';
import { openRedisSource } from '../session.ts';
import { tableLines } from '../table.ts';
import { printable } from '../text.ts';
import { dateText } from './token.ts';

export function addAudit(program: Command, run: Run): void {
  program
    .command('audit')
    .description('show who asked for what, newest first')
    .option('--limit <count>', 'so many entries', '50')
    .addHelpText(
      'after',
      helpAfter({
        notes: [
          'Everything that was to change something, through the API (by the name of its token) or the command line (by the user of the',
          `operating system), also what was refused. The last ${AUDIT_KEPT.toLocaleString('en')} or so are kept.`,
        ],
        examples: [
          ['hostevac audit', 'the last fifty'],
          ['hostevac audit --limit 1000 -o json | jq .items', 'for scripts'],
        ],
        codes: SIMPLE_CODES,
      }),
    )
    .action((flags: { limit: string }) => run((cli) => audit(cli, flags)));
}

const expected = 'expected a whole number from 1 to 20000';
const schema = z.object({
  limit: z.int({ error: expected }).min(1, { error: expected }).max(20_000, { error: expected }),
});

async function audit(cli: Cli, flags: { readonly limit: string }): Promise<number> {
  const given = { limit: numberOrText(flags.limit) };
  const { limit } = parseInput(schema, given, { what: 'the command line', pathPrefix: '--' });
  const fleet = cli.requireFleet();
  const source = await openRedisSource(cli, { supervise: false });
  try {
    const redis = await openRedis(source.target, 'producer');
    try {
      const { items } = await new AuditLog(redis, fleetPrefix(fleet.name)).read(limit, null);
      cli.output.result({ items });
      const columns = ['TIME', 'WHO', 'ROLE', 'VIA', 'ACTION', 'TARGET', 'OUTCOME', 'DETAIL'].map((title) => ({
        title,
        ...(title === 'DETAIL' ? { shrinkTo: 10 } : {}),
      }));
      const rows = items.map((entry) =>
        [
          dateText(entry.atMs),
          printable(entry.actor),
          entry.role ?? '-',
          entry.via,
          entry.action,
          printable(entry.target ?? '-'),
          entry.outcome,
          printable(entry.detail),
        ].map((text) => ({ text })),
      );
      const nothing = ['Nothing was asked for yet.'];
      cli.output.lines(rows.length === 0 ? nothing : tableLines(columns, rows, cli.output.columns(), cli.output.paint));
      return EXIT.done;
    } finally {
      redis.disconnect();
    }
  } finally {
    await source.close();
  }
}
