/** An evacuation as a person makes it in the browser: looked at, approved, followed to its end; with the keyboard alone; cancelled. */
import type { Browser } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { z } from 'zod';
import { describeWith } from '../support/needs.ts';
import { expectQuiet, launch, openPage, SLOW, tabTo, type Watched } from './browser.ts';
import { Place, smallFleet } from './place.ts';

const statusSchema = z.object({ operation: z.looseObject({ id: z.string(), state: z.string() }) });

describeWith(['browser', 'redis'], 'evacuations in the dashboard', () => {
  let browser: Browser;
  let place: Place;
  let watched: Watched;
  beforeAll(async () => {
    [browser, place] = await Promise.all([launch(), Place.open(smallFleet(20))]);
  });
  afterAll(async () => {
    await browser.close();
    await place.close();
  });
  beforeEach(async () => {
    watched = await openPage(browser, place.url);
  });
  afterEach(() => watched.close());

  it('preview, start for approval, approve what is proposed, and follow it to its end', async () => {
    const { page } = watched;
    await page.getByRole('link', { name: 'Evacuate node-a' }).click();
    const plan = page.getByRole('table', { name: 'Planned moves, in their order' });
    await plan.waitFor();
    await expect.poll(() => plan.getByRole('row').count(), SLOW).toBe(3);
    await page.getByRole('button', { name: 'Start for approval' }).click();
    await page.getByText('awaits approval').waitFor();
    // Nothing has begun.
    expect(await page.getByRole('table', { name: 'VMs of this operation' }).getByText('copying').count()).toBe(0);
    await page.getByRole('button', { name: 'Approve' }).click();
    const dialog = page.getByRole('dialog', { name: 'Approve this plan?' });
    await expect.poll(() => dialog.getByRole('row').count(), SLOW).toBe(3);
    await dialog.getByRole('button', { name: 'Approve' }).click();
    await dialog.waitFor({ state: 'hidden' });

    const vms = page.getByRole('table', { name: 'VMs of this operation' });
    await vms.getByText('copying').first().waitFor();
    await expect.poll(() => page.locator('.timeline-now').count(), SLOW).toBeGreaterThan(0);
    await page.getByText(/until the host is empty/).waitFor();
    await page.getByText('The host was seen empty').waitFor({ timeout: 90_000 });
    await expect.poll(() => vms.getByText('moved').count(), SLOW).toBe(2);
    await expect.poll(() => page.locator('.timeline-bar').count(), SLOW).toBe(2);
    await expect.poll(() => page.locator('.timeline-expected.before').count(), SLOW).toBe(2);
    await page
      .getByRole('list', { name: 'Events, newest first' })
      .getByText('2 of 2 VMs moved away from node-a')
      .waitFor();
    // What the page says is what the command line says.
    const id = new URL(page.url()).hash.split('/').at(-1) ?? '';
    const { operation } = statusSchema.parse(await place.json('status', id));
    expect(operation).toMatchObject({ id, state: 'done' });

    await vms.getByRole('link', { name: 'db-1' }).click();
    await page.getByRole('heading', { name: /^db-1: node-a to / }).waitFor();
    await expect.poll(() => page.locator('canvas').count(), SLOW).toBe(3);
    await page.getByText('Before the start').waitFor();
    expectQuiet(watched);
  });

  it('with the keyboard alone, from the fleet to the end', async () => {
    const { page } = watched;
    await page.getByRole('link', { name: 'Evacuate node-e' }).waitFor();
    await page.keyboard.press('Tab');
    await expect.poll(() => page.evaluate('document.activeElement.textContent'), SLOW).toBe('Skip to the page');
    await page.keyboard.press('Enter');
    await expect.poll(() => page.evaluate('document.activeElement.id'), SLOW).toBe('main');
    await tabTo(page, 'link', 'Evacuate node-e');
    // What has the focus can be seen.
    await expect.poll(() => page.evaluate('getComputedStyle(document.activeElement).outlineStyle'), SLOW).toBe('solid');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Evacuate node-e' }).waitFor();
    // The focus goes with the page.
    await expect.poll(() => page.evaluate('document.activeElement.textContent')).toBe('Evacuate node-e');
    await tabTo(page, 'slider', /Aggression/);
    await page.keyboard.press('ArrowRight');
    await page.getByRole('button', { name: 'As the policy says' }).waitFor();
    await page.getByRole('table', { name: 'Planned moves, in their order' }).waitFor();
    await tabTo(page, 'button', 'Start…');
    await page.keyboard.press('Enter');
    const dialog = page.getByRole('dialog', { name: 'Evacuate node-e?' });
    await dialog.waitFor();
    // Escape leaves it, and the focus is where it was.
    await page.keyboard.press('Escape');
    // Gone, and not only closed: its end is told a moment later, and nobody is as quick as a machine.
    await page.locator('dialog').waitFor({ state: 'detached' });
    await expect.poll(() => page.evaluate('document.activeElement.textContent'), SLOW).toBe('Start…');
    await page.keyboard.press('Enter');
    await tabTo(page, 'button', 'Start');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Evacuation of node-e' }).waitFor();
    await page.getByText('maintenance, aggression 0.6').waitFor();
    await page.getByText('The host was seen empty').waitFor({ timeout: 90_000 });
    expectQuiet(watched);
  });

  it('pause, resume and cancel, each after a question', async () => {
    const { page } = watched;
    await place.run('evacuate', 'node-b');
    await page.getByRole('link', { name: 'Operations' }).click();
    await page.getByRole('link', { name: /^Evacuation of node-b/ }).click();
    const answer = async (question: string, button: string): Promise<void> => {
      const dialog = page.getByRole('dialog', { name: question });
      await dialog.getByRole('button', { name: button, exact: true }).click();
      await dialog.waitFor({ state: 'hidden' });
    };
    const badge = page.locator('.page-head .badge');
    await page.getByRole('table', { name: 'VMs of this operation' }).getByText('copying').waitFor();
    await page.getByRole('button', { name: 'Pause' }).click();
    await page.getByRole('checkbox', { name: /End the running ones/ }).check();
    await answer('Pause this operation?', 'Pause');
    await expect.poll(() => badge.textContent(), SLOW).toBe('paused');
    await page.getByRole('button', { name: 'Resume' }).click();
    await answer('Go on with this operation?', 'Resume');
    await expect.poll(() => badge.textContent(), SLOW).toBe('running');
    await page.getByRole('button', { name: 'Cancel operation' }).click();
    await answer('Cancel this operation?', 'Cancel operation');
    await expect.poll(() => badge.textContent(), SLOW).toBe('cancelled');
    expect(await page.getByRole('button', { name: 'Cancel operation' }).count()).toBe(0);
    expectQuiet(watched);
  });
});
