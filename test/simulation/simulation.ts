/**
 * One simulated life of a fleet: the real workflows, budget, planner and queue handlers on a simulated fleet, in virtual
 * time, with everything of scenario.ts going wrong. The same seed gives the same life. What must hold is checks.ts.
 */
import { HostevacError } from '../../src/domain/errors.ts';
import { ENDED_MOVE_STATES, ENDED_OPERATION_STATES, needsApproval } from '../../src/domain/operation.ts';
import type { OperationRequest } from '../../src/domain/request.ts';
import type { SimulationLog } from '../../src/hypervisors/simulated/log.ts';
import type { Command } from '../../src/hypervisors/simulated/model.ts';
import { approve, cancel, pause, resume } from '../../src/operations/control.ts';
import { balance, type Crew, type CrewOptions, evacuate, World } from '../support/world.ts';
import { atTheEnd, Safety, Violation } from './checks.ts';
import { Random } from './random.ts';
import { type Act, type Planned, type Scenario, scenarioOf, type Terms, TROUBLE_MS } from './scenario.ts';
import { silentHypervisor, silentThrottle } from './silence.ts';
import { fleetError, linkOver, storeError, type Wire } from './wires.ts';

/** Once all is well again every operation ends within that (virtual). */
const PEACE_MS = 3_600_000;
/** And nothing is left of it a little later. */
const REST_MS = 60_000;
/** Of so many lives the event loop of one gets a turn at every step, so that a rejection which nobody handles in time is told. */
const TURNS_IN_ONE_OF = 20;

export interface Life {
  readonly seed: number;
  /** null: all was as it must be. */
  readonly fault: string | null;
  readonly trace: readonly string[];
  readonly virtualMs: number;
  /** Pairs of the migration's table that were taken. */
  readonly transitions: ReadonlySet<string>;
}

/** A program that is broken on purpose, to see that it is caught. */
export interface Variant {
  readonly name: string;
  /** A seed with which it is caught (of this program; the test looks on from there), and what is then said. */
  readonly caughtBy: number;
  readonly fault: RegExp;
  readonly crew?: (options: CrewOptions, world: World) => CrewOptions;
  /** Commands whose token nobody looks at. */
  readonly unchecked?: ReadonlySet<Command['kind']>;
  /** Done again and again. */
  readonly everySecond?: (world: World) => Promise<void>;
}

export async function live(seed: number, variant: Variant | null = null): Promise<Life> {
  return new Simulation(scenarioOf(seed), variant).run();
}

interface Member {
  readonly crew: Crew;
  readonly wires: readonly Wire[];
  gone: boolean;
}

class Simulation {
  readonly #scenario: Scenario;
  readonly #variant: Variant | null;
  readonly #world: World;
  readonly #random: Random;
  readonly #safety: Safety;
  readonly #members: Member[] = [];
  readonly #operations: string[] = [];
  readonly #approved = new Set<string>();
  readonly #trace: string[] = [];
  readonly #lost = new Set<string>();
  readonly #dead = new Set<string>();
  readonly #silentUntilMs = new Map<string, number>();
  #storeAwayUntilMs = 0;
  #askedMs = Number.NEGATIVE_INFINITY;
  #broken: Error | null = null;
  /** Acts that are under way. */
  #acting = 0;

  constructor(scenario: Scenario, variant: Variant | null) {
    this.#scenario = scenario;
    this.#safety = new Safety(scenario.mayShutDown);
    this.#variant = variant;
    this.#random = new Random(scenario.seed, 'wires');
    this.#world = new World(scenario.fleet, { turnEvery: scenario.seed % TURNS_IN_ONE_OF === 0 ? 1 : 200 });
  }

