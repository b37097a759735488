/** A server that dies and comes back: what was seen stays, it is said since when it is old, and it recovers by itself. */
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { eventSchema } from '../../src/domain/operation.ts';
import { describeWith } from '../support/needs.ts';
import { expectQuiet, launch, openPage, SLOW } from './browser.ts';
import { Place, smallFleet } from './place.ts';

/** Chromium itself says on the console that it could not connect, or that a server that is starting said 503. */
const REFUSED = /net::ERR_(?:CONNECTION|INCOMPLETE|EMPTY)|status of 503/;

describeWith(['browser', 'redis'], 'the dashboard without its server', () => {
  let browser: Browser;
  let place: Place;
  beforeAll(async () => {
    [browser, place] = await Promise.all([launch(), Place.open(smallFleet(10))]);
  });
  afterAll(async () => {
    await browser.close();
    await place.close();
  });

  it('banner, old figures, recovery, and news from before and after in their order', async () => {
    await place.run('evacuate', 'node-b');
    const watched = await openPage(browser, place.url, '#/', { expected: REFUSED });
    const { page } = watched;
    await page.getByRole('link', { name: /^being emptied/ }).click();
    const events = page.getByRole('list', { name: 'Events, newest first' });
    await events.getByText(/large-1: node-b -> \S+ copying/).waitFor();
    await place.down();
    const banner = page.locator('.banner');
    await banner.waitFor();
    await expect
      .poll(() => banner.textContent(), SLOW)
      .toMatch(/^Not connected since \d\d:\d\d:\d\d; what you see is of then\./);
    // Nothing is taken away.
    await page.getByRole('heading', { name: 'Evacuation of node-b' }).waitFor();
    await expect
      .poll(() => page.getByRole('table', { name: 'VMs of this operation' }).getByText('large-1').count(), SLOW)
      .toBe(1);
    const resumed: string[] = [];
    page.on('request', (request) => {
      const id = request.headers()['last-event-id'];
      if (id !== undefined) resumed.push(new URL(request.url()).pathname);
    });
    const before = await events.getByRole('listitem').count();
    await place.up();
    await banner.waitFor({ state: 'detached', timeout: 20_000 });
    // The operation's stream goes on behind what it had.
    await expect.poll(() => resumed.some((path) => path.startsWith('/v1/operations/')), { timeout: 10_000 }).toBe(true);
    await page.getByText('Connected again.').waitFor({ state: 'attached' });
    await page.getByRole('button', { name: 'Cancel operation' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Cancel operation' }).click();
    await expect.poll(() => page.locator('.page-head .badge').textContent(), { timeout: 30_000 }).toBe('cancelled');
    // All that happened, each once, in its order.
    const id = new URL(page.url()).hash.split('/').at(-1);
    const told = await (await fetch(`${place.url}/v1/operations/${id}/events`)).text();
    const messages = [...told.matchAll(/^data: (\{.*"message".*\})$/gm)].map(
      ([, data]) => eventSchema.parse(JSON.parse(data ?? '')).message,
    );
    expect(messages.length).toBeGreaterThan(before);
    const shown = (): Promise<string[]> => events.getByRole('listitem').locator('span:last-child').allTextContents();
    await expect.poll(shown, { timeout: 10_000 }).toEqual(messages.toReversed());
    expectQuiet(watched);
    await watched.close();
  });
});
