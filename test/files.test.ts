import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { InputError } from '../src/errors.js';
import { writeFileWhole, writeFolderWhole } from '../src/files.js';

const base = mkdtempSync(join(tmpdir(), 'files-'));
afterAll(() => rmSync(base, { recursive: true, force: true }));

describe('output files', () => {
  it('names the path that cannot be written, and leaves nothing behind', () => {
    const folder = join(base, 'folder');
    mkdirSync(folder);
    writeFileSync(join(base, 'file'), '');
    for (const path of [folder, join(base, 'file', 'below')]) {
      expect(() => writeFileWhole(path, 'A')).toThrow(InputError);
      expect(() => writeFileWhole(path, 'A')).toThrow(`${path}: cannot be written`);
    }
    expect(readdirSync(base).sort()).toEqual(['file', 'folder']);
  });
});

describe('output folders', () => {
  it('fills an empty folder, and refuses one that holds something or a file', async () => {
    const folder = join(base, 'out');
    const write = (partial: string) => writeFileSync(join(partial, 'a'), 'A');
    mkdirSync(folder);
    await writeFolderWhole(folder, write);
    expect(readFileSync(join(folder, 'a'), 'utf8')).toBe('A');
    await expect(writeFolderWhole(folder, write)).rejects.toThrow('already exists');
    await expect(writeFolderWhole(join(folder, 'a'), write)).rejects.toThrow('already exists');
  });

  it('names a folder that cannot be made', async () => {
    writeFileSync(join(base, 'plain'), '');
    await expect(writeFolderWhole(join(base, 'plain', 'out'), () => {})).rejects.toThrow(InputError);
  });

  it('leaves nothing behind when writing fails', async () => {
    const folder = join(base, 'failed');
    await expect(
      writeFolderWhole(folder, () => {
        throw new Error('half-way');
      }),
    ).rejects.toThrow('half-way');
    expect(existsSync(folder)).toBe(false);
    expect(readdirSync(base).filter((name) => name.includes('failed'))).toEqual([]);
  });
});
