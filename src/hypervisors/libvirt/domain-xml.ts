/** What a domain's definition says that its statistics do not: labels, and devices that cannot go with it. Pure. */
import { XMLParser } from 'fast-xml-parser';
import { z } from 'zod';

/** `<hostevac:labels xmlns:hostevac="urn:hostevac:labels"><label name="…">value</label></hostevac:labels>`. */
export const LABELS_URI = 'urn:hostevac:labels';

export interface DomainDefinition {
  readonly labels: Readonly<Record<string, string>>;
  /** In libvirt's words for it; null: nothing that is known here. */
  readonly notMigratable: string | null;
}

const labelSchema = z.object({ '@name': z.string(), '#text': z.union([z.string(), z.number()]).default('') });
const schema = z.object({
  domain: z.looseObject({ metadata: z.unknown().optional(), devices: z.unknown().optional() }),
});
const devicesSchema = z.object({ hostdev: z.array(z.looseObject({ '@mode': z.string(), '@type': z.string() })) });

const LISTS: ReadonlySet<string> = new Set(['hostdev', 'label']);

/** Throws (any error) for what is no domain. */
export function definitionOf(text: string): DomainDefinition {
  const parser = new XMLParser({
    ignoreAttributes: false,
    attributeNamePrefix: '@',
    parseAttributeValue: false,
    parseTagValue: false,
    removeNSPrefix: false,
    // libvirt writes letters beyond ASCII as numbers.
    htmlEntities: true,
    isArray: (name) => LISTS.has(name.replace(/^.*:/, '')),
  });
  const { domain } = schema.parse(parser.parse(text));
  return { labels: labelsOf(domain.metadata), notMigratable: passedThrough(domain.devices) };
}

function labelsOf(metadata: unknown): Record<string, string> {
  if (typeof metadata !== 'object' || metadata === null) return {};
  for (const [tag, element] of Object.entries(metadata)) {
    const prefix = tag.includes(':') ? `:${tag.slice(0, tag.indexOf(':'))}` : '';
    if (typeof element !== 'object' || element === null) continue;
    const space = Object.entries(element).find(([name]) => name === `@xmlns${prefix}`)?.[1];
    if (space !== LABELS_URI) continue;
    const listed = Object.entries(element).flatMap(([name, value]) => (/(?:^|:)label$/.test(name) ? [value] : []));
    const labels = z.array(labelSchema).safeParse(listed.flat());
    if (!labels.success) return {};
    return Object.fromEntries(labels.data.map((label) => [label['@name'], String(label['#text'])]));
  }
  return {};
}

/** libvirt's rule (qemuMigrationSrcIsAllowedHostdev): of devices of the host only USB ones that it can find again may go. */
function passedThrough(devices: unknown): string | null {
  const parsed = devicesSchema.safeParse(devices);
  if (!parsed.success) return null;
  const stuck = parsed.data.hostdev.find((device) => device['@type'] !== 'usb');
  if (stuck === undefined) return null;
  return `it has a device of its host passed through (hostdev ${stuck['@mode']} ${stuck['@type']})`;
}
