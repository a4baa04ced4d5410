/** Up to five of `names` that look like `wanted`, best first: one holds the other, or few letters differ. */
export function nearMatches(wanted: string, names: readonly string[]): string[] {
  const target = wanted.trim().toLowerCase();
  if (target === '') return [];
  return names
    .map((name) => {
      const candidate = name.toLowerCase();
      const holds = candidate.includes(target) || target.includes(candidate);
      return { name, distance: holds ? 0 : editDistance(target, candidate) };
    })
    .filter(({ name, distance }) => distance <= Math.max(2, Math.floor(Math.max(name.length, target.length) / 3)))
    .sort((a, b) => a.distance - b.distance || a.name.localeCompare(b.name, 'en'))
    .slice(0, 5)
    .map(({ name }) => name);
}

/** Levenshtein distance: least number of letters inserted, deleted or replaced. */
export function editDistance(a: string, b: string): number {
  // The distances from what has been read of `a` to b[..j], for j = 1, 2, …; that to nothing is how much has been read.
  let row = Array.from({ length: b.length }, (_, j) => j + 1);
  for (let i = 0; i < a.length; i++) {
    let [before, last] = [i, i + 1];
    row = row.map((above, j) => {
      last = Math.min(above + 1, last + 1, before + (a[i] === b[j] ? 0 : 1));
      before = above;
      return last;
    });
  }
  return row.at(-1) ?? a.length;
}
