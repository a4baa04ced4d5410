import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, it } from 'vitest';
import { z } from 'zod';
import { checked, hashFile, readJson, readText } from '../../src/files/read.js';
import { inputError } from '../data/helpers.js';
import { temporaryFolder } from '../temporary-folder.js';

const folder = temporaryFolder();
const file = join(folder, 'file');

const utf16 = Buffer.from('\ufeff{"a": "é"}', 'utf16le');

it.each<[string, Uint8Array, string]>([
  ['UTF-16', utf16, 'is UTF-16 text\n  fix: save the file as UTF-8'],
  ['UTF-16 of the other order', Buffer.from(utf16).swap16(), 'is UTF-16 text'],
  ['UTF-16 without a mark', Buffer.from('{"a": 1}', 'utf16le'), 'a NUL byte'],
  ['Latin-1', Buffer.from('{"a": "é"}', 'latin1'), 'not UTF-8'],
  ['half a character at the end', Buffer.from('{"a": "é').subarray(0, -1), 'not UTF-8'],
  ['gzip', gzipSync('{}'), 'is compressed with gzip\n  fix: unpack it'],
  ['a spreadsheet', Buffer.from('PK\x03\x04\x14\0'), 'is a ZIP archive'],
  ['Parquet', Buffer.from('PAR1\x15\0'), 'is Parquet\n  fix: give its name the ending .parquet'],
  ['half a document', Buffer.from('{"a": '), 'is not JSON: '],
  ['nothing', Buffer.alloc(0), 'is not JSON: '],
  ['deeper than any stack', Buffer.from('['.repeat(1e6) + ']'.repeat(1e6)), 'is nested more than 100 levels deep'],
])('names a JSON file that is %s', async (_, bytes, problem) => {
  writeFileSync(file, bytes);
  const { message } = await inputError(() => readJson(file));
  expect(message).toContain(file);
  expect(message).toContain(problem);
});

it('takes a byte-order mark off', () => {
  writeFileSync(file, '\ufeff{"a": "é"}');
  expect(readJson(file)).toEqual({ a: 'é' });
});

it('names what cannot be opened', async () => {
  expect((await inputError(() => readText(join(folder, 'none')))).message).toContain('none: no such file');
  expect((await inputError(() => readText(folder))).message).toContain('is a folder, not a file');
  expect((await inputError(() => hashFile(join(folder, 'none')))).message).toContain('none: no such file');
});

it('names the field a schema refuses', async () => {
  const schema = z.object({ groups: z.array(z.object({ offset: z.number() })) });
  expect(checked(schema, { groups: [{ offset: 1 }] }, {})).toEqual({ groups: [{ offset: 1 }] });
  const at = { file: 'f', line: 3 };
  const fieldOf = async (value: unknown) => (await inputError(() => checked(schema, value, at))).location;
  expect(await fieldOf({ groups: [{ offset: 1 }, {}] })).toEqual({ ...at, field: 'groups[1].offset' });
  expect(await fieldOf(null)).toEqual({ ...at, field: undefined });
});

it('hashes files of any length, one after another', async () => {
  // The SHA-256 test vector of a million letters a.
  writeFileSync(file, 'a'.repeat(400_000));
  const hash = await hashFile(file);
  await hashFile(file, hash);
  writeFileSync(file, 'a'.repeat(200_000));
  await hashFile(file, hash);
  expect(hash.digest('hex')).toBe('cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0');
});