  async run(): Promise<Life> {
    const { seed, acts, processes } = this.#scenario;
    const { clock } = this.#world;
    let fault: string | null = null;
    try {
      // The fleet is not new: an empty store would be taken for a new one.
      await this.#world.budget.doubt();
      for (const hosts of processes) await this.#start(hosts);
      void this.#again();
      for (const { atMs, act } of acts) void clock.sleep(atMs).then(() => this.#carefully(act));
      await this.#trouble();
      await this.#peace();
      await this.#until(() => this.#allEnded(), PEACE_MS);
      await this.#until(this.#after(REST_MS), 2 * REST_MS);
      // Gone over to a host whose death its source had not noticed yet.
      for (const { vm, stage, destination } of (await this.#world.simulated.view()).migrations) {
        if (stage === 'postCopy' && this.#dead.has(destination)) this.#lost.add(vm);
      }
      await atTheEnd(this.#world, {
        operations: await this.#known(),
        lost: this.#lost,
        deadHosts: this.#dead,
        mayShutDown: this.#scenario.mayShutDown,
      });
      if (this.#broken !== null) throw this.#broken;
    } catch (error) {
      fault = error instanceof Violation ? error.message : ((error as Error).stack ?? String(error));
    }
    // What stops nothing but a delivery is delivered again; a fault of ours is one all the same.
    const unexpected = this.#world.delivery.errors.find(
      (error) => !(error instanceof HostevacError) || error.code === 'internal',
    );
    if (fault === null && unexpected !== undefined) fault = (unexpected as Error).stack ?? String(unexpected);
    for (const { crew } of this.#members) crew.kill();
    const transitions = new Set(this.#world.transitions.map(({ from, cause }) => `${from} ${cause}`));
    return { seed, fault, trace: await this.#story(), virtualMs: clock.monotonic(), transitions };
  }

  /** Lets time pass, and looks after every step. */
  async #until(isSo: () => boolean | Promise<boolean>, limitMs: number): Promise<void> {
    await this.#world.clock.runUntil(async () => {
      if (this.#broken !== null) throw this.#broken;
      this.#safety.step(await this.#world.simulated.view());
      return isSo();
    }, limitMs);
  }

  /** Until its time is over, or nothing of it is left, nothing is on its way and nobody has anything to do: time would only pass. */
  async #trouble(): Promise<void> {
    const isOver = this.#after(TROUBLE_MS);
    const isLast = this.#after(overMs(this.#scenario.acts));
    await this.#until(
      async () => isOver() || (isLast() && this.#isQuiet() && (await this.#allEnded(false))),
      TROUBLE_MS + 1_000,
    );
  }

  /** Also what a dead process asked for has arrived. */
  #isQuiet(): boolean {
    return this.#acting === 0 && this.#members.every(({ wires }) => wires.every(({ underWay }) => underWay === 0));
  }

  async #again(): Promise<void> {
    const { everySecond } = this.#variant ?? {};
    while (everySecond !== undefined) {
      await everySecond(this.#world);
      await this.#world.clock.sleep(1_000);
    }
  }

  #after(ms: number): () => boolean {
    const { clock } = this.#world;
    const untilMs = clock.monotonic() + ms;
    void clock.sleep(ms);
    return () => clock.monotonic() >= untilMs;
  }

  /** `approving`: what waits for approval is found good. Else it waits, and has not ended. */
  async #allEnded(approving = true): Promise<boolean> {
    const { clock, records, delivery } = this.#world;
    // Soon enough, and most of what a life's end costs.
    if (clock.monotonic() < this.#askedMs + 2_000) return false;
    this.#askedMs = clock.monotonic();
    let isOver = true;
    for (const id of this.#operations) {
      const record = await records.operation(id);
      if (record === null || ENDED_OPERATION_STATES.has(record.state)) continue;
      isOver = false;
      // Now and again somebody looks at what waits for approval, and finds it good.
      if (approving && needsApproval(record)) await this.#approve(id);
    }
    // Of a request that was lost what has begun goes on.
    return isOver && delivery.pending.length === 0;
  }

