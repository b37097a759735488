/** A guest's vCPU thread and the quota that it is under, as the kernel has it (cgroup v1). */
import { existsSync, mkdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { cpusAnswer } from '../../src/hypervisors/qemu/answers.ts';
import { asking, type Copy } from '../lab/place.ts';

interface Hold {
  readonly group: string;
  readonly quota: string;
}

const CPU = '/sys/fs/cgroup/cpu';

export class HeldBack {
  readonly #pid: number;
  readonly #tid: number;
  readonly #home: string;
  readonly #original: Hold | null;

  private constructor({ pid, tid, home }: { readonly pid: number; readonly tid: number; readonly home: string }) {
    this.#pid = pid;
    this.#tid = tid;
    this.#home = home;
    this.#original = this.#now();
  }

  /**
   * In a group of its own, as services and libvirt have them: all threads of QEMU in one without a quota, where a throttle
   * makes another one; or (`lent`) its vCPU alone in one with a quota, which a throttle changes.
   */
  static async of(copy: Copy, lent: boolean): Promise<HeldBack> {
    const [cpu] = await asking(copy.dir.spare, (qmp) => qmp.execute('query-cpus-fast', cpusAnswer));
    if (cpu === undefined) throw new Error(`${copy.vm} has no vCPU`);
    const tid = cpu['thread-id'];
    const home = join(CPU, `hevt-${copy.pid}`);
    mkdirSync(home);
    const [period, quota] = lent ? [80_000, 160_000] : [100_000, -1];
    writeFileSync(join(home, 'cpu.cfs_period_us'), String(period));
    writeFileSync(join(home, 'cpu.cfs_quota_us'), String(quota));
    if (lent) writeFileSync(join(home, 'tasks'), String(tid));
    else writeFileSync(join(home, 'cgroup.procs'), String(copy.pid));
    return new HeldBack({ pid: copy.pid, tid, home });
  }

  /** Group and quota are what they were; a guest that has ended is not held back. */
  get original(): boolean {
    const now = this.#now();
    return now === null || isDeepStrictEqual(now, this.#original);
  }

  /** Whose group the thread is in, with its inode: a group that was removed and made again is another one. Null: not held back. */
  get group(): string | null {
    return this.original ? null : (this.#now()?.group ?? null);
  }

  /** Null: the thread is gone. */
  #now(): Hold | null {
    try {
      const text = readFileSync(`/proc/${this.#pid}/task/${this.#tid}/cgroup`, 'utf8');
      const group = join(CPU, /^\d+:(?:cpu|cpu,cpuacct|cpuacct,cpu):(.*)$/m.exec(text)?.[1] ?? '');
      return { group: `${group} ${statSync(group).ino}`, quota: this.#quotaOf(group) };
    } catch (error) {
      if (!existsSync(`/proc/${this.#pid}/task/${this.#tid}`)) return null;
      // The group went while it was read: the thread has been moved.
      const code = error instanceof Error && 'code' in error ? String(error.code) : '';
      if (['ENOENT', 'ENODEV'].includes(code)) return this.#now();
      throw error;
    }
  }

  #quotaOf(group: string): string {
    const read = (name: string): string => readFileSync(join(group, name), 'utf8').trim();
    return `${read('cpu.cfs_quota_us')}/${read('cpu.cfs_period_us')}`;
  }

  /** Removes the guest's group; throws when it has another quota than it had, or somebody is in it. */
  close(): void {
    const quota = this.#quotaOf(this.#home);
    rmdirSync(this.#home);
    if (quota !== this.#original?.quota) throw new Error(`${this.#home} was left with the quota ${quota}`);
  }
}
