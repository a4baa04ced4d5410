import { spawnSync } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, it } from 'vitest';
import { PACKAGE_ROOT } from '../../src/package.js';
import { temporaryFolder } from '../temporary-folder.js';

let root: string;
beforeEach(() => {
  root = temporaryFolder();
});

const configure = (...settings: string[]) =>
  spawnSync('cmake', ['-S', PACKAGE_ROOT, '-B', join(root, 'build'), ...settings.map((text) => `-D${text}`)], {
    encoding: 'utf8',
  });

it('fails where CUDA is asked for and its compiler does not work, in place of building without', () => {
  const nvcc = join(root, 'nvcc');
  writeFileSync(
    nvcc,
    '#!/bin/sh\ncase "$*" in *--version*) echo "Cuda compilation tools, release 13.0, V13.0.88";; *) echo "nvcc fatal : no licence" >&2; exit 1;; esac\n',
  );
  chmodSync(nvcc, 0o755);
  const { status, stderr } = configure(`LIBTORCH=${root}`, 'ADDON_CUDA=ON', `CMAKE_CUDA_COMPILER=${nvcc}`);
  expect(status).not.toBe(0);
  expect(stderr).toMatch(/CMake Error[\s\S]*nvcc/);
});

it('names npm run build where CMake is run by itself', () => {
  const { status, stderr } = configure();
  expect(status).not.toBe(0);
  expect(stderr).toMatch(/LIBTORCH is not set; npm run build/);
});
