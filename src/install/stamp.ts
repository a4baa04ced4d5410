import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeFileWhole } from '../files/write.js';
import { PACKAGE_ROOT } from '../package.js';

/** What a build leaves behind, so that the next one, and the doctor, know what was built from what. */
export interface BuildStamp {
  /** Digest of the addon's inputs. */
  addon?: string;
  /** Digest of what CMake was last configured with. */
  configured?: string;
  /** Digest of the TypeScript sources. */
  dist?: string;
  /** The LibTorch folder the addon was built against. */
  libtorch?: string;
  /** Whether the addon was built for CUDA. */
  cuda?: boolean;
}

const STAMP = join(PACKAGE_ROOT, 'build/stamp.json');

/** Empty before the first build. */
export function readStamp(): BuildStamp {
  try {
    return JSON.parse(readFileSync(STAMP, 'utf8')) as BuildStamp;
  } catch {
    return {};
  }
}

export function updateStamp(change: BuildStamp): void {
  writeFileWhole(STAMP, JSON.stringify({ ...readStamp(), ...change }, null, 2));
}
