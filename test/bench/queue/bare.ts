/** The peer: a BullMQ worker whose jobs tell their progress once a second and do nothing else. Usage: bare.js <socket> <jobs> */
import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';

const [, , socket = '', jobs = ''] = process.argv;
const connection = (): Redis => new Redis({ path: socket, maxRetriesPerRequest: null });

const queue = new Queue('bare', { connection: connection() });
new Worker(
  'bare',
  async (job) => {
    for (let second = 0; ; second += 1) {
      await job.updateProgress(second);
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
  },
  { connection: connection(), concurrency: Number(jobs), lockDuration: 10_000 },
);
await queue.addBulk(Array.from({ length: Number(jobs) }, (_, index) => ({ name: `job-${index}`, data: {} })));
process.stdout.write('started\n');
