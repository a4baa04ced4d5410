import { parse } from 'csv-parse/sync';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { csv, csvOfRecords } from '../../src/files/csv.js';

/** A cell alone in its line cannot be told from an empty line when it is empty. */
const cell = fc
  .string({ unit: fc.constantFrom('a', '1', ' ', ',', '"', '\n', '\r', 'é', '/') })
  .filter((text) => !text.startsWith('\r'));
const line = fc.array(cell, { minLength: 2, maxLength: 2 });

it('is read back as it was, whatever names hold', () =>
  fc.assert(
    fc.property(line, fc.array(line), (header, rows) => {
      expect(parse(csv(header, rows), { record_delimiter: '\n' })).toEqual([header, ...rows]);
    }),
  ));

it('keeps the order of columns whose names are numbers, and all digits of a number', () =>
  expect(csv(['step', '2', '1'], [[0, 0.1 + 0.2, 1e-7]])).toBe('step,2,1\n0,0.30000000000000004,1e-7\n'));

it.each(['=HYPERLINK("x")', '+1', '-1', '@a', '\t=1'])(
  'keeps a spreadsheet from running the name %j; numbers stay',
  (name) =>
    expect(parse(csv([name, 'n'], [[name, -1.5]]))).toEqual([
      [`'${name}`, 'n'],
      [`'${name}`, '-1.5'],
    ]),
);

it('leaves empty what a record lacks', () =>
  expect(csvOfRecords([{ a: 1, b: null }, { b: true }])).toBe('a,b\n1,\n,true\n'));