  /** Until somebody has approved anything, nothing is done. */
  async #approve(id: string): Promise<void> {
    const { records, claims, delivery, clock } = this.#world;
    const record = await this.#world.operation(id);
    if (needsApproval(record) && !this.#approved.has(id)) {
      const { vms, reservations, cordons } = await claims.read();
      const isClaimed =
        Object.values(vms).includes(id) ||
        Object.values(reservations).some(({ operationId }) => operationId === id) ||
        Object.values(cordons).some(({ operations }) => operations.includes(id));
      if (isClaimed || record.round > 0) throw new Violation(`${id} has begun before anybody approved it`);
    }
    if ((await approve({ records, delivery, clock }, id, null)).changed) this.#approved.add(id);
  }

  /** A request that was lost with a store's last writes is nobody's any more. */
  async #known(): Promise<string[]> {
    const records = await Promise.all(this.#operations.map((id) => this.#world.records.operation(id)));
    return records.flatMap((record) => (record === null ? [] : [record.id]));
  }

  async #start(hosts: readonly string[]): Promise<void> {
    const { clock } = this.#world;
    const wire = (to: Wire['to'], awayUntilMs: () => number, error: Wire['error']): Wire => ({
      to,
      clock,
      random: this.#random,
      badUntilMs: 0,
      underWay: 0,
      awayUntilMs,
      error,
    });
    const store = wire('store', () => this.#storeAwayUntilMs, storeError);
    const fleet = wire('fleet', () => 0, fleetError);
    const options: CrewOptions = {
      hosts,
      locks: true,
      store: linkOver(store),
      wire: linkOver(fleet),
      hypervisor: (real) => silentHypervisor(real, (host) => this.#hearing(host)),
      throttle: (real) => silentThrottle(real, (host) => this.#hearing(host)),
      log: (real) => this.#watched(real),
      onSend: (command) => this.#soundly(() => this.#safety.sends(this.#world, command)),
    };
    const crew = await this.#world.crew(this.#variant?.crew?.(options, this.#world) ?? options);
    this.#members.push({ crew, wires: [store, fleet], gone: false });
  }

  /** Sees who wrote what to the fleet. */
  #watched(real: SimulationLog): SimulationLog {
    return {
      readSince: (index) => real.readSince(index),
      compact: (state) => real.compact(state),
      append: async (command, since) => {
        const token = 'token' in command ? command.token : null;
        const read = await real.append(await this.#rewritten(command), since);
        if (token !== null && 'vm' in command) {
          const { history } = await this.#world.simulated.view();
          const line = history.findLast(({ index }) => index === read.index);
          // What is refused stands there; a throttle's renewal that was taken does not.
          if ((line?.refusal ?? null) === null) this.#soundly(() => this.#safety.took({ vm: command.vm, token }));
        }
        return read;
      },
    };
  }

  /** Where nobody checks tokens, any will do. */
  async #rewritten(command: Command): Promise<Command> {
    if (command.kind === 'fault' || this.#variant?.unchecked?.has(command.kind) !== true) return command;
    const { tokens } = await this.#world.simulated.view();
    return { ...command, token: Math.max(command.token, tokens[command.vm] ?? 0) };
  }

  #soundly(check: () => void): void {
    try {
      check();
    } catch (error) {
      this.#broken ??= error as Error;
    }
  }

  #hearing(host: string): void {
    if (this.#world.clock.monotonic() < (this.#silentUntilMs.get(host) ?? 0)) throw fleetError(`${host} is silent`);
  }

  async #carefully(act: Act): Promise<void> {
    this.#tell(describe(act));
    this.#acting += 1;
    try {
      await this.#carryOut(act);
    } catch (error) {
      this.#broken ??= error as Error;
    } finally {
      this.#acting -= 1;
    }
  }

  async #carryOut(act: Act): Promise<void> {
    const { clock, delivery } = this.#world;
    const untilMs = 'forMs' in act ? clock.monotonic() + act.forMs : 0;
    switch (act.kind) {
      case 'evacuate':
        return this.#ask(
          evacuate(act.host, policyOf(act.terms), act.terms.deadlineMs, {
            approveFirst: act.terms.approveFirst ?? false,
            nonMigratable: act.terms.nonMigratable ?? 'block',
            shutdownTimeoutMs: 30_000,
          }),
        );
      case 'balance':
        return this.#ask({
          ...balance([...act.moves], policyOf(act.terms)),
          approveFirst: act.terms.approveFirst ?? false,
        });
      case 'cancel':
      case 'pause':
      case 'pauseNow':
      case 'resume':
      case 'approve': {
        const id = this.#operations[act.operation];
        if (id === undefined || !(await this.#known()).includes(id)) return;
        const deps = { records: this.#world.records, delivery };
        if (act.kind === 'approve') await this.#approve(id);
        else if (act.kind === 'cancel') await cancel(deps, id);
        else if (act.kind === 'resume') await resume(deps, id);
        else await pause(deps, id, act.kind === 'pauseNow');
        return;
      }
      case 'close': {
        const member = this.#members[act.process];
        if (member === undefined || member.gone) return;
        member.gone = true;
        void member.crew.close().catch((error: unknown) => this.#hear(error));
        return;
      }
      case 'kill': {
        const member = this.#members[act.process];
        if (member === undefined || member.gone) return;
        member.gone = true;
        await this.#lastMoments(member, act.badWiresMs);
        member.crew.kill();
        this.#tell(`process ${act.process + 1} is dead`);
        return;
      }
      case 'stop': {
        const member = this.#members[act.process];
        if (member === undefined || member.gone) return;
        await this.#lastMoments(member, act.badWiresMs);
        member.crew.process.stop();
        await clock.sleep(act.forMs);
        this.#tell(`process ${act.process + 1} goes on`);
        member.crew.process.goOn();
        delivery.deliverWaiting();
        return;
      }
      case 'start':
        return this.#start(act.hosts);
      case 'storeAway':
        this.#storeAwayUntilMs = untilMs;
        return;
      case 'lostWrites': {
        const ms = Math.min(act.ms, clock.monotonic() - 1);
        if (ms <= 0) return;
        this.#world.cells.forget(ms);
        delivery.forget(ms);
        return;
      }
      case 'hostSilent':
        this.#silentUntilMs.set(act.host, untilMs);
        return;
      case 'capacity': {
        const { resource, part } = act;
        const atMs = clock.now();
        const spec = this.#world.fleet.hosts.find(({ name }) => name === resource.host);
        const whole = spec?.[resource.kind] ?? 0;
        for (let times = 0; times < act.times && clock.monotonic() < TROUBLE_MS; times += 1) {
          await this.#world.budget.override(resource, { bytesPerSec: whole * part, by: 'an operator', atMs });
          await clock.sleep(act.forMs);
          await this.#world.budget.override(resource, null);
          await clock.sleep(act.forMs);
        }
        return;
      }
      case 'badWires':
        for (const wire of this.#members[act.process]?.wires ?? []) {
          if (act.only === undefined || wire.to === act.only) wire.badUntilMs = untilMs;
        }
        return;
      case 'deliverAgain':
        for (const item of delivery.pending) {
          const cut = item.lastIndexOf(' ');
          delivery.deliverAgain(item.slice(0, cut), item.slice(cut + 1));
        }
        return;
      case 'fault':
        if (act.fault.kind === 'hostDies') await this.#noteLosses(act.fault.host);
        // What is to go wrong on a host that is dead already cannot.
        await this.#world.simulated.inject(act.fault).catch((error: unknown) => this.#hear(error));
    }
  }

  async #lastMoments({ wires }: Member, badMs: number): Promise<void> {
    const { clock } = this.#world;
    for (const wire of wires) wire.badUntilMs = Math.max(wire.badUntilMs, clock.monotonic() + badMs);
    await clock.sleep(badMs);
  }

  /** A store that is away for those who close says nothing of the VMs. */
  #hear(error: unknown): void {
    if (!(error instanceof HostevacError) || !['redisAway', 'hostUnreachable'].includes(error.code))
      this.#broken ??= error as Error;
  }

  async #ask(request: OperationRequest): Promise<void> {
    this.#operations.push(await this.#world.request(request));
  }

  async #noteLosses(host: string): Promise<void> {
    const state = await this.#world.simulated.view();
    this.#dead.add(host);
    for (const [vm, { state: how }] of Object.entries(state.hosts[host]?.copies ?? {})) {
      if (how === 'running' || how === 'paused') this.#lost.add(vm);
    }
    // Its memory is at both ends, or about to be.
    for (const { vm, source, destination, arrival, stage } of state.migrations) {
      if ((arrival !== null || stage === 'postCopyHandover') && (source === host || destination === host))
        this.#lost.add(vm);
    }
  }

  /** Nothing goes wrong any more: whoever was stopped goes on, and somebody serves every host. */
  async #peace(): Promise<void> {
    this.#tell('all is well from here on');
    this.#storeAwayUntilMs = 0;
    this.#silentUntilMs.clear();
    for (const { crew, wires } of this.#members) {
      for (const wire of wires) wire.badUntilMs = 0;
      crew.process.goOn();
    }
    this.#world.delivery.deliverWaiting();
    await this.#start(this.#world.fleet.hosts.map(({ name }) => name));
    // An operator's word that the store has lost is said again.
    for (const { act } of this.#scenario.acts)
      if (act.kind === 'capacity') await this.#world.budget.override(act.resource, null);
    // Those that died do not come back, which only a person can know.
    for (const host of this.#dead)
      await this.#world.abandoned.confirmDown(host, 'an operator', this.#world.clock.now());
    for (const id of await this.#known()) {
      await resume({ records: this.#world.records, delivery: this.#world.delivery }, id);
    }
  }

  #tell(what: string): void {
    this.#trace.push(`${stamp(this.#world.clock.now())} -- ${what}`);
  }

  /** What was done to the fleet, and what was told, in order. */
  async #story(): Promise<string[]> {
    const told: { atMs: number; line: string }[] = [];
    for (const id of this.#operations) {
      for (const { atMs, message } of await this.#world.told(id)) told.push({ atMs, line: `${id} ${message}` });
    }
    for (const item of this.#world.delivery.pending) this.#tell(`the queue has ${item}`);
    for (const id of await this.#known()) {
      const { state, waitingFor } = await this.#world.operation(id);
      if (!ENDED_OPERATION_STATES.has(state)) this.#tell(`${id} is ${state}: ${waitingFor.join('; ')}`);
      for (const { vm, state: where, step, reason } of await this.#world.moves(id)) {
        if (!ENDED_MOVE_STATES.has(where)) this.#tell(`${id} ${vm} is ${step}: ${reason?.message ?? ''}`);
      }
    }
    const lines = told.map(({ atMs, line }) => `${stamp(atMs)} ${line}`);
    return [...this.#trace, ...lines].sort((one, other) => Number.parseFloat(one) - Number.parseFloat(other));
  }
}

function policyOf({ maxTimeMs, atDeadline, controller, minCpuShare }: Terms) {
  return { maxTimeMs, atDeadline, controller, minCpuShare };
}

/** When the last of them has begun and what it does for a while is over. */
function overMs(acts: readonly Planned[]): number {
  const ends = acts.map(({ atMs, act }) => {
    if ('forMs' in act) return atMs + act.forMs;
    return atMs + (act.kind === 'fault' && 'durationMs' in act.fault ? act.fault.durationMs : 0);
  });
  return Math.max(...ends) + 1;
}

/** Seconds since the beginning. */
function stamp(nowMs: number): string {
  return ((nowMs - 1_000_000) / 1_000).toFixed(3).padStart(9);
}

function describe(act: Act): string {
  const { kind, ...rest } = act;
  if ('process' in rest) return `${kind} process ${rest.process + 1}${'forMs' in rest ? ` for ${rest.forMs} ms` : ''}`;
  return `${kind} ${JSON.stringify(rest)}`;
}
