import type { Random } from '../../src/numbers/random.js';

/** Pieces that parsers trip over, in any of the formats. */
const awkward = [
  '',
  '0',
  '-1',
  '1e999',
  '-0',
  'NaN',
  'nan',
  'Infinity',
  '9223372036854775807',
  '9223372036854775808',
  '18446744073709551615',
  '4294967296',
  '1099511627776',
  '0.1',
  '007',
  '"',
  "'",
  '""',
  '\\',
  '\\u0000',
  '\\ud800',
  '\\x',
  '[',
  ']',
  '[[[[[[[[[[[[[[[[',
  '{',
  '}',
  '(',
  ')',
  ',',
  ':',
  ',,',
  '\n',
  '\r\n',
  '\r',
  '\u2028',
  '\ufeff',
  '__proto__',
  'constructor',
  'null',
  'true',
  'None',
  'defaultdict',
  '[0,0]',
  '[-1,2]',
  '"F64"',
  '"I8"',
  '"shape"',
  '"data_offsets"',
  '"weight"',
  '"group"',
].map((text) => Buffer.from(text));

/** One to four random changes to `seed`: bits, bytes, numbers, pieces cut, copied, moved, or put in from `awkward`. */
export function mutate(seed: Buffer, random: Random): Buffer {
  let bytes: Buffer = Buffer.from(seed);
  for (let left = 1 + random.integer(4); left > 0; left--) bytes = changeOnce(bytes, random);
  return bytes;
}

function changeOnce(bytes: Buffer, random: Random): Buffer {
  const at = random.integer(bytes.length + 1);
  const until = Math.min(bytes.length, at + 1 + random.integer(random.integer(10) === 0 ? bytes.length + 1 : 12));
  const splice = (piece: Uint8Array, to = until) => Buffer.concat([bytes.subarray(0, at), piece, bytes.subarray(to)]);
  const piece = () => awkward[random.integer(awkward.length)];
  switch (random.integer(9)) {
    case 0: {
      const copy = Buffer.from(bytes);
      if (copy.length > 0) copy[random.integer(copy.length)] ^= 1 << random.integer(8);
      return copy;
    }
    case 1: {
      const copy = Buffer.from(bytes);
      if (copy.length > 0) copy[random.integer(copy.length)] = random.integer(256);
      return copy;
    }
    case 2:
      return bytes.subarray(0, at);
    case 3:
      return splice(Buffer.alloc(0));
    case 4:
      return splice(piece());
    case 5:
      return splice(piece(), at);
    case 6:
      return splice(bytes.subarray(at, until), at);
    case 7: {
      // Near the front, where headers and lengths are.
      const copy = Buffer.from(bytes);
      if (copy.length > 0) copy[random.integer(Math.min(16, copy.length))] = random.integer(256);
      return copy;
    }
    default: {
      // A number becomes another one.
      const text = bytes.toString('latin1');
      const numbers = [...text.matchAll(/\d+/g)];
      if (numbers.length === 0) return bytes;
      const { index, 0: digits } = numbers[random.integer(numbers.length)];
      const value = random.integer(2) === 0 ? String(random.integer(300)) : piece().toString('latin1');
      return Buffer.from(text.slice(0, index) + value + text.slice(index + digits.length), 'latin1');
    }
  }
}

/** One value of a JSON document becomes another, or goes; so it stays JSON, and checks behind the parser are reached. */
export function mutateJson(seed: Buffer, random: Random): Buffer {
  const root = { value: JSON.parse(seed.toString('utf8')) as unknown };
  const places: [parent: Record<string, unknown>, key: string][] = [];
  const walk = (parent: object) => {
    for (const [key, value] of Object.entries(parent)) {
      places.push([parent as Record<string, unknown>, key]);
      if (typeof value === 'object' && value !== null) walk(value);
    }
  };
  walk(root);
  const [parent, key] = places[random.integer(places.length)];
  const odd = [null, true, -1, 0, 1.5, 1e308, 2 ** 31, 2 ** 53, '', 'x', '\ud800', '(', [], [null], {}, { a: 1 }];
  const choice = random.integer(odd.length + 1);
  if (choice === odd.length) delete parent[key];
  else parent[key] = odd[choice];
  return Buffer.from(JSON.stringify(root.value) ?? '');
}
