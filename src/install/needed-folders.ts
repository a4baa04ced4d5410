import { present } from '../errors.js';

/** A package of package-lock.json. */
export interface LockedPackage {
  dev?: boolean;
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
  peerDependencies?: Record<string, string>;
}

/**
 * Folders below node_modules of what is no development dependency, and of `tools` with all that they need.
 * @param packages of package-lock.json, by folder
 */
export function neededFolders(packages: Readonly<Record<string, LockedPackage>>, tools: readonly string[]): string[] {
  const needed = new Set(Object.keys(packages).filter((folder) => folder !== '' && packages[folder]?.dev !== true));
  /** As Node looks for it: beside the package that asks, then in each folder above. */
  const folderOf = (name: string, from: string): string | undefined => {
    for (let parent = from; ; parent = parent.slice(0, Math.max(0, parent.lastIndexOf('node_modules') - 1))) {
      const folder = `${parent === '' ? '' : `${parent}/`}node_modules/${name}`;
      if (folder in packages) return folder;
      if (parent === '') return undefined;
    }
  };
  const left = tools.map((name) => present(folderOf(name, '')));
  for (let folder = left.pop(); folder !== undefined; folder = left.pop()) {
    if (needed.has(folder)) continue;
    needed.add(folder);
    const { dependencies, optionalDependencies, peerDependencies } = present(packages[folder]);
    for (const name of Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies })) {
      const found = folderOf(name, folder);
      if (found !== undefined) left.push(found);
    }
  }
  return [...needed].sort();
}
