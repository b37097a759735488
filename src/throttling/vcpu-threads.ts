/** What a throttle must know of a VM: the threads that are its vCPUs. Hypervisor adapters tell; nothing here asks. */

export interface VcpuThreads {
  /** The hypervisor process and its start, in clock ticks since boot: pids are used again. */
  readonly pid: number;
  readonly startTicks: number;
  /** Thread ids; the index is the vCPU's. Never the emulator's or the migration's threads. */
  readonly tids: readonly number[];
}

/** null: the VM does not run on that host. Throws `hostUnreachable` when its hypervisor does not answer. */
export type VcpuThreadsOf = (host: string, vm: string) => Promise<VcpuThreads | null>;
