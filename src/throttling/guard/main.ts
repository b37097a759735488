/**
 * The guard process: `main.js <stateDir>`, started by `launch.ts` under the state directory's lock. It restores what the
 * journal holds, then takes connections, and ends by itself when there is nothing to guard. The only writer of quotas.
 * `main.js <stateDir> --stay`, as a service manager starts it (docs/deploy/systemd/hostevac-guard.service): it does not end
 * by itself, and workers start none from then on: one of theirs would have their rights and end with their control group.
 */
import { writeFileSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { connectQmp } from '../../hypervisors/qemu/qmp/client.ts';
import { startTicksOf } from '../../runtime/process-identity.ts';
import { GroupFiles } from '../cgroup/files.ts';
import { Gates } from './gates.ts';
import { fileLog } from './guard-log.ts';
import { writeIdentity } from './identity.ts';
import { type JournalContent, mendJournal, readJournal, writeJournal } from './journal.ts';
import { guardPlaces } from './places.ts';
import { GuardServer } from './server.ts';
import { Throttles } from './throttles.ts';

const [stateDir, how] = process.argv.slice(2);
const stays = how === '--stay';
if (stateDir === undefined || (how !== undefined && !stays)) throw new Error('usage: main.js <stateDir> [--stay]');
const places = guardPlaces(stateDir);
const log = fileLog(places.log);
/** The machine's, so that clients can compare. */
const now = () => Number(process.hrtime.bigint()) / 1e6;

// Whoever started it may be gone: then nobody reads stderr, which is no reason to end.
process.stderr.on('error', () => undefined);

function mend(readable: JournalContent): void {
  try {
    log(`the damaged journal is kept as ${mendJournal(places.journal, readable)}`);
  } catch (error) {
    // It is still there, and what can be read of it is restored all the same.
    log(`the damaged journal cannot be kept aside: ${String(error)}`);
  }
}

function takeOver(): JournalContent {
  try {
    const { damage, ...content } = readJournal(places.journal);
    if (damage === null) return content;
    log(`THE JOURNAL IS DAMAGED: ${damage}; restoring what can be read`);
    mend(content);
    return content;
  } catch (error) {
    // What stands in it must be restored one day: a guard that went on would write over it.
    const complaint = `THE JOURNAL ${places.journal} CANNOT BE READ, so nothing is throttled: ${String(error)}`;
    log(complaint);
    console.error(complaint);
    process.exit(1);
  }
}

log(`starts, process ${process.pid}`);
try {
  writeIdentity(places);
} catch (error) {
  // Restoring goes before telling: without it clients cannot end this process when it hangs, and say so.
  log(`cannot write down its process: ${String(error)}`);
}
try {
  // On a host whose CPUs are all taken it must still be in time.
  setPriority(constants.priority.PRIORITY_HIGHEST);
} catch (error) {
  log(`runs with the priority of others: ${String(error)}`);
}
if (stays) {
  try {
    writeFileSync(places.service, `${process.pid}\n`, { mode: 0o600 });
  } catch (error) {
    // Restoring goes first here, too: workers may then start a guard of their own, should this one end.
    log(`cannot write down that it is a service's: ${String(error)}`);
  }
}
let content = takeOver();
const save = (part: Partial<JournalContent>): void => {
  const next = { ...content, ...part };
  writeJournal(places.journal, next);
  content = next;
};
const throttles = new Throttles({ files: new GroupFiles(), save, log, now, startTicksOf });
const gates = new Gates({ connect: connectQmp, save: (records) => save({ gates: records }), log, now });
const server = new GuardServer({ throttles, gates, places, log, stays });

for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => server.end(`${signal} received`));
process.on('uncaughtException', (error) => {
  log(`A FAULT OF THE GUARD: ${error.stack ?? String(error)}`);
  server.end('a fault');
});

const left = content;
throttles.recover(left);
gates.recover(left.gates);
await server.listen();
