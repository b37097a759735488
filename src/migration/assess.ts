/**
 * What two sightings mean, as a pure function: never started, running, finished, left over, or contradictory. Two
 * running copies, or none, are never "handled". Nothing is asked or done here.
 */
import type { Reason } from '../domain/errors.ts';
import type { OutgoingMigration, Sighting } from '../hypervisors/hypervisor.ts';

/** null: the host did not answer. */
export type Seen = Sighting | null;

export interface Assessed {
  readonly verdict:
    | 'neverStarted'
    | 'runningOurs'
    | 'switchingOver'
    /** It runs, or is about to, at its destination; its source is needed until all of it is there. */
    | 'inPostCopy'
    | 'finished'
    | 'leftovers'
    /** Ask again; give up as `unreachable` when that has gone on for long. */
    | 'unknown'
    | 'refused'
    | 'contradiction';
  readonly reason: Reason;
}

export interface AssessedMove {
  readonly id: string;
  readonly vm: string;
  readonly uuid: string | null;
  readonly source: string;
  readonly destination: string;
  readonly migrateSent: boolean;
  /** It has been seen in post-copy: its guest cannot run at its source any more. */
  readonly postCopy: boolean;
  /** Ids of earlier moves of this VM: what carries one of them was started by one of us, and nobody drives it now. */
  readonly earlierIds: ReadonlySet<string>;
}

/** A copy whose CPUs run or could be told to by its guest's owner: what there must be exactly one of. */
function live(sighting: Sighting): boolean {
  return sighting.present && (sighting.state === 'running' || sighting.state === 'paused');
}

function inFlight(outgoing: OutgoingMigration | null): boolean {
  return outgoing !== null && ['setup', 'active', 'preSwitchover', 'switchover'].includes(outgoing.status);
}

function inPostCopy(outgoing: OutgoingMigration | null): outgoing is OutgoingMigration {
  return outgoing?.status === 'postCopy' || outgoing?.status === 'postCopyPaused';
}

function ours({ migrationId }: OutgoingMigration, move: AssessedMove): boolean {
  return migrationId !== null && (migrationId === move.id || move.earlierIds.has(migrationId));
}

/** Something leaves that host for this VM, or may at any moment. */
export function isSending(source: Seen): boolean {
  return source?.present === true && (inFlight(source.outgoing) || inPostCopy(source.outgoing));
}

/** Nothing that is at its source, or ever happens there, is needed any more. */
function hasArrived(move: AssessedMove, destination: Seen): boolean {
  if (!move.postCopy || !destination?.present || destination.arriving) return false;
  return live(destination) && move.uuid !== null && destination.uuid === move.uuid;
}

export function describe(host: string, seen: Seen): string {
  if (seen === null) return `${host} does not answer`;
  if (!seen.present) return `${host} does not have it`;
  const outgoing = seen.outgoing === null ? '' : `, migration ${seen.outgoing.status}`;
  const arriving = seen.arriving ? ', waiting for memory from its source' : '';
  return `${host} has it ${seen.state}${arriving}${outgoing}`;
}

export function assess(move: AssessedMove, source: Seen, destination: Seen): Assessed {
  const seen = `${describe(move.source, source)}; ${describe(move.destination, destination)}`;
  const say = (verdict: Assessed['verdict'], code: Reason['code'], message: string): Assessed => ({
    verdict,
    reason: { code, message: `${move.vm}: ${message} (${seen})` },
  });

  if (source === null && hasArrived(move, destination)) {
    return say('finished', 'internal', 'all of it has arrived at its destination');
  }
  if (source === null) return say('unknown', 'hostUnreachable', `the source ${move.source} does not answer`);

  const foreignCopy = [source, destination].find((one) => one?.present && move.uuid !== null && one.uuid !== move.uuid);
  if (foreignCopy !== undefined) {
    return say('refused', 'hypervisorRefused', 'another VM of that name (other uuid) is there; rename or remove it');
  }

  if (source.present && inPostCopy(source.outgoing)) {
    if (!ours(source.outgoing, move)) {
      return say('refused', 'foreignMigration', 'a migration that was not started for this move is in post-copy');
    }
    const to = source.outgoing.destination;
    if (to !== null && to !== move.destination) {
      const why = `an earlier migration of ours to ${to} is in post-copy and cannot be ended; it has to arrive there first`;
      return say('refused', 'foreignMigration', why);
    }
    if (destination !== null && (!destination.present || destination.state === 'shutOff')) {
      const why = `ITS DESTINATION WAS LOST IN POST-COPY, and the memory it had written there; nothing was touched`;
      return say('contradiction', 'memoryLost', why);
    }
    // Its connection broke with the last byte: the destination has all and says so, the source was never told.
    if (source.outgoing.status === 'postCopyPaused' && destination !== null && live(destination)) {
      if (destination.present && !destination.arriving)
        return say('finished', 'internal', 'all of it is at its destination');
    }
    return say('inPostCopy', 'internal', 'it is in post-copy');
  }

  if (source.present && live(source)) {
    if (destination !== null && live(destination)) {
      return say(
        'contradiction',
        'vmDoubled',
        'TWO RUNNING COPIES; nothing was touched, decide which one is right and end the other',
      );
    }
    if (source.outgoing !== null && inFlight(source.outgoing)) {
      if (!ours(source.outgoing, move)) {
        return say(
          'refused',
          'foreignMigration',
          'a migration that was not started for this move is running; it is left alone',
        );
      }
      if (source.outgoing.destination !== null && source.outgoing.destination !== move.destination) {
        const elsewhere = `an earlier migration of ours to ${source.outgoing.destination} is still running`;
        return say('leftovers', 'internal', `${elsewhere}; it is ended first`);
      }
      return source.outgoing.status === 'switchover'
        ? say('switchingOver', 'internal', 'its migration is switching over')
        : say('runningOurs', 'internal', 'its migration is running');
    }
    if (destination === null) {
      return say('refused', 'destinationDied', `the destination ${move.destination} does not answer`);
    }
    return destination.present
      ? say('leftovers', 'internal', 'a copy of an earlier attempt is left at the destination')
      : say('neverStarted', 'internal', 'no migration was started');
  }

  // The source's copy does not run: it must have moved, or nobody has it.
  if (destination === null) {
    return say('unknown', 'hostUnreachable', `the destination ${move.destination} does not answer`);
  }
  if (destination.present && destination.arriving) {
    // The source's last word is on its way.
    if (source.present && source.outgoing?.status === 'completed') {
      return say('inPostCopy', 'internal', 'it is at the end of its post-copy');
    }
    const why = 'ITS SOURCE WAS LOST IN POST-COPY, and the memory that had not arrived; nothing was touched';
    return say('contradiction', 'memoryLost', why);
  }
  if (live(destination)) return say('finished', 'internal', 'it runs at its destination');
  if (source.present && inFlight(source.outgoing))
    return say('switchingOver', 'internal', 'its migration is switching over');
  if (source.present && source.state === 'shutOff') {
    return move.migrateSent
      ? say(
          'refused',
          'sourceDied',
          'it died or was shut off at its source while it was being moved; nothing was claimed',
        )
      : say('refused', 'sourceDied', 'it has been shut off at its source; there is nothing to migrate');
  }
  if (!source.present && !move.migrateSent) {
    return say('refused', 'sourceDied', `it is no longer at ${move.source}; nothing was done`);
  }
  if (!source.present) {
    return say('contradiction', 'sourceDied', `it disappeared from ${move.source} before it had moved`);
  }
  return say('contradiction', 'vmMissing', 'NO RUNNING COPY at either end; nothing was touched');
}
