import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeFileWhole } from '../files/write.js';
import { PACKAGE_ROOT } from '../package.js';
import { PLATFORM } from './cache.js';

/** What a build leaves behind, so that the next one, and the doctor, know what was built from what. */
export interface BuildStamp {
  /** Operating system and architecture. */
  platform?: string;
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

/** Empty before the first build, and where a folder is shared with a machine of another kind that has built last. */
export function readStamp(): BuildStamp {
  try {
    const stamp = JSON.parse(readFileSync(STAMP, 'utf8')) as BuildStamp;
    return stamp.platform === undefined || stamp.platform === PLATFORM ? stamp : {};
  } catch {
    return {};
  }
}

export function updateStamp(change: BuildStamp): void {
  writeFileWhole(STAMP, JSON.stringify({ ...readStamp(), ...change, platform: PLATFORM }, null, 2));
}
