/**
 * The error catalogue: every error a user, a tool or an operator can meet, with a code that never changes its meaning.
 * The message says what was wrong, with which value, and what to do. Exit codes follow the command line's contract.
 */

/** One fault in something a user gave us. */
export interface Problem {
  /** Where: `hosts[2].egress`, `--aggression`. */
  readonly path: string;
  /** The value as given, printed; empty when it was missing. */
  readonly value: string;
  /** What is wrong with it. */
  readonly message: string;
  /** What to do about it. */
  readonly remedy: string;
  /** Line of the file it stands on, from 1, where there is a file. */
  readonly line?: number;
}

/** Exit codes of the command line. `interrupted` is the shell's convention for SIGINT. */
export const EXIT = { done: 0, failed: 1, usage: 2, partial: 3, none: 4, deadline: 5, interrupted: 130 } as const;

/**
 * code -> exit code when it ends a command, and when it is thrown. Codes are part of the contract: add, never rename.
 */
export const ERROR_CATALOGUE = {
  badInput: {
    exit: EXIT.usage,
    when: 'a request, option or file did not pass its schema; `problems` lists every fault',
  },
  unknownHost: { exit: EXIT.usage, when: 'a host is named that the fleet file does not have' },
  unknownVm: { exit: EXIT.usage, when: 'a VM is named that no host of the fleet has' },
  unknownOperation: { exit: EXIT.usage, when: 'an operation is named that never was, or whose record has expired' },
  unknownMigration: { exit: EXIT.usage, when: 'a migration is named that never was, or whose record has expired' },
  unknownToken: { exit: EXIT.usage, when: 'an access token is named that there is not' },
  unknownRoute: { exit: EXIT.usage, when: 'the API is asked for a path that it does not have' },
  methodNotAllowed: { exit: EXIT.usage, when: 'the API has the path that it is asked for, not the method' },
  payloadTooLarge: { exit: EXIT.usage, when: 'the body of a request to the API is larger than the API takes' },
  unsupportedMediaType: { exit: EXIT.usage, when: 'the body of a request to the API is not application/json' },
  unauthorized: { exit: EXIT.usage, when: 'a request to the API has no token that is valid' },
  forbidden: {
    exit: EXIT.usage,
    when: 'a request to the API has a token of a lesser role, or comes from another origin',
  },
  tooManyRequests: { exit: EXIT.failed, when: 'a client of the API asks for more than it serves one client' },
  unavailable: { exit: EXIT.failed, when: 'the API is starting or ending, or has as many streams open as it serves' },
  fleetFileMissing: { exit: EXIT.usage, when: 'no fleet file was found where one is needed' },
  idempotencyConflict: { exit: EXIT.usage, when: 'an idempotency key is used again with a different request' },
  fleetMismatch: { exit: EXIT.failed, when: 'running workers have another fleet file than this process' },
  redisAway: { exit: EXIT.failed, when: 'Redis cannot be reached, or does not answer in time' },
  redisMissing: {
    exit: EXIT.failed,
    when: 'no Redis address is set and no redis-server or valkey-server is installed',
  },
  redisUnfit: { exit: EXIT.failed, when: 'Redis answers but its version or its eviction policy would lose data' },
  portTaken: { exit: EXIT.failed, when: 'the port to listen on is in use, or may not be used' },
  planBlocked: { exit: EXIT.none, when: 'no VM of the request can be moved; each has its reason' },
  timeout: { exit: EXIT.deadline, when: 'a wait ended before the operation did' },
  leaseLost: { exit: EXIT.failed, when: 'another process holds the lease of this VM or operation now' },
  hostUnreachable: { exit: EXIT.failed, when: 'a hypervisor host does not answer' },
  hostAnswers: { exit: EXIT.failed, when: 'a host is to be confirmed down that was seen alive a moment ago' },
  hypervisorRefused: { exit: EXIT.failed, when: 'the hypervisor answered a command with an error' },
  migrationStuck: { exit: EXIT.failed, when: 'no byte was transferred for longer than the limit' },
  linkFailed: { exit: EXIT.failed, when: 'the connection between source and destination broke' },
  stillConnecting: {
    exit: EXIT.failed,
    when: 'the hypervisor has not given up connecting yet for an earlier migration of this VM that was ended',
  },
  destinationDied: { exit: EXIT.failed, when: 'the destination host or its incoming copy disappeared' },
  sourceDied: { exit: EXIT.failed, when: 'the source host or the VM on it disappeared' },
  destinationTooSmall: { exit: EXIT.none, when: 'the destination has not enough free memory or CPU' },
  noDestination: { exit: EXIT.none, when: 'no host of the fleet may and can take the VM' },
  maxTimeExceeded: { exit: EXIT.failed, when: 'a migration did not converge within its max time and was aborted' },
  deadlineExceeded: { exit: EXIT.deadline, when: "the operation's deadline passed" },
  cancelled: { exit: EXIT.failed, when: 'somebody cancelled it' },
  foreignMigration: { exit: EXIT.failed, when: 'a migration that nobody of ours started is running for this VM' },
  vmDoubled: { exit: EXIT.failed, when: 'two running copies of one VM were seen; everything is left as it is' },
  vmMissing: { exit: EXIT.failed, when: 'no running copy of a VM was seen at either end; everything is left as it is' },
  policyUnknown: { exit: EXIT.failed, when: 'a policy is asked for whose module this worker has not loaded' },
  memoryLost: {
    exit: EXIT.failed,
    when: "one end of a migration in post-copy was lost, and with it part of the guest's memory; everything is left as it is",
  },
  changedSincePlanned: {
    exit: EXIT.failed,
    when: 'a VM was to be shut down that is not what it was when that was planned (its label, its state, it can be migrated); it is planned anew',
  },
  shutdownTimedOut: {
    exit: EXIT.none,
    when: 'a guest was asked to shut down and still ran when its time was over; it was left running',
  },
  throttleUnavailable: { exit: EXIT.failed, when: 'the guest cannot be throttled here (rights or cgroups)' },
  labUnfit: {
    exit: EXIT.failed,
    when: 'the lab cannot be started or ended: one is up already, QEMU, tools or rights are missing, a guest does not boot',
  },
  internal: { exit: EXIT.failed, when: 'a fault of ours; please report it with the message' },
} as const;

export type ErrorCode = keyof typeof ERROR_CATALOGUE;

/** After these somebody has to look before anything else: a VM runs twice, or nowhere, or its memory may be gone. */
export const LOUDEST = ['vmDoubled', 'vmMissing', 'memoryLost'] as const satisfies readonly ErrorCode[];
export type Loudest = (typeof LOUDEST)[number];

/** A stated reason with a stable code: why a VM was not moved, why a migration ended, what is waited for. */
export interface Reason {
  readonly code: ErrorCode;
  readonly message: string;
}

/** The one error class that leaves the library. `code` is stable, `message` is for people. */
export class HostevacError extends Error {
  override readonly name = 'HostevacError';
  readonly code: ErrorCode;
  readonly problems: readonly Problem[];

  constructor(code: ErrorCode, message: string, options: { problems?: readonly Problem[]; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.problems = options.problems ?? [];
  }

  get exitCode(): number {
    return ERROR_CATALOGUE[this.code].exit;
  }

  toReason(): Reason {
    return { code: this.code, message: this.message };
  }
}

/** The reason in an error of any origin; what is not ours is `internal`. */
export function reasonOf(error: unknown): Reason {
  if (error instanceof HostevacError) return error.toReason();
  return { code: 'internal', message: error instanceof Error ? error.message : String(error) };
}
