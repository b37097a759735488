/**
 * What a migration costs its guest, summed up tick by tick. Harm = integral of (demand - CPU time the vCPU threads got)
 * + downtime x demand (design, "Words"). Demand is frozen when throttling starts and may then only fall: a throttled
 * guest cannot show what it would like to have.
 */
import type { Account, MigrationFigures } from '../domain/operation.ts';
import type { GuestCpu } from '../throttling/throttle.ts';

/** Starts the books at the first sample, or takes a predecessor's on. */
export function openAccount(cpu: GuestCpu): Account {
  return {
    atMs: cpu.atMs,
    gotCpuMs: cpu.gotCpuMs,
    frozenDemandCores: cpu.share < 1 ? cpu.demandCores : null,
    demandCores: cpu.demandCores,
    observedMs: 0,
    shareMs: 0,
  };
}

/**
 * Books the stretch since the last sample (however long: a gap between two workers is a stretch too).
 * `share` is what was in force during it.
 */
export function book(
  account: Account,
  figures: MigrationFigures,
  cpu: GuestCpu,
  share: number,
): { account: Account; figures: MigrationFigures; gotShare: number } {
  const elapsedMs = cpu.atMs - account.atMs;
  if (elapsedMs <= 0) return { account, figures, gotShare: share };
  const gotMs = Math.max(0, cpu.gotCpuMs - account.gotCpuMs);
  const throttled = share < 1;
  const demandCores = throttled
    ? Math.min(account.frozenDemandCores ?? account.demandCores, Math.max(cpu.demandCores, gotMs / elapsedMs))
    : cpu.demandCores;
  const wantedMs = demandCores * elapsedMs;
  const observedMs = account.observedMs + elapsedMs;
  const shareMs = account.shareMs + share * elapsedMs;
  return {
    account: {
      atMs: cpu.atMs,
      gotCpuMs: cpu.gotCpuMs,
      frozenDemandCores: throttled ? demandCores : null,
      demandCores,
      observedMs,
      shareMs,
    },
    figures: {
      ...figures,
      // Without a throttle what a guest did not get is the machine's doing, not ours.
      harmCpuMs: figures.harmCpuMs + (throttled ? Math.max(0, wantedMs - gotMs) : 0),
      minShare: Math.min(figures.minShare, share),
      meanShare: observedMs > 0 ? shareMs / observedMs : 1,
    },
    gotShare: wantedMs > 0 ? Math.min(1, gotMs / wantedMs) : 1,
  };
}

export interface End {
  /** Fleet time at which the migration had ended. */
  readonly atMs: number;
  readonly totalMs: number;
  readonly downtimeMs: number;
  readonly transferredBytes: number;
  /** What the source's vCPUs had got when they stopped for good; null: it cannot be asked any more. */
  readonly cpu: GuestCpu | null;
}

/** The last stretch: from the last tick on until it stopped, then it stood still for `downtimeMs`. */
export function closeAccount(account: Account | null, figures: MigrationFigures, end: End): MigrationFigures {
  const { cpu, totalMs, downtimeMs, transferredBytes } = end;
  const ended = { ...figures, totalMs, downtimeMs, transferredBytes };
  if (account === null) return ended;
  const stretchMs = end.atMs - downtimeMs - account.atMs;
  const throttled = account.frozenDemandCores !== null;
  const gotMs = cpu === null ? 0 : cpu.gotCpuMs - account.gotCpuMs;
  // Where it cannot be asked, this stretch is not booked: guessed harm is no figure.
  const lost = throttled && cpu !== null && stretchMs > 0 ? Math.max(0, account.demandCores * stretchMs - gotMs) : 0;
  return { ...ended, harmCpuMs: figures.harmCpuMs + lost + downtimeMs * account.demandCores };
}
