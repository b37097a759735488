/** `hostevac token create|list|revoke`: who may use the API. Whoever reaches the fleet's Redis may make tokens. */
import { type Command, Option } from 'commander';
import { z } from 'zod';
import { type Role, roles } from '../../domain/access.ts';
import { EXIT } from '../../domain/errors.ts';
import type { Fleet } from '../../domain/fleet.ts';
import { badInput, parseInput } from '../../domain/problems.ts';
import { durationText } from '../../domain/units.ts';
import { openRedis } from '../../runtime/redis-connection.ts';
import { fleetPrefix } from '../../runtime/stores.ts';
import { RedisCellStore } from '../../store/redis-store.ts';
import { type TokenInfo, Tokens } from '../../store/tokens.ts';
import { type AuditWriter, auditWriter, userName } from '../audit-writer.ts';
import type { Cli, Run } from '../cli.ts';
import { helpAfter, SIMPLE_CODES } from '../help.ts';
import { openRedisSource } from '../session.ts';
import { tableLines } from '../table.ts';
import { printable } from '../text.ts';

interface CreateFlags {
  readonly name: string;
  readonly role: Role;
  readonly expires?: string;
}

export function addToken(program: Command, run: Run): void {
  const token = program.command('token').description('make, list and revoke access tokens of the API');

  token
    .command('create')
    .description('make a token; it is printed once and kept nowhere')
    .requiredOption('--name <name>', 'whose it is: the audit log calls its holder so')
    .addOption(new Option('--role <role>', 'what it allows').choices(roles).default('viewer'))
    .option('--expires <duration>', 'how long it is valid; default: until it is revoked')
    .addHelpText(
      'after',
      helpAfter({
        notes: [
          'viewer: looks at everything. operator: also starts and steers operations, cordons hosts. admin: also sets capacities and',
          'reads the audit log. From the first token on nobody is let in without one. In force within two seconds.',
        ],
        examples: [
          ['hostevac token create --name maintenance --role operator --expires 30d', 'for a script'],
          ['TOKEN=$(hostevac token create --name grafana)', 'stdout has the token and nothing else'],
        ],
        codes: SIMPLE_CODES,
      }),
    )
    .action((flags: CreateFlags) => run((cli) => create(cli, flags)));

  token
    .command('list')
    .description('show all tokens, without their secrets')
    .addHelpText(
      'after',
      helpAfter({ examples: [['hostevac token list', 'who has one, until when']], codes: SIMPLE_CODES }),
    )
    .action(() => run(list));

  token
    .command('revoke [id]')
    .description('end a token, by its id')
    .option('--all', 'forget all tokens: then only this machine is served again, and needs none')
    .addHelpText(
      'after',
      helpAfter({
        notes: ['In force within two seconds; streams that are open end, too.'],
        examples: [['hostevac token revoke 1f0c22aa', 'the id is the part between the underscores']],
        codes: SIMPLE_CODES,
      }),
    )
    .action((id: string | undefined, { all }: { all?: boolean }) => run((cli) => revoke(cli, id, all === true)));
}

const RESERVED: ReadonlySet<string> = new Set(['local', 'unknown', 'anybody']);
const nameText = 'expected 1 to 64 letters, digits, ., @, - or _';
const createSchema = z.object({
  name: z
    .string()
    .regex(/^[A-Za-z0-9._@-]{1,64}$/, { error: nameText })
    // What the audit log calls those who have none.
    .refine((name) => !RESERVED.has(name.toLowerCase()), {
      error: 'expected another name than local, unknown or anybody',
    }),
  role: z.enum(roles),
  expires: durationText.optional(),
});

async function create(cli: Cli, flags: CreateFlags): Promise<number> {
  const { name, role, expires } = parseInput(createSchema, flags, { what: 'the command line', pathPrefix: '--' });
  return withTokens(cli, async (tokens, audit) => {
    if ((await tokens.list()).some((token) => token.name === name && token.state === 'valid')) {
      const message = 'is the name of a valid token: the audit log could not tell the two apart';
      const remedy = 'choose another name, or revoke that one first: hostevac token list';
      throw badInput([{ path: '--name', value: JSON.stringify(name), message, remedy }], { what: 'the command line' });
    }
    const made = await tokens.create({ name, role, createdBy: userName(), expiresInMs: expires ?? null });
    const until = made.info.expiresAtMs === null ? 'for good' : `until ${dateText(made.info.expiresAtMs)}`;
    await audit.write({
      action: 'token.create',
      target: made.info.id,
      outcome: 'done',
      detail: `${name}, ${role}, ${until}`,
    });
    cli.output.result({ ...made.info, token: made.text });
    cli.output.lines([made.text]);
    cli.output.remark(`Token ${made.info.id} for ${name}, ${role}, valid ${until}. It is not shown again.`);
    return EXIT.done;
  });
}

function list(cli: Cli): Promise<number> {
  return withTokens(cli, async (tokens) => {
    const found = await tokens.list();
    cli.output.result({ tokens: found });
    cli.output.lines(
      found.length === 0 ? ['There are no tokens: only this machine is served.'] : tokenLines(cli, found),
    );
    return EXIT.done;
  });
}

async function revoke(cli: Cli, id: string | undefined, all: boolean): Promise<number> {
  if ((id === undefined) !== all) {
    const message = id === undefined ? 'is missing' : 'stands beside --all';
    throw badInput(
      [{ path: '[id]', value: id ?? '', message, remedy: 'give an id of hostevac token list, or --all' }],
      {
        what: 'the command line',
      },
    );
  }
  return withTokens(cli, async (tokens, audit) => {
    if (id === undefined) {
      const count = await tokens.forgetAll();
      await audit.write({ action: 'token.forgetAll', target: null, outcome: 'done', detail: String(count) });
      cli.output.result({ forgotten: count });
      cli.output.lines([`${count} forgotten; servers on a loopback address serve everybody on their machine again`]);
      return EXIT.done;
    }
    const changed = await tokens.revoke(id);
    await audit.write({ action: 'token.revoke', target: id, outcome: changed ? 'done' : 'unchanged', detail: '' });
    cli.output.result({ id, changed });
    cli.output.lines([changed ? `${id} is revoked` : `${id} was revoked already`]);
    return EXIT.done;
  });
}

async function withTokens(cli: Cli, use: (tokens: Tokens, audit: AuditWriter) => Promise<number>): Promise<number> {
  const fleet: Fleet = cli.requireFleet();
  const source = await openRedisSource(cli, { supervise: false });
  try {
    const redis = await openRedis(source.target, 'producer');
    const audit = auditWriter(source.target, fleet, (line) => cli.output.remark(line));
    try {
      return await use(new Tokens(new RedisCellStore(redis, fleetPrefix(fleet.name))), audit);
    } finally {
      audit.close();
      redis.disconnect();
    }
  } finally {
    await source.close();
  }
}

function tokenLines(cli: Cli, tokens: readonly TokenInfo[]): string[] {
  const columns = ['ID', 'NAME', 'ROLE', 'STATE', 'CREATED', 'BY', 'EXPIRES'].map((title) => ({ title }));
  const rows = tokens.map((token) =>
    [
      token.id,
      printable(token.name),
      token.role,
      token.state,
      dateText(token.createdAtMs),
      printable(token.createdBy),
      token.expiresAtMs === null ? 'never' : dateText(token.expiresAtMs),
    ].map((text) => ({ text })),
  );
  return tableLines(columns, rows, cli.output.columns(), cli.output.paint);
}

export function dateText(atMs: number): string {
  return new Date(atMs).toISOString().replace(/\.\d+Z$/, 'Z');
}
