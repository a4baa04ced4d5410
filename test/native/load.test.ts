import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { detectLibc } from '../../src/native/libc.js';
import { addonCandidates, loadAddon, loaderAdvice, NativeUnavailableError } from '../../src/native/load.js';
import { temporaryFolder } from '../temporary-folder.js';

let root: string;
beforeEach(() => {
  root = temporaryFolder();
});

function failure(candidates: string[]): NativeUnavailableError {
  try {
    loadAddon(candidates);
  } catch (error) {
    return error as NativeUnavailableError;
  }
  throw new Error('loaded');
}

it('lists every place it tried, names the platform and says what to run', () => {
  const error = failure(addonCandidates(root));
  expect(error).toBeInstanceOf(NativeUnavailableError);
  expect(error.code).toBe('NATIVE_UNAVAILABLE');
  for (const path of addonCandidates(root)) expect(error.message).toContain(path);
  expect(error.message).toContain(`${process.platform}-${process.arch}`);
  expect(error.message).toMatch(/npm run build/);
});

it("passes the loader's own message through", () => {
  const path = join(root, 'broken.node');
  writeFileSync(path, 'not a library, however you look at it; padded to the size of an ELF header and beyond it');
  const error = failure([path]);
  expect(error.message).toContain(path);
  expect(error.message).toMatch(/invalid ELF header|file too short|not valid/);
  expect(error.message).toMatch(/remove .*build and run/);
  expect(error.cause).toBeInstanceOf(Error);
});

describe('advice on what the loader says', () => {
  it.each([
    [
      '/lib/libgomp-d22c30c5.so.1: cannot allocate memory in static TLS block',
      /LD_PRELOAD=\/lib\/libgomp-d22c30c5\.so\.1/,
    ],
    ["/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by x)", /newer system \(GLIBC_2\.38\)/],
    ["libstdc++.so.6: version `GLIBCXX_3.4.32' not found", /newer system \(GLIBCXX_3\.4\.32\)/],
    [
      'libtorch_cpu.so: cannot open shared object file: No such file or directory',
      /LibTorch .* has been moved or removed/,
    ],
    [
      '/x/build/Release/group_robust.node: cannot open shared object file: No such file or directory',
      /for another kind of machine: run npm run build/,
    ],
    ['libnccl.so.2: cannot open shared object file: No such file or directory', /shared library is missing/],
    ['group_robust.node: undefined symbol: _ZN3c105ErrorC2Ev', /does not fit the LibTorch/],
    ['something new', /doctor/],
  ])('%s', (message, advice) => expect(loaderAdvice(message)).toMatch(advice));
});

it('knows glibc from musl by the report of Node', () => {
  expect(detectLibc('linux', { header: { glibcVersionRuntime: '2.36' } })).toBe('glibc 2.36');
  expect(detectLibc('linux', { header: {} })).toBe('musl');
  expect(detectLibc('darwin', { header: {} })).toBe('');
});
