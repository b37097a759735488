/** What-if in the browser: the slider's figures are the API's, and agree with those of the command line. */
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import type { z } from 'zod';
import { type WhatIf, whatIfSchema } from '../../src/api/schemas/fleet.ts';
import { intervalSchema } from '../../src/domain/prediction.ts';
import { whatIfFigures } from '../../src/domain/what-if-words.ts';
import { describeWith } from '../support/needs.ts';
import { expectQuiet, launch, openPage, SLOW } from './browser.ts';
import { Place, smallFleet } from './place.ts';

const SLIDER = /^Aggression/;

describeWith(['browser', 'redis'], 'what-if in the dashboard', () => {
  let browser: Browser;
  let place: Place;
  beforeAll(async () => {
    [browser, place] = await Promise.all([launch(), Place.open(smallFleet(10))]);
  });
  afterAll(async () => {
    await browser.close();
    await place.close();
  });
  let answers: Promise<WhatIf>[] = [];
  beforeEach(() => {
    answers = [];
  });

  it('moving the slider shows the row of that aggression, figure by figure as the API gave it', async () => {
    const watched = await openPage(browser, place.url);
    const { page } = watched;
    page.on('response', (response) => {
      if (response.url().endsWith('/what-if')) answers.push(response.json().then((body) => whatIfSchema.parse(body)));
    });
    await page.getByRole('link', { name: 'node-a', exact: true }).click();
    await page.getByRole('link', { name: 'What would moving db-1 cost?' }).click();
    const slider = page.getByRole('slider', { name: SLIDER });
    await slider.waitFor({ timeout: 20_000 });
    const answer = await answers[0];
    if (answer === undefined) throw new Error('nothing was asked');
    const rows = answer.rows.filter(({ aggression }) => aggression !== null);
    expect(rows).toHaveLength(11);
    await slider.focus();
    await page.keyboard.press('Home');
    const seen = new Set<string>();
    for (const [place_, row] of rows.entries()) {
      if (place_ > 0) await page.keyboard.press('ArrowRight');
      const figures = whatIfFigures(row, answer.policy);
      await expect.poll(() => page.locator('.slider output').textContent(), SLOW).toBe(String(row.aggression));
      const shown = {
        total: await page.locator('[data-cost=total]').textContent(),
        downtime: await page.locator('[data-cost=downtime]').textContent(),
        cpu: await page.locator('[data-cost=cpu]').textContent(),
        harm: await page.locator('[data-cost=harm]').textContent(),
      };
      expect(shown).toEqual({
        total: figures.total,
        downtime: figures.downtime,
        cpu: `${figures.meanShare} on average, least share ${figures.minShare}`,
        harm: figures.harm,
      });
      await expect.poll(() => slider.getAttribute('aria-valuetext'), SLOW).toContain(`total ${figures.total}`);
      const broken = row.breaks.map(({ requirement }) => requirement).toSorted();
      const shownBroken = await page
        .locator('.requirements .broken')
        .evaluateAll((all) => all.map((each) => each.getAttribute('data-requirement')));
      expect(shownBroken.toSorted()).toEqual(broken);
      seen.add(JSON.stringify(shown));
    }
    // A hot guest costs differently at each end.
    expect(seen.size).toBeGreaterThan(2);
    await expect.poll(() => page.getByRole('row', { name: /^never throttled/ }).count(), SLOW).toBe(1);
    await page.getByRole('button', { name: 'Measure again' }).click();
    await expect.poll(() => answers.length, { timeout: 20_000 }).toBe(2);
    expectQuiet(watched);
    await watched.close();
  });

  it('agrees with hostevac what-if: two measurements of one guest, each median within the interval of the other', async () => {
    const cli = whatIfSchema.pick({ rows: true }).parse(await place.json('what-if', 'db-1'));
    const response = await fetch(`${place.url}/v1/vms/db-1/what-if`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{}',
    });
    const api = whatIfSchema.parse(await response.json());
    expect(api.rows.map(({ aggression }) => aggression)).toEqual(cli.rows.map(({ aggression }) => aggression));
    for (const [index, row] of api.rows.entries()) {
      const other = cli.rows[index];
      if (other === undefined) throw new Error('a row less');
      for (const figure of ['totalMs', 'downtimeMs', 'harmCpuMs'] as const) {
        const [one, two] = [row, other].map(({ prediction }) => intervalSchema.parse(prediction[figure]));
        expect([figure, row.aggression, within(one, two) && within(two, one)]).toEqual([figure, row.aggression, true]);
      }
    }
  });

  it('a floor and a time that no aggression keeps: what would break is said', async () => {
    const watched = await openPage(browser, place.url, '#/vms/large-1');
    const { page } = watched;
    await page.getByRole('slider', { name: SLIDER }).waitFor({ timeout: 20_000 });
    await page.getByRole('combobox', { name: 'Policy' }).selectOption('rebalance');
    await expect
      .poll(() => page.locator('[data-requirement=minCpu]').textContent(), { timeout: 20_000 })
      .toContain('50%');
    expectQuiet(watched);
    await watched.close();
  });

  it('requirements of my own: measured with them, and what is wrong with them is said', async () => {
    const watched = await openPage(browser, place.url, '#/vms/large-1', { expected: /status of 400/ });
    const { page } = watched;
    await page.getByRole('slider', { name: SLIDER }).waitFor({ timeout: 20_000 });
    await page.getByText('Requirements of your own').click();
    await page.getByRole('textbox', { name: 'Max time per VM' }).fill('soon');
    await page.getByRole('textbox', { name: 'Min CPU share' }).fill('65%');
    await page.getByRole('textbox', { name: 'Min CPU share' }).press('Enter');
    await expect.poll(() => page.getByRole('alert').textContent(), { timeout: 20_000 }).toContain('maxTime');
    // What is only typed is not measured with.
    await page.getByRole('textbox', { name: 'Max time per VM' }).fill('');
    await page.getByRole('button', { name: 'Measure with these' }).click();
    await expect.poll(() => page.getByRole('alert').count(), { timeout: 20_000 }).toBe(0);
    await page.getByRole('textbox', { name: 'Max time per VM' }).fill('soon');
    const [asked] = await Promise.all([
      page.waitForResponse((response) => response.url().endsWith('/what-if'), { timeout: 20_000 }),
      page.getByRole('combobox', { name: 'Policy' }).selectOption('emergency'),
    ]);
    expect(asked.request().postDataJSON()).toEqual({ policy: 'emergency', minCpu: 0.65 });
    expect(asked.status()).toBe(200);
    await page.getByText('(1 in force)').waitFor();
    await page.getByRole('textbox', { name: 'Max time per VM' }).fill('20m');
    await page.getByRole('button', { name: 'Measure with these' }).click();
    const requirement = (name: string) => page.locator(`[data-requirement=${name}]`).textContent();
    await expect.poll(() => requirement('maxTime'), { timeout: 20_000 }).toContain('20m');
    expect(await requirement('minCpu')).toContain('65%');
    expectQuiet(watched);
    await watched.close();
  });
});

function within(
  one: z.infer<typeof intervalSchema> | undefined,
  two: z.infer<typeof intervalSchema> | undefined,
): boolean {
  return one !== undefined && two !== undefined && one.value >= two.low * 0.95 && one.value <= two.high * 1.05;
}
