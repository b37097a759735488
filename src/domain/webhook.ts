/** Webhooks as a fleet file names them, which events each wants, and how long its notices come before a move. Pure. */
import { z } from 'zod';
import { durationText } from './units.ts';

const eventGlob = z.string().regex(/^[A-Za-z.*]{1,64}$/, {
  error: 'expected a kind of event, * for any part of it, such as operation.*, move.done, *',
});

export const webhookSchema = z
  .strictObject({
    name: z
      .string()
      .regex(/^[A-Za-z0-9_-]{1,64}$/, { error: 'expected 1 to 64 letters, digits, - or _' })
      .describe('What logs and metrics call it; unique in the fleet. Under another name it starts anew.'),
    url: z
      .url({ protocol: /^https?$/, error: 'expected a URL such as https://hooks.example/hostevac' })
      .max(2_000)
      .describe('Where events are posted to. Redirects are not followed.'),
    secretEnv: z
      .string()
      .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, { error: 'expected the name of an environment variable' })
      .optional()
      .describe('Environment variable of the operations workers that holds the secret which requests are signed with.'),
    secretFile: z
      .string()
      .min(1, { error: 'expected the path of a file' })
      .optional()
      .describe('File that holds the secret; relative to this file.'),
    events: z
      .array(eventGlob)
      .min(1)
      .max(50)
      .default(['*'])
      .describe('Kinds of events that it wants: operation.*, move.done. Default: all.'),
    noticeBefore: durationText
      .optional()
      .describe(
        'Each move waits so long (fleet time) after its event move.notice, before its guest is touched. The longest of all webhooks counts.',
      ),
  })
  .describe('A receiver of events about operations and moves.');
export type Webhook = z.output<typeof webhookSchema>;

export const NOTICE_EVENT = 'move.notice';

/** Whether a webhook wants events of this kind. */
export function wants({ events }: Pick<Webhook, 'events'>, kind: string): boolean {
  return events.some((glob) => {
    const parts = glob.split('*');
    const [first = '', ...rest] = parts;
    if (rest.length === 0) return kind === glob;
    if (!kind.startsWith(first)) return false;
    const last = rest.pop() ?? '';
    let at = first.length;
    for (const part of rest) {
      const found = kind.indexOf(part, at);
      if (found < 0) return false;
      at = found + part.length;
    }
    return kind.length - last.length >= at && kind.endsWith(last);
  });
}

/** How long a move waits after it was told of, fleet ms: as long as the webhook that wants the most; 0: nobody asks for it. */
export function noticeMs(webhooks: readonly Webhook[]): number {
  return Math.max(0, ...webhooks.map((webhook) => webhook.noticeBefore ?? 0));
}
