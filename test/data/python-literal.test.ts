import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  PythonLiteralError,
  type PythonValue,
  parsePythonLiteral,
  pythonRepr,
} from '../../src/data/tables/python-literal.js';
import { fixture } from './helpers.js';

const { cases } = JSON.parse(readFileSync(fixture('python-repr.json'), 'utf8')) as {
  cases: { repr: string; value: unknown }[];
};

const pythonValue: fc.Arbitrary<PythonValue> = fc.letrec<{ value: PythonValue }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom(null, true, false),
    fc.double(),
    fc.string({ unit: 'binary' }),
    fc.string({ unit: fc.constantFrom("'", '"', '\\', '\n', 'n', ',', '}', ']', ':', '\0') }),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.array(fc.tuple(fc.string(), tie('value')), { maxLength: 3 }).map((entries) => new Map(entries)),
  ),
})).value;

function offsetOf(text: string): number {
  try {
    parsePythonLiteral(text);
  } catch (error) {
    if (error instanceof PythonLiteralError) return error.offset;
    throw error;
  }
  throw new Error(`${text} was accepted`);
}

describe('parsePythonLiteral', () => {
  it("reads what Python's own repr printed", () => {
    const plain = (value: PythonValue): unknown =>
      Array.isArray(value)
        ? value.map(plain)
        : value instanceof Map
          ? { dict: [...value].map(([key, item]) => [key, plain(item)]) }
          : value;
    expect(cases.length).toBe(200);
    for (const { repr, value } of cases) expect(plain(parsePythonLiteral(repr)), repr).toEqual(value);
  });

  it('writes strings as Python does', () => {
    const strings = cases.filter(({ value }) => typeof value === 'string');
    expect(strings.length).toBeGreaterThan(50);
    for (const { repr, value } of strings) expect(pythonRepr(value as string)).toBe(repr);
  });

  it('reads back everything pythonRepr prints', () => {
    fc.assert(
      fc.property(pythonValue, (value) => {
        expect(parsePythonLiteral(pythonRepr(value))).toEqual(value);
      }),
    );
  });

  it('reads the forms of the dataset', () => {
    const text = `defaultdict(<class 'list'>, {'Korea, "South"': [0.1, nan, -inf, 1e-05, .5, 1.], "Côte d'Ivoire": (1,)})`;
    expect(parsePythonLiteral(text)).toEqual(
      new Map([
        ['Korea, "South"', [0.1, Number.NaN, Number.NEGATIVE_INFINITY, 1e-5, 0.5, 1]],
        ["Côte d'Ivoire", [1]],
      ]),
    );
    expect(parsePythonLiteral(`["ab" , '''c'd\n''', '\\x41\\u00e9\\U0001F600\\101\\q', (2), ()]`)).toEqual([
      'ab',
      "c'd\n",
      'Aé😀A\\q',
      2,
      [],
    ]);
  });

  it.each([
    ['', 0],
    ['[1 2]', 3],
    // One string in Python, but how NumPy prints two.
    [`['a' "b"]`, 5],
    ['[1,,2]', 3],
    ['[,]', 1],
    ["{'a' 1}", 5],
    ["{'a': 1", 7],
    ["['a', 'b]", 6],
    ["'\\x4'", 1],
    ["'\\U00110000'", 1],
    ['[1] x', 4],
    ['[1.2.3]', 1],
    ['[012]', 1],
    ['[0x10]', 1],
    ['[--1]', 2],
    ['__import__("os")', 0],
    ['[constructor]', 1],
    ['defaultdict(list, {})', 12],
    ["defaultdict(<class 'list'>, [])", 28],
    ['['.repeat(100_000), 65],
  ])('refuses %.30s at its fault', (text, offset) => {
    expect(offsetOf(text)).toBe(offset);
  });

  it('gives a value or a PythonLiteralError for any mutilated literal', () => {
    const mutilated = fc
      .tuple(
        pythonValue,
        fc.nat(),
        fc.nat(5),
        fc.string({ maxLength: 3, unit: fc.constantFrom(...'\'"\\[](){},:0eN<x ') }),
      )
      .map(([value, place, removed, inserted]) => {
        const text = `defaultdict(<class 'list'>, {'a': ${pythonRepr(value)}})`;
        const at = place % text.length;
        return text.slice(0, at) + inserted + text.slice(at + removed);
      });
    fc.assert(
      fc.property(mutilated, (text) => {
        try {
          parsePythonLiteral(text);
        } catch (error) {
          expect(error).toBeInstanceOf(PythonLiteralError);
          expect((error as PythonLiteralError).offset).toBeLessThanOrEqual(text.length);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
