/**
 * The words for VMs that cannot be migrated: what may be done with them, what a request may say of all of them, and the
 * label by which a VM speaks for itself. Which of the two holds is planning/treatment.ts (decision 0035).
 */

/**
 * `block`: it keeps the host from being done, and is listed with the hypervisor's reason. `skip`: it is left where it is on
 * purpose. `shutdown`: its guest is asked to shut down, and never made to.
 */
export const treatments = ['block', 'skip', 'shutdown'] as const;
export type Treatment = (typeof treatments)[number];

/** What a request may say: one of them for all, or `label`: shut down those whose own label says so, and no others. */
export const nonMigratableChoices = [...treatments, 'label'] as const;
export type NonMigratable = (typeof nonMigratableChoices)[number];

export const NON_MIGRATABLE_LABEL = 'hostevac.non-migratable';

/** How long a guest has to shut down. */
export const SHUTDOWN_TIMEOUT_MS = 120_000;
