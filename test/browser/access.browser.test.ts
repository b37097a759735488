/** Tokens and roles: the form, what is refused, and what each role does not even see. */
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeWith } from '../support/needs.ts';
import { expectQuiet, launch, openPage, SLOW, type Watched } from './browser.ts';
import { Place, smallFleet } from './place.ts';

/** Chromium reports every refused request on its console. */
const REFUSED = /status of 401/;

describeWith(['browser', 'redis'], 'who may do what in the dashboard', () => {
  let browser: Browser;
  let place: Place;
  const tokens = { viewer: '', operator: '', admin: '' };
  beforeAll(async () => {
    [browser, place] = await Promise.all([launch(), Place.open(smallFleet(10))]);
    for (const role of ['viewer', 'operator', 'admin'] as const) {
      const made = await place.run('token', 'create', '--name', `some-${role}`, '--role', role);
      tokens[role] = made.stdout.trim();
    }
  });
  afterAll(async () => {
    await browser.close();
    await place.close();
  });

  async function signedIn(role: keyof typeof tokens): Promise<Watched> {
    const watched = await openPage(browser, place.url, '#/', { expected: REFUSED });
    await watched.page.getByLabel('Token').fill(tokens[role]);
    await watched.page.getByRole('button', { name: 'Sign in' }).click();
    await watched.page.getByRole('heading', { name: 'Fleet' }).waitFor();
    return watched;
  }

  it('a wrong token is refused in words; the right one stays in the tab and in no address', async () => {
    const watched = await openPage(browser, place.url, '#/hosts/node-a', { expected: REFUSED });
    const { page } = watched;
    const asked: string[] = [];
    page.on('request', (request) => asked.push(request.url()));
    await page.getByLabel('Token').fill('hev_wrong');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByText('The server does not take this token').waitFor();
    await page.getByLabel('Token').fill(tokens.viewer);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'node-a' }).waitFor();
    await page.reload();
    await page.getByRole('heading', { name: 'node-a' }).waitFor();
    expect(asked.filter((url) => url.includes(tokens.viewer))).toEqual([]);
    expect(await page.evaluate('JSON.stringify(Object.values(localStorage)) + document.cookie')).not.toContain(
      tokens.viewer,
    );
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByRole('heading', { name: 'Sign in' }).waitFor();
    expectQuiet(watched);
    await watched.close();
  });

  it('a viewer sees everything and no control that changes anything', async () => {
    await place.run('evacuate', 'node-b');
    const watched = await signedIn('viewer');
    const { page } = watched;
    await page.getByRole('link', { name: 'node-b', exact: true }).waitFor();
    expect(await page.getByRole('link', { name: /^Evacuate/ }).count()).toBe(0);
    expect(await page.getByRole('link', { name: 'Audit' }).count()).toBe(0);
    await page.getByRole('link', { name: 'node-b', exact: true }).click();
    await page.getByRole('heading', { name: 'Capacity' }).waitFor();
    expect(await page.getByRole('button', { name: /Cordon|Uncordon/ }).count()).toBe(0);
    await page.getByRole('link', { name: 'Operations' }).click();
    await page.getByRole('link', { name: /^Evacuation of node-b/ }).click();
    await page.getByRole('heading', { name: 'Plan against reality' }).waitFor();
    expect(await page.getByRole('button', { name: /Cancel|Pause|Resume|Approve/ }).count()).toBe(0);
    await page.getByRole('link', { name: 'Rebalance' }).click();
    await page.getByText('Your role may look, but not start anything.').waitFor();
    expectQuiet(watched);
    await watched.close();
  });

  it('an operator cordons and moves what is named; an admin reads who did it', async () => {
    const operator = await signedIn('operator');
    const { page } = operator;
    await page.getByRole('link', { name: 'node-c', exact: true }).click();
    await page.getByRole('button', { name: 'Cordon' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Cordon' }).click();
    await page.getByRole('button', { name: 'Uncordon' }).waitFor();
    expect(await page.getByText('Change what it may send and take').count()).toBe(0);
    await page.getByRole('link', { name: 'Rebalance' }).click();
    await page.getByRole('combobox', { name: 'VM', exact: true }).selectOption('web-1');
    await page.getByRole('combobox', { name: 'To', exact: true }).selectOption('node-d');
    await page.getByRole('button', { name: 'Add the move' }).click();
    await page.getByRole('table', { name: 'Planned moves, in their order' }).getByText('node-d').waitFor();
    await page.getByRole('button', { name: 'Start…' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Start' }).click();
    await page.getByRole('heading', { name: 'Rebalance' }).waitFor();
    await expect.poll(() => page.locator('.page-head .badge').textContent(), { timeout: 30_000 }).toBe('done');
    expectQuiet(operator);
    await operator.close();

    const admin = await signedIn('admin');
    await admin.page.getByRole('link', { name: 'Audit' }).click();
    const audit = admin.page.getByRole('table', { name: 'Changes, newest first' });
    await audit.waitFor();
    await expect.poll(() => audit.getByText('some-operator (operator)').count(), SLOW).toBeGreaterThanOrEqual(2);
    await admin.page.getByRole('link', { name: 'Fleet' }).click();
    await admin.page.getByRole('link', { name: 'node-d', exact: true }).click();
    await admin.page.getByText('Change what it may send and take').click();
    await admin.page.getByLabel('Egress').fill('fast');
    await admin.page.getByRole('button', { name: 'Set' }).click();
    await admin.page
      .getByRole('alert')
      .getByText(/^egress.*expected a rate/)
      .waitFor();
    await admin.page.getByLabel('Egress').fill('50MiB/s');
    await admin.page.getByRole('button', { name: 'Set' }).click();
    await admin.page.getByText(/egress 50MiB\/s by some-admin/).waitFor();
    // Chromium says on its console that a request was answered with 400.
    expect(admin.faults.filter((fault) => !fault.includes('status of 400'))).toEqual([]);
    await admin.close();
  });
});
