import { resolve } from 'node:path';
import { expect, it, vi } from 'vitest';
import { programCommand } from '../../src/terminal/shell.js';
import { temporaryFolder } from '../temporary-folder.js';

const program = resolve('bin/group-robust.js');

it('a command names the program itself, below the folder by a relative path, and quotes its words', () => {
  expect(programCommand(['train', "it's $HOME.yaml"])).toBe("node bin/group-robust.js train 'it'\\''s $HOME.yaml'");
  const elsewhere = vi.spyOn(process, 'cwd').mockReturnValue(temporaryFolder());
  expect(programCommand(['doctor'])).toBe(`node ${program} doctor`);
  elsewhere.mockRestore();
});
