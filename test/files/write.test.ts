import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.js';
import { writeFileWhole, writeFolderWhole } from '../../src/files/write.js';
import { temporaryFolder } from '../temporary-folder.js';

const base = temporaryFolder();

describe('output files', () => {
  it('never changes a file in place: who has the old one open reads it to its end', () => {
    const file = join(base, 'whole.json');
    writeFileWhole(file, 'old');
    const old = openSync(file, 'r');
    writeFileWhole(file, 'new');
    expect(readFileSync(old, 'utf8')).toBe('old');
    expect(readFileSync(file, 'utf8')).toBe('new');
    closeSync(old);
    rmSync(file);
  });

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
  it('are never half of what was written, though another process has removed the other half meanwhile', async () => {
    const folder = join(base, 'halved');
    await writeFolderWhole(folder, (partial) => writeFileSync(join(partial, 'a'), 'A'));
    const halved = writeFolderWhole(
      folder,
      (partial) => {
        writeFileSync(join(partial, 'a'), 'B');
        rmSync(partial, { recursive: true });
        writeFileWhole(join(partial, 'b'), 'B');
      },
      { replace: true },
    );
    await expect(halved).rejects.toThrow('was removed while it was being written');
    expect(readdirSync(folder)).toEqual(['a']);
    rmSync(folder, { recursive: true });
  });

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

describe('what killed processes leave', () => {
  /** Ends a process in the midst of writing a folder and a file, and gives the partial names. */
  function killWhileWriting(folder: string): string[] {
    const script = `
      import { appendFileSync, writeFileSync } from 'node:fs';
      import { writeFolderWhole } from ${JSON.stringify(new URL('../../src/files/write.ts', import.meta.url).href)};
      await writeFolderWhole(${JSON.stringify(join(folder, 'out'))}, (partial) => {
        writeFileSync(partial + '/half', 'x');
        process.kill(process.pid, 'SIGKILL');
      });`;
    const { signal } = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script]);
    expect(signal).toBe('SIGKILL');
    return readdirSync(folder).filter((name) => name.endsWith('.partial'));
  }

  it('goes when the same output is written again; what living processes or others write stays', async () => {
    const folder = join(base, 'killed');
    mkdirSync(folder);
    const [left] = killWhileWriting(folder);
    expect(left).toMatch(/^\.out\.\d+\./);
    const [, pid] = /^\.out\.(\d+)\./.exec(left) as RegExpExecArray;
    const living = left.replace(pid, '1');
    const elsewhere = left.replace(/[0-9a-f]{16}/, '0123456789abcdef');
    const another = left.replace('.out.', '.out.b.');
    for (const name of [living, elsewhere, another]) mkdirSync(join(folder, name));
    writeFileWhole(join(folder, 'other'), 'x');
    expect(readdirSync(folder)).toContain(left);
    await writeFolderWhole(join(folder, 'out'), (partial) => writeFileSync(join(partial, 'a'), 'A'));
    expect(readdirSync(folder).sort()).toEqual([living, elsewhere, another, 'other', 'out'].sort());
  });
});
