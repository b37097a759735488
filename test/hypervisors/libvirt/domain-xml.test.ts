/** What a domain's definition says beside its statistics. */
import { describe, expect, test } from 'vitest';
import { definitionOf } from '../../../src/hypervisors/libvirt/domain-xml.ts';

function domain(inside: string): string {
  return `<domain type='kvm' id='3'><name>x</name>${inside}</domain>\n`;
}

describe('labels', () => {
  test('from our own element only', () => {
    const labels = `<hostevac:labels xmlns:hostevac="urn:hostevac:labels"><label name="a">1</label><label name="b.c">x &amp; y</label></hostevac:labels>`;
    const others = `<app:labels xmlns:app="urn:other"><label name="no">no</label></app:labels>`;
    expect(definitionOf(domain(`<metadata>${others}${labels}</metadata>`)).labels).toEqual({ a: '1', 'b.c': 'x & y' });
    expect(definitionOf(domain(`<metadata>${others}</metadata>`)).labels).toEqual({});
  });

  test('whatever its prefix, and one alone', () => {
    const labels = `<h:labels xmlns:h="urn:hostevac:labels"><h:label name="only">x</h:label></h:labels>`;
    expect(definitionOf(domain(`<metadata>${labels}</metadata>`)).labels).toEqual({ only: 'x' });
    const plain = `<labels xmlns="urn:hostevac:labels"><label name="only"/></labels>`;
    expect(definitionOf(domain(`<metadata>${plain}</metadata>`)).labels).toEqual({ only: '' });
  });
});

describe('devices of the host', () => {
  test('passed through: it cannot go', () => {
    const device = `<hostdev mode='subsystem' type='pci' managed='yes'><source/></hostdev>`;
    const why = definitionOf(domain(`<devices>${device}</devices>`)).notMigratable;
    expect(why).toBe('it has a device of its host passed through (hostdev subsystem pci)');
  });

  test('none: nothing is in the way', () => {
    expect(definitionOf(domain(`<devices><disk type='file'/></devices>`)).notMigratable).toBeNull();
    expect(definitionOf(domain('')).notMigratable).toBeNull();
  });
});

test('what is no domain is not taken for one', () => {
  expect(() => definitionOf('<pool/>')).toThrow();
});
