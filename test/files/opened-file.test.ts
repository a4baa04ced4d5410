import { execFileSync } from 'node:child_process';
import { appendFileSync, linkSync, renameSync, symlinkSync, unlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.js';
import { checkUnchanged, OpenedFile } from '../../src/files/opened-file.js';
import { temporaryFolder } from '../temporary-folder.js';

let folder: string;
let file: string;
beforeEach(() => {
  folder = temporaryFolder();
  file = join(folder, 'weights.bin');
  writeFileSync(file, 'weights');
});

const faultOf = (act: () => unknown): InputError => {
  try {
    act();
  } catch (error) {
    return error as InputError;
  }
  throw new Error('no fault');
};

async function textOf(opened: OpenedFile): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of opened.bytes()) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

describe('an opened file', () => {
  it('is the file that was there, whatever is moved to its path', async () => {
    using opened = new OpenedFile(file);
    expect(await textOf(opened)).toBe('weights');
    writeFileSync(join(folder, 'other'), 'others');
    renameSync(join(folder, 'other'), file);
    expect(await textOf(opened)).toBe('weights');
  });

  it.each<[string, () => void]>([
    ['written to', () => appendFileSync(file, '!')],
    [
      'written to, with its size and its modification time as they were',
      () => {
        const past = new Date(Date.now() - 3_600_000);
        writeFileSync(file, 'weighty');
        utimesSync(file, past, past);
      },
    ],
    [
      'replaced by a file of the same bytes',
      () => {
        writeFileSync(join(folder, 'same'), 'weights');
        renameSync(join(folder, 'same'), file);
      },
    ],
    ['removed', () => unlinkSync(file)],
    [
      'replaced by a folder that a link leads to',
      () => {
        unlinkSync(file);
        symlinkSync(folder, file);
      },
    ],
  ])('%s is an error that names it', async (_, change) => {
    using opened = new OpenedFile(file);
    checkUnchanged([opened.state]);
    // Beyond the grain of the file system's clock.
    await new Promise((done) => setTimeout(done, 20));
    change();
    const fault = faultOf(() => checkUnchanged([opened.state]));
    expect(fault).toBeInstanceOf(InputError);
    expect(fault).toMatchObject({ code: 'INPUT_CHANGED', location: { file } });
  });

  it('is known by what a link leads to', () => {
    const link = join(folder, 'link');
    symlinkSync(file, link);
    using opened = new OpenedFile(link);
    checkUnchanged([opened.state]);
    linkSync(file, join(folder, 'second name'));
    expect(faultOf(() => checkUnchanged([opened.state])).message).toMatch(/link: was changed or replaced/);
  });

  it('is a regular one: a pipe, a socket, a device and a folder are refused at once', async () => {
    const pipe = join(folder, 'pipe');
    execFileSync('mkfifo', [pipe]);
    const socket = join(folder, 'socket');
    const server = createServer();
    await new Promise<void>((done) => server.listen(socket, done));
    for (const path of [pipe, socket, '/dev/zero'])
      expect(faultOf(() => new OpenedFile(path)).message).toMatch(
        new RegExp(`${path}: is a (pipe|socket|device), not a file`),
      );
    server.close();
    expect(faultOf(() => new OpenedFile(folder)).message).toMatch(/is a folder, not a file/);
    expect(faultOf(() => new OpenedFile(join(folder, 'none'))).message).toMatch(/none: no such file/);
  });
});
