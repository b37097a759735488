/** A unix socket in front of a Redis whose clock is wrong: what TIME answers is shifted, everything else passes as it is. */
import { connect, createServer, type Server } from 'node:net';
import { until } from '../support/condition.ts';

/** `*2`, seconds and microseconds as bulk strings: no other reply of Redis that is asked here looks like it. */
const TIME_REPLY = /^\*2\r\n\$10\r\n(\d{10})\r\n\$(\d)\r\n(\d+)\r\n$/;

export class TimeRelay {
  readonly #server: Server;

  constructor(socketPath: string, target: string, aheadS: number) {
    this.#server = createServer((client) => {
      const upstream = connect(target);
      const end = (): void => {
        client.destroy();
        upstream.destroy();
      };
      for (const socket of [client, upstream]) socket.on('error', end).on('close', end);
      client.on('data', (data) => upstream.write(data));
      upstream.on('data', (data) => {
        const time = TIME_REPLY.exec(data.toString('latin1'));
        if (time === null) client.write(data);
        else client.write(`*2\r\n$10\r\n${Number(time[1]) + aheadS}\r\n$${time[2]}\r\n${time[3]}\r\n`);
      });
    }).listen(socketPath);
  }

  async ready(): Promise<void> {
    await until(() => this.#server.listening, 5_000, 'a relay');
  }

  close(): void {
    this.#server.close();
  }
}
